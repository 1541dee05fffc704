"""The MLflow client, the local store, and one error for whatever fails in MLflow.

MLflow takes seconds to import. This module is imported where MLflow may never be needed, so each function imports it.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from registry import settings
from registry.errors import TrackingUnavailable, without_credentials
from registry.serving.artifacts import bound_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

Result = TypeVar("Result")

STORE_SECONDS = 120  # how long to wait for another process that is creating the local store
# MLflow's error codes for what does not exist, and for what exists already.
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
EXISTS = ("RESOURCE_ALREADY_EXISTS",)


def client() -> "MlflowClient":
    """Return a client of the tracking server, or of the local store, which is created on first use."""
    _configure()
    if path := _local_store():
        _create_store(path)
    return _client(settings.tracking_uri())


def require_store() -> None:
    """Raise TrackingUnavailable if the tracking URI names a local store that does not exist, without importing MLflow.

    Only a training or an import may create the store. Anything else would create an empty one in the wrong folder.
    """
    path = _local_store()
    if path and not path.exists():
        raise TrackingUnavailable(f"there is no MLflow store at {path}: set MLFLOW_TRACKING_URI, or train first")


def _local_store() -> Path | None:
    uri = settings.tracking_uri()
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@cache
def _configure() -> None:
    """Configure MLflow, once in a process."""
    bound_mlflow()
    from mlflow.utils import environment  # slow, and after its settings

    # It would read the metadata of every installed package to check the requirements of a saved model, which are the
    # versions that are installed. No setting of MLflow turns this off.
    environment.warn_dependency_requirement_mismatches = lambda _: None  # type: ignore[attr-defined,assignment]
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs the creation of a store


def _create_store(path: Path) -> None:
    """Create the local store in one process, while others wait.

    MLflow breaks an empty store that several processes fill at once, and cannot complete a partial one. So the store
    gets its name when it is complete.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=STORE_SECONDS):
        if not path.exists():
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            _client(f"sqlite:///{new}").search_experiments(max_results=1)
            new.replace(path)


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient  # slow

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def translated() -> Iterator[None]:
    """Raise TrackingUnavailable, in one line, where MLflow fails."""
    from mlflow.exceptions import MlflowException  # slow

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first_line = str(error).strip().split("\n", 1)[0]
        message = f"MLflow at {settings.tracking_uri()} failed: {first_line}"
        raise TrackingUnavailable(without_credentials(message)) from error


def none_if(codes: Collection[str], call: Callable[[], Result]) -> Result | None:
    """Return the result of a call to MLflow, or None if it fails with one of these error codes."""
    from mlflow.exceptions import MlflowException  # slow

    try:
        return call()
    except MlflowException as error:
        if error.error_code in codes:
            return None
        raise

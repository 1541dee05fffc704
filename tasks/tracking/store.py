"""The MLflow client, and the local store that it creates on first use."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from registry import settings
from registry.errors import TrackingUnavailable, without_credentials
from registry.serving.artifacts import bound_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient


STORE_SECONDS = 120  # how long to wait for another process that is creating the local store


def client() -> "MlflowClient":
    """Return a client of the tracking server, or of the local store, which is created on first use."""
    _configure()
    if path := _local_store():
        _create_store(path)
    return _client(settings.tracking_uri())


def require_store() -> None:
    """Raise TrackingUnavailable if the tracking URI names a local store that does not exist, without importing MLflow.

    Only a training or an import may create the store: anything else would find an empty one in the wrong folder.
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
    from mlflow.utils import environment

    # It would read the metadata of every installed package to check the requirements of a saved model, which are the
    # versions that are installed. No setting of MLflow turns this off.
    environment.warn_dependency_requirement_mismatches = lambda _: None  # type: ignore[attr-defined,assignment]
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs the creation of a store


def _create_store(path: Path) -> None:
    """Create the local store in one process, while others wait.

    MLflow breaks an empty store that several processes fill at once, and cannot complete one that is half made. So the
    store gets its name when it is complete.
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
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def translated() -> Iterator[None]:
    """Raise TrackingUnavailable, in one line, where MLflow fails."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first_line = str(error).strip().split("\n", 1)[0]
        message = f"MLflow at {settings.tracking_uri()} did not do it: {first_line}"
        raise TrackingUnavailable(without_credentials(message)) from error

"""The MLflow client, and the local store that it creates on first use."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from registry import settings
from registry.errors import TrackingUnavailable, without_credentials
from registry.serving.artifacts import bound_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient


STORE_SECONDS = 120  # while another process makes the local store


def client() -> "MlflowClient":
    """A client of the tracking server, or of the local store, which is made on first use."""
    bound_mlflow()
    from mlflow import MlflowClient

    uri = settings.tracking_uri()
    if uri.startswith("sqlite:///"):
        _make_store(uri, Path(uri.removeprefix("sqlite:///")))
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_store(uri: str, path: Path) -> None:
    """Several processes that make an empty store at once break it, so one makes it while the others wait; and one that
    is half made cannot be made whole, so it gets its name at the end."""
    made = path.with_name(f"{path.name}.made")
    if made.exists() and path.exists():
        return
    from filelock import FileLock
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock"), timeout=STORE_SECONDS):
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it tells of every table
        if path.exists():
            MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
        else:
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            with suppress(OSError):  # a store without a table is made from nothing
                shutil.copyfile(_empty_store(), new)
            target = f"sqlite:///{new}"
            MlflowClient(tracking_uri=target, registry_uri=target).search_experiments(max_results=1)
            new.replace(path)
        made.touch()


def _empty_store() -> Path:
    """A store with MLflow's tables and no row, in the user's cache: some fifty migrations make one, in seconds.

    Raises:
        OSError: it is not there and cannot be kept there.
    """
    import sqlite3

    import mlflow
    from mlflow import MlflowClient
    from platformdirs import user_cache_path

    kept = user_cache_path("frontrunner") / f"mlflow-{mlflow.__version__}.db"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            new = Path(folder) / kept.name
            MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
            with closing(sqlite3.connect(new)) as connection, connection:
                connection.execute("DELETE FROM experiments")  # MLflow's own first one, which has this folder's path
            new.replace(kept)
    return kept


@contextmanager
def translated() -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first_line = str(error).strip().split("\n", 1)[0]
        said = f"MLflow at {settings.tracking_uri()} did not do it: {first_line}"
        raise TrackingUnavailable(without_credentials(said)) from error

"""The settings: environment variables, with defaults below `.frontrunner/` in the working folder. Read at each use."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from registry.errors import InvalidInput, without_credentials

HOME = ".frontrunner"
TEMPORARY_PREFECT = "FRONTRUNNER_TEMPORARY_PREFECT"  # set by a command for itself: its Prefect server ends with it


def registry_url() -> str:
    return os.environ.get("REGISTRY_URL") or f"sqlite:///{HOME}/registry.db"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI; a relative SQLite path is made absolute, so that it means the same in every process."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{HOME}/mlflow.db"
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def mlflow_ui() -> str | None:
    """Where people look at MLflow: MLFLOW_UI_URL, or the server that is tracked to; without a password in it."""
    uri = os.environ.get("MLFLOW_UI_URL") or tracking_uri()
    return without_credentials(uri).rstrip("/") if urlsplit(uri).scheme in ("http", "https") else None


def artifact_root() -> str | None:
    """Where MLflow keeps files when no server decides that: beside its SQLite file, or below `.frontrunner/`."""
    uri = tracking_uri()
    if urlsplit(uri).scheme in ("http", "https"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else Path(HOME)
    return (folder / "artifacts").absolute().as_uri()


def min_compared_rows() -> int:
    """With fewer rows that no model was trained on, two models are not compared.

    Raises:
        InvalidInput: it is no whole number above 0.
    """
    given = os.environ.get("MIN_COMPARED_ROWS") or "50"
    if not given.isdecimal() or int(given) < 1:
        raise InvalidInput(f"MIN_COMPARED_ROWS is a whole number above 0, not {given!r}")
    return int(given)


def candidates_on() -> str | None:
    """The scheduler of the Dask cluster that candidates are trained on; None: the threads of the flow's own process.

    Raises:
        InvalidInput: it is no address of a scheduler.
    """
    given = os.environ.get("CANDIDATES_ON")
    if not given:
        return None
    if not re.fullmatch(r"dask:(tcp|tls)://[^\s/@]+:\d+", given):
        raise InvalidInput(f"CANDIDATES_ON is dask: and a scheduler, as dask:tcp://10.0.0.5:8786, not {given!r}")
    return given.removeprefix("dask:")


def token() -> str | None:
    """What `frontrunner serve` asks of whoever asks it; None: nothing."""
    return os.environ.get("FRONTRUNNER_TOKEN") or None


def cache() -> Path:
    """Where artifacts of a remote store are kept by their digest."""
    return Path(HOME) / "cache"


def data_root() -> Path:
    return Path(os.environ.get("DATA_ROOT") or "data")


def source_url(source: str) -> str | None:
    """The database of a source: `warehouse` is SOURCE_WAREHOUSE_URL."""
    return os.environ.get(f"SOURCE_{source.upper()}_URL") if source.isidentifier() else None


def sources() -> list[str]:
    """The sources that are set, by the names that relations use."""
    names = [key for key in os.environ if key.startswith("SOURCE_") and key.endswith("_URL")]
    return sorted(key.removeprefix("SOURCE_").removesuffix("_URL").lower() for key in names)

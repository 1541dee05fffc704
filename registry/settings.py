"""The settings: environment variables, read at each use. Defaults lie below `.frontrunner/` in the working folder."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from registry.errors import InvalidInput, without_credentials

HOME = ".frontrunner"
TEMPORARY_PREFECT = "FRONTRUNNER_TEMPORARY_PREFECT"  # set by a command whose Prefect server ends with it


def registry_url() -> str:
    return os.environ.get("REGISTRY_URL") or f"sqlite:///{HOME}/registry.db"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI. A relative SQLite path is made absolute, so that every process uses the same file."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{HOME}/mlflow.db"
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{Path(path).absolute()}"


def mlflow_ui() -> str | None:
    """Return MLflow's address for people: MLFLOW_UI_URL, or the tracking server. It contains no password."""
    uri = os.environ.get("MLFLOW_UI_URL") or tracking_uri()
    return without_credentials(uri).rstrip("/") if urlsplit(uri).scheme in ("http", "https") else None


def artifact_root() -> str | None:
    """Return MLflow's artifact folder, next to its SQLite file or below `.frontrunner/`; None with a server."""
    uri = tracking_uri()
    if urlsplit(uri).scheme in ("http", "https"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else Path(HOME)
    return (folder / "artifacts").absolute().as_uri()


def min_compared_rows() -> int:
    """Return the number of rows unknown to both models below which they are not compared. Raises: InvalidInput."""
    given = os.environ.get("MIN_COMPARED_ROWS") or "50"
    if not given.isdecimal() or int(given) < 1:
        raise InvalidInput(f"MIN_COMPARED_ROWS is a whole number above 0, not {given!r}")
    return int(given)


def candidates_on() -> str | None:
    """Return the address of the Dask scheduler for the candidates; None without a cluster. Raises: InvalidInput."""
    given = os.environ.get("CANDIDATES_ON")
    if not given:
        return None
    if not re.fullmatch(r"dask:(tcp|tls)://[^\s/@]+:\d+", given):
        raise InvalidInput(f"CANDIDATES_ON is dask: and a scheduler, as dask:tcp://10.0.0.5:8786, not {given!r}")
    return given.removeprefix("dask:")


def token() -> str | None:
    """Return the token that requests to `frontrunner serve` must carry; None if they need none."""
    return os.environ.get("FRONTRUNNER_TOKEN") or None


def cache() -> Path:
    """Return the folder that caches artifacts of a remote store by their digest."""
    return Path(HOME) / "cache"


def data_root() -> Path:
    return Path(os.environ.get("DATA_ROOT") or "data")


def source_url(source: str) -> str | None:
    """Return the database URL of a source: that of `warehouse` is SOURCE_WAREHOUSE_URL."""
    return os.environ.get(f"SOURCE_{source.upper()}_URL") if source.isidentifier() else None


def sources() -> list[str]:
    """Return the names of the configured sources, as relations use them."""
    names = [key for key in os.environ if key.startswith("SOURCE_") and key.endswith("_URL")]
    return sorted(key.removeprefix("SOURCE_").removesuffix("_URL").lower() for key in names)

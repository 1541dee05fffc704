"""`.frontrunner/up.env`: where the servers of `frontrunner up` are, and their password; and whether it runs."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_NB, LOCK_SH, flock
from pathlib import Path

from filelock import FileLock, Timeout

from registry import settings
from registry.errors import AlreadyUp

LOOK_SECONDS = 0.2
ABOUT = """\
# Written by `frontrunner up`: where its servers are, and their password.
# Commands in this folder find them by it; for other programs: set -a; . .frontrunner/up.env
"""


def of_running() -> dict[str, str]:
    """What reaches Prefect and MLflow of the `up` that runs in this folder; empty if none does."""
    if not _path().exists():
        return {}
    try:
        with _lock().open("a") as file:
            flock(file, LOCK_SH | LOCK_NB)  # which `up` has for itself
            return {}
    except BlockingIOError:
        return {name: value for name, value in read().items() if name.startswith(("PREFECT_", "MLFLOW_"))}
    except PermissionError:  # another's folder
        return {}


@contextmanager
def alone() -> Iterator[None]:
    """One `up` a folder. Raises: AlreadyUp."""
    home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock())
    try:
        lock.acquire(timeout=LOOK_SECONDS)
    except Timeout:
        raise AlreadyUp(value for name, value in read().items() if name.endswith("_URL")) from None
    with lock:
        yield


def read() -> dict[str, str]:
    """What was written last, also by an `up` that has ended."""
    if not _path().exists():
        return {}
    try:
        words = shlex.split(_path().read_text(), comments=True)
    except ValueError:  # damaged: it is written anew
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def write(values: dict[str, str]) -> None:
    """For its owner's eyes alone; there in whole or not at all."""
    new = _path().with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(ABOUT + "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    new.replace(_path())


def home() -> Path:
    return Path(settings.HOME).absolute()


def _path() -> Path:
    return home() / "up.env"


def _lock() -> Path:
    return home() / "up.lock"

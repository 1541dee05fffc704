"""The file `.frontrunner/up.env` with the addresses and passwords of `frontrunner up`, and the lock of its folder."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_NB, LOCK_SH, flock
from pathlib import Path

from filelock import FileLock, Timeout

from registry import settings
from registry.errors import AlreadyUp

USER = "frontrunner"  # the user of Prefect and MLflow
LOCK_SECONDS = 0.2
HEADER = """\
# Written by `frontrunner up`: the addresses of its servers, and their passwords.
# Commands in this folder read it while `up` runs. For other programs: set -a; . .frontrunner/up.env
"""


def of_running() -> dict[str, str]:
    """Return the settings of Prefect and MLflow from the `up` that runs in this folder; nothing if none runs."""
    if not _path().exists():
        return {}
    try:
        with _lock().open("a") as file:
            flock(file, LOCK_SH | LOCK_NB)  # `up` holds an exclusive lock
            return {}
    except BlockingIOError:
        return {name: value for name, value in read().items() if name.startswith(("PREFECT_", "MLFLOW_"))}
    except PermissionError:  # the folder is another user's
        return {}


@contextmanager
def lock_folder() -> Iterator[None]:
    """Hold the lock of this folder, so that only one `up` runs in it. Raises: AlreadyUp."""
    home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock())
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise AlreadyUp(value for name, value in read().items() if name.endswith("_URL")) from None
    with lock:
        yield


def read() -> dict[str, str]:
    """Return what the current or the last `up` stored; nothing if the file is damaged."""
    if not _path().exists():
        return {}
    try:
        words = shlex.split(_path().read_text(), comments=True)
    except ValueError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def write(values: dict[str, str]) -> None:
    """Store the values atomically, in a file that only its owner can read."""
    new = _path().with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(HEADER + "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    new.replace(_path())


def home() -> Path:
    return Path(settings.HOME).absolute()


def _path() -> Path:
    return home() / "up.env"


def _lock() -> Path:
    return home() / "up.lock"

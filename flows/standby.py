"""A training is forked from the process of `frontrunner up` that stands by with everything imported: who asks.

A command hands over its arguments, environment and standard streams through a socket that its owner alone can use,
passes signals on and ends as its fork does. Where anything differs that counts when modules are imported, or nothing
stands by, the command runs by itself, as it does everywhere else.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry import settings

NAME = "standby.sock"
TALK_SECONDS = 5
HEAD = 8  # bytes that say how many come
LARGEST = 10_000_000  # bytes of arguments and environment; Linux allows some six
# Variables that libraries read when they are imported.
AT_IMPORT = (
    *("PREFECT_", "MLFLOW_", "PYTHON", "OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "KMP_", "LD_", "MALLOC_", "TZ"),
    *("MPL", "XDG_", "HOME", "LANG", "LC_", "JOBLIB_", "LOKY_", "SKLEARN_", "ARROW_", "CUDA_", "DO_NOT_TRACK"),
)
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def forked(arguments: list[str]) -> int | None:
    """The exit code of the command in a fork of the process that stands by; None: it has to run here."""
    path = Path(settings.HOME) / NAME
    if sys.platform != "linux" or not path.exists():
        return None
    with socket.socket(socket.AF_UNIX) as standby:
        try:
            standby.settimeout(TALK_SECONDS)
            standby.connect(str(path))  # relative: a socket's path is short
            if not is_ours(standby):
                return None
            umask = os.umask(0o077)
            os.umask(umask)
            asked: dict[str, Any] = {
                "arguments": arguments,
                "environment": dict(os.environ),
                "umask": umask,
                "ignored": [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN],
                "like": like(os.environ),
            }
            send(standby, asked, (0, 1, 2))
            said = received(standby)
        except (OSError, ValueError, EOFError):  # ended, or about to end
            return None
        if said["differs"]:
            print(f"runs by itself: `frontrunner up` differs in {', '.join(said['differs'])}", file=sys.stderr)
            return None
        pid = said["pid"]
        standby.settimeout(None)
        for number in set(PASSED_ON) - set(asked["ignored"]):
            signal.signal(number, lambda number, _: _pass_on(pid, number))
        with suppress(OSError, EOFError):
            return int(received(standby)["code"])
        return 128 + signal.SIGTERM  # `up` was ended, and everything with it


def is_ours(connection: socket.socket) -> bool:
    """Whether the other side is of the same user: what is passed holds passwords, and what is forked has our rights."""
    form = "iII"
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    return bool(struct.unpack(form, peer)[1] == os.geteuid())


def _pass_on(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def like(environment: Mapping[str, str]) -> dict[str, str]:
    """What has to be the same for a fork to be the command that was asked for, by what it is called."""
    code = Path(__file__).resolve().parents[1]
    read = [path for package in ("flows", "tasks", "registry") for path in (code / package).rglob("*.py")]
    home = Path(environment.get("PREFECT_HOME") or "~/.prefect").expanduser()
    read += [
        Path(sysconfig.get_path("purelib")),
        Path(sysconfig.get_path("platlib")),
        home / "profiles.toml",
        Path(".env"),
        Path("prefect.toml"),
        Path("pyproject.toml"),
    ]
    changed = max(path.stat().st_mtime_ns for path in read if path.exists())
    read_early = {name for name in environment if name.startswith(AT_IMPORT)} - {"PYTHONDONTWRITEBYTECODE"}
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: environment[name] for name in read_early} | {
        "cores, niceness or limits": f"{sorted(os.sched_getaffinity(0))}, {os.nice(0)}, {limits}",
        "Python": sys.executable,
        "folder of its code": str(code),
        "state of its code or of Prefect's settings": f"{len(read)} files, {changed}",
    }


def send(to: socket.socket, said: dict[str, Any], streams: Sequence[int] = ()) -> None:
    body = json.dumps(said).encode()
    socket.send_fds(to, [len(body).to_bytes(HEAD, "big")], streams)
    to.sendall(body)


def received(sender: socket.socket) -> dict[str, Any]:
    """Raises: EOFError, OSError, ValueError."""
    return body_of(sender, sender.recv(HEAD))


def body_of(sender: socket.socket, head: bytes) -> dict[str, Any]:
    """Raises: EOFError, OSError, ValueError."""
    body, size = b"", int.from_bytes(head, "big")
    if len(head) < HEAD:
        raise EOFError
    if size > LARGEST:
        raise ValueError(size)
    while len(body) < size:
        if not (part := sender.recv(size - len(body))):
            raise EOFError
        body += part
    said: dict[str, Any] = json.loads(body)
    return said

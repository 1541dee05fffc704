"""A process of `frontrunner up` that has imported everything and stands by: trainings in its folder are forked from it.

A command hands over its arguments, environment and standard streams through a socket that its owner alone can use,
passes signals on and ends as its fork does. Where anything differs that counts when modules are imported, or nothing
stands by, the command runs by itself, as it does everywhere else.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NamedTuple

from registry import settings
from registry.bounded import end_at_once
from registry.errors import FrontrunnerError

NAME = "standby.sock"
TALK_SECONDS = 5
HEAD = 8  # bytes that say how many come
LARGEST = 10_000_000  # bytes of arguments and environment; Linux allows some six
# Variables that libraries read when they are imported.
AT_IMPORT = (
    *("PREFECT_", "MLFLOW_", "PYTHON", "OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "KMP_", "LD_", "MALLOC_", "TZ"),
    *("MPL", "XDG_", "HOME", "LANG", "LC_", "JOBLIB_", "LOKY_", "SKLEARN_", "ARROW_", "CUDA_", "DO_NOT_TRACK"),
)
NONSENSE = (ValueError, EOFError, LookupError, TypeError, AttributeError)  # whatever somebody sends
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PR_SET_PDEATHSIG = 1


def forked(arguments: list[str]) -> int | None:
    """The exit code of the command in a fork of the process that stands by; None: it has to run here."""
    path = Path(settings.HOME) / NAME
    if sys.platform != "linux" or not path.exists():
        return None
    with socket.socket(socket.AF_UNIX) as standby:
        try:
            standby.settimeout(TALK_SECONDS)
            standby.connect(str(path))  # relative: a socket's path is short
            if not _is_ours(standby):
                return None
            umask = os.umask(0o077)
            os.umask(umask)
            asked: dict[str, Any] = {
                "arguments": arguments,
                "environment": dict(os.environ),
                "umask": umask,
                "ignored": [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN],
                "like": _like(os.environ),
            }
            _send(standby, asked, (0, 1, 2))
            said = _received(standby)
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
            return int(_received(standby)["code"])
        return 128 + signal.SIGTERM  # `up` was ended, and everything with it


def _is_ours(connection: socket.socket) -> bool:
    """Whether the other side is of the same user: what is passed holds passwords, and what is forked has our rights."""
    form = "iII"
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    return bool(struct.unpack(form, peer)[1] == os.geteuid())


def _pass_on(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    """Stands by until it is ended. In a fork: becomes the command."""
    end_at_once()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `up` ends it, by SIGTERM
    from flows import cli, up_env, worker

    try:
        worker.wait_for_servers(os.environ | up_env.read())  # they are waited for, this is not
    except FrontrunnerError as error:
        sys.exit(f"error: {error}")
    cli.set_defaults()
    like = _like(os.environ)
    from flows.train import train  # noqa: F401
    from tasks import processes

    processes.preload()
    gc.freeze()  # a collection in a fork would copy what they share
    if threading.active_count() > 1:
        sys.exit(f"nothing can be forked from a process with threads: {threading.enumerate()}")
    path = Path(settings.HOME) / NAME
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, _sigterm() as asked_to_end:
        listener.bind(str(path))  # umask 077, of `up`
        listener.listen()
        try:
            asked = _Standby(listener, asked_to_end, like).until_forked()
        except _Ended:
            path.unlink(missing_ok=True)
            sys.exit()
    _become(asked)
    cli.run()


class _Command(NamedTuple):
    """One that was forked: descriptors of its process, and of the connection to whoever asked for it."""

    process: int
    asker: int


class _Ended(Exception):
    """It was asked to end, and so has everything that was forked."""


@contextmanager
def _sigterm() -> Iterator[int]:
    """A descriptor that can be read once it came."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes)
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield reads
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reads)
        os.close(writes)


class _Standby:
    """Forks for whoever asks, and tells them how it ended."""

    def __init__(self, listener: socket.socket, asked_to_end: int, like: dict[str, str]) -> None:
        self._listener, self._asked_to_end, self._like = listener, asked_to_end, like
        self._selector = DefaultSelector()
        self._running: set[_Command] = set()
        self._selector.register(listener, EVENT_READ)
        self._selector.register(asked_to_end, EVENT_READ)

    def until_forked(self) -> dict[str, Any]:
        """Returns in a fork alone: what was asked. Raises: _Ended, in the process that stands by."""
        while self._running or self._listener in self._selector.get_map():
            for key, _ in self._selector.select():
                if key.data in self._running:
                    self._mind(key.data, key.fd)
                elif key.fd == self._asked_to_end:
                    self._end()
                elif key.fileobj is self._listener and self._listener in self._selector.get_map():
                    with suppress(OSError, *NONSENSE):
                        if asked := self._answer():
                            return asked
        raise _Ended

    def _answer(self) -> dict[str, Any] | None:
        """In a fork what was asked, with its streams in place. Whoever gets no answer runs by itself."""
        with self._listener.accept()[0] as asker, _request(asker) as (asked, streams):
            if not _is_ours(asker):
                return None
            if differs := _different(asked["like"], self._like):
                _send(asker, {"differs": differs})
            elif pid := _forked():
                self._add(pid, os.dup(asker.fileno()))
                _send(asker, {"pid": pid, "differs": []})
            else:
                try:
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                    self._close()
                except OSError:
                    os._exit(1)  # it must not stand by, too
                return asked
        return None

    def _add(self, pid: int, asker: int) -> None:
        try:
            command = _Command(os.pidfd_open(pid), asker)
        except OSError:
            os.close(asker)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._running.add(command)
        for each in command:
            self._selector.register(each, EVENT_READ, command)

    def _mind(self, command: _Command, ready: int) -> None:
        """It ended, or whoever asked for it was killed."""
        if ready == command.asker:
            self._selector.unregister(command.asker)
            signal.pidfd_send_signal(command.process, signal.SIGKILL)
            return
        ended = os.waitid(os.P_PIDFD, command.process, os.WEXITED)
        assert ended is not None
        _tell(command.asker, {"code": ended.si_status + (0 if ended.si_code == os.CLD_EXITED else 128)})
        self._running.remove(command)
        for each in command:
            with suppress(KeyError):
                self._selector.unregister(each)
            os.close(each)

    def _end(self) -> None:
        """Nobody is taken any more, and what runs is asked to end."""
        self._selector.unregister(self._listener)
        self._selector.unregister(self._asked_to_end)
        for command in self._running:
            signal.pidfd_send_signal(command.process, signal.SIGTERM)

    def _close(self) -> None:
        """In a fork: what is not its own."""
        self._selector.close()
        for command in self._running:
            for each in command:
                os.close(each)


@contextmanager
def _request(asker: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """What is asked, and its three streams. Raises: EOFError, OSError, ValueError: it is no request."""
    asker.settimeout(TALK_SECONDS)
    head, streams, _, _ = socket.recv_fds(asker, HEAD, 3)
    try:
        if len(streams) < 3:
            raise ValueError(streams)
        yield _body(asker, head), streams
    finally:
        for stream in streams:
            os.close(stream)


def _forked() -> int:
    standby = os.getpid()
    with warnings.catch_warnings():
        # Python counts OpenBLAS's threads, too, which a fork makes anew.
        warnings.filterwarnings("ignore", ".*use of fork.*may lead to deadlocks", DeprecationWarning)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in the fork until it minds it as a command does
        try:
            pid = os.fork()
        finally:
            if os.getpid() == standby:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if not pid:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # it ends with this one, however that ends
        if os.getppid() != standby:
            os._exit(1)
    return pid


def _tell(asker: int, said: dict[str, Any]) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(asker)) as connection:  # it may be gone
        _send(connection, said)


def _become(asked: dict[str, Any]) -> None:
    """The command, as if it had been started where it was asked for."""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        old = getattr(sys, name)
        lines = 1 if name == "stderr" or os.isatty(number) else -1
        new = open(number, mode, lines, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
    os.umask(asked["umask"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["frontrunner", *asked["arguments"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(PASSED_ON) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    for number in asked["ignored"]:  # as by nohup
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _like(environment: Mapping[str, str]) -> dict[str, str]:
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


def _send(to: socket.socket, said: dict[str, Any], streams: Sequence[int] = ()) -> None:
    body = json.dumps(said).encode()
    socket.send_fds(to, [len(body).to_bytes(HEAD, "big")], streams)
    to.sendall(body)


def _received(sender: socket.socket) -> dict[str, Any]:
    """Raises: EOFError, OSError, ValueError."""
    return _body(sender, sender.recv(HEAD))


def _body(sender: socket.socket, head: bytes) -> dict[str, Any]:
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


if __name__ == "__main__":
    main()

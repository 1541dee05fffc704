"""The process of `frontrunner up` that stands by with everything imported: trainings in its folder are forked from it.

Who asks, and what both sides say, is in `standby.py`.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NamedTuple

from flows import standby
from flows.importing import importing
from registry import settings
from registry.bounded import end_at_once
from registry.errors import FrontrunnerError

NONSENSE = (ValueError, EOFError, LookupError, TypeError, AttributeError)  # whatever somebody sends


def main() -> None:
    """Stands by until it is ended. In a fork: becomes the command."""
    end_at_once()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `up` ends it, by SIGTERM
    with importing():
        from flows import cli, up_env, worker
        from tasks import processes

    try:
        worker.wait_for_servers(os.environ | up_env.read())  # they are waited for, this is not
    except FrontrunnerError as error:
        sys.exit(f"error: {error}")
    cli.set_defaults()
    like = standby.like(os.environ)
    with importing():  # after the defaults, which Prefect reads when it is imported
        processes.preload()
        processes.preload_for_candidates()
        from flows.train import train  # noqa: F401
    if threading.active_count() > 1:
        sys.exit(f"nothing can be forked from a process with threads: {threading.enumerate()}")
    path = Path(settings.HOME) / standby.NAME
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
            if not standby.is_ours(asker):
                return None
            if differs := standby.different(asked["like"], self._like):
                standby.send(asker, {"differs": differs})
            elif pid := _forked():
                self._add(pid, os.dup(asker.fileno()))
                standby.send(asker, {"pid": pid, "differs": []})
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
    asker.settimeout(standby.TALK_SECONDS)
    head, streams, _, _ = socket.recv_fds(asker, standby.HEAD, 3)
    try:
        if len(streams) < 3:
            raise ValueError(streams)
        yield standby.body_of(asker, head), streams
    finally:
        for stream in streams:
            os.close(stream)


def _forked() -> int:
    from tasks.processes import end_with_parent, forking

    standing_by = os.getpid()
    with forking():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in the fork until it minds it as a command does
        try:
            pid = os.fork()
        finally:
            if os.getpid() == standing_by:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if not pid:
        end_with_parent(standing_by, by=signal.SIGTERM)
    return pid


def _tell(asker: int, said: dict[str, Any]) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(asker)) as connection:  # it may be gone
        standby.send(connection, said)


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
    for number in set(standby.PASSED_ON) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    for number in asked["ignored"]:  # as by nohup
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


if __name__ == "__main__":
    main()

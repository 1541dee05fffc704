"""Whom a command tells what it would do: nobody but its own user, and nobody who does not answer."""

import os
import socket
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows import standby, standby_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing stands by")


@pytest.fixture
def listener(workspace: Path):
    """Something that listens where a process would stand by."""
    (workspace / ".frontrunner").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(".frontrunner/standby.sock")
        listening.listen()
        yield listening


def test_nothing_is_sent_to_another_user(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert standby.forked(["train", "digits"]) is None
    with listener.accept()[0] as asked:
        assert asked.recv(1) == b""


def test_who_does_not_answer_is_not_waited_for(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "TALK_SECONDS", 0.2)
    assert standby.forked(["train", "digits"]) is None


def test_a_socket_that_was_left_behind(listener: socket.socket) -> None:
    listener.close()
    assert Path(".frontrunner/standby.sock").exists()
    assert standby.forked(["train", "digits"]) is None


def test_a_fork_that_fails_ends_nothing(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command runs by itself, and the next one is answered."""

    def no_memory() -> int:
        raise BlockingIOError

    monkeypatch.setattr(standby_server, "_forked", no_memory)
    reads, writes = os.pipe()
    stands = standby_server._Standby(listener, reads, standby.like(os.environ))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: [standby.forked(["train", "digits"]) for _ in range(2)])
        asked.add_done_callback(lambda _: os.write(writes, b"end"))
        with pytest.raises(standby_server._Ended):
            stands.until_forked()
    assert asked.result() == [None, None]
    stands._selector.close()
    os.close(reads)
    os.close(writes)


def test_other_packages_are_seen(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(workspace))
    before = standby.like({})
    late = 2 * 10**9  # seconds: later than any file of the code
    os.utime(workspace, (late, late))
    assert standby.different(before, standby.like({})) == ["state of its code or of Prefect's settings"]

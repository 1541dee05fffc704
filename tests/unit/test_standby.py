"""Whom a command tells what it would do: nobody but its own user, and nobody who does not answer."""

import os
import socket
import sys
from pathlib import Path

import pytest

from flows import standby

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

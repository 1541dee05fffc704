"""Two hosts on this machine: connected network namespaces that vanish with the test run, even if it is killed."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.processes import LIBC

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
HERE = Path("/proc/thread-self/ns/net")


class Host:
    """A network namespace. An open file holds it, so a killed run leaves no name behind."""

    def __init__(self, address: str) -> None:
        self.address = address
        with _coming_back():
            _called(LIBC.unshare(NEW_NETWORK), "unshare")
            self._network = os.open(HERE, os.O_RDONLY)
            _ip("link set lo up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._network}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move this thread, and the processes that it starts, to the host's network."""
        with _coming_back():
            _called(LIBC.setns(self._network, NEW_NETWORK), "setns")
            yield

    def close(self) -> None:
        os.close(self._network)


def lacking(what: str) -> NoReturn:
    """Skip the test; in CI, fail it."""
    why = f"this test wants {what}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Create the hosts 10.77.0.1 and 10.77.0.2, which reach only each other.

    If they cannot be created, the test is skipped; in CI it fails.
    """
    with ExitStack() as stack:
        try:
            hosts = Host("10.77.0.1"), Host("10.77.0.2")
            for host in hosts:
                stack.callback(host.close)
            with hosts[0].inside():
                _ip(f"link add cable type veth peer name cable netns {hosts[1].path}")
            for host in hosts:
                with host.inside():
                    _ip(f"addr add {host.address}/24 dev cable")
                    _ip("link set cable up")
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            lacking(f"network namespaces (root on Linux, and the `ip` of iproute2): {reason}")
        yield hosts


def without(hidden: Iterable[Path], command: list[str]) -> list[str]:
    """Return a command that sees these folders as empty and only its own processes, which all end with it."""
    hide = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1"; shift; done; shift; exec "$@"'
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*alone, "sh", "-ec", hide, "sh", *map(str, hidden), "--", *command]


@contextmanager
def _coming_back() -> Iterator[None]:
    home = os.open(HERE, os.O_RDONLY)
    try:
        yield
    finally:
        _called(LIBC.setns(home, NEW_NETWORK), "setns")
        os.close(home)


def _called(result: int, name: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _ip(command: str) -> None:
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "ip"
    subprocess.run([program, *command.split()], check=True, capture_output=True, text=True)


def with_mounts(script: str) -> list[str]:
    """Return the command of a shell script with private mounts, which vanish with it.

    If mounting is not permitted, the test is skipped; in CI it fails.
    """
    alone = ["unshare", "--mount"]
    probe = [*alone, "mount", "-t", "tmpfs", "none", "/mnt"]
    tried = subprocess.run(probe, check=False, capture_output=True, text=True) if shutil.which("unshare") else None
    if tried is None or tried.returncode:
        lacking(f"mount namespaces (root on Linux, and `unshare`): {tried and tried.stderr}")
    return [*alone, "sh", "-uc", script]

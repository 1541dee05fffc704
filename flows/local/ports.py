"""Ports to listen at: free ones, and who has those that are not."""

import socket
from contextlib import suppress
from errno import EADDRINUSE

from registry.errors import InvalidInput, PortTaken

HOST = "127.0.0.1"  # nothing of `up` listens elsewhere: a team's servers stand behind a proxy with TLS


def free_port(name: str, port: int, host: str = HOST) -> int:
    """The port, or any free one for 0.

    Raises:
        PortTaken: something listens there.
        InvalidInput: the port is the system's, or the host is not this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise InvalidInput(f"port {port} is not for you to take: choose one above 1023") from None
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise PortTaken(name, port, _holder(port)) from error
            raise InvalidInput(f"nothing can listen at {host}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _holder(port: int) -> str:
    """Who listens on it, where the system lets us know."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80]})"
    return "another program"

"""Find free ports, and the program that uses a port that is taken."""

import socket
from contextlib import suppress
from errno import EADDRINUSE

from registry.errors import InvalidInput, PortTaken

HOST = "127.0.0.1"  # the only address that `up` listens on; the servers of a team need a proxy with TLS


def free_port(name: str, port: int, host: str = HOST) -> int:
    """Return the port, or for 0 any free one.

    Raises:
        PortTaken: another program listens there.
        InvalidInput: the port needs root, or the host is not one of this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise InvalidInput(f"port {port} needs root: choose one above 1023") from None
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise PortTaken(name, port, _program_at(port)) from error
            raise InvalidInput(f"nothing can listen at {host}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _program_at(port: int) -> str:
    """Describe the program that listens on the port, if the system shows it."""
    import psutil  # only this message needs it, and every command imports this module

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80]})"
    return "another program"

"""A temporary Prefect server for one command.

Prefect would start such a server for the first flow, and the command would have to wait for it. This one starts while
the command imports what it needs.
"""

import atexit
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread

from flows.local.importing import without_gc
from flows.local.ports import HOST
from registry.errors import PrefectUnavailable
from registry.settings import TEMPORARY_PREFECT

# No UI and no block types. To register block types, Prefect would import every installed package that has some.
MINIMAL_SERVER = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
}
START_SECONDS = 120  # the first start creates Prefect's database
END_SECONDS = 5
# Files of the working folder that Prefect reads, with the lines that may name a server. If there is such a line, no
# temporary server is started, because it would silently replace the one that is named.
PREFECT_FILES = {
    ".env": r"(export\s+)?PREFECT_API_URL\s*=",
    "prefect.toml": r"\[?api\b",
    "pyproject.toml": r"\[tool\.prefect",
}


def begin() -> "TemporaryServer | None":
    """Start a server, or return None if Prefect's settings name one. Call it before Prefect is imported."""
    return None if _is_named() else TemporaryServer()


class TemporaryServer:
    """A Prefect server that ends with this process, even if this process is killed.

    It inherits a socket that already listens. A request waits until the server answers, and fails if the server ends.
    """

    def __init__(self) -> None:
        self._log = TemporaryFile()  # noqa: SIM115  (it stays open as long as the server runs)
        with socket.create_server((HOST, 0)) as listening:
            self._port = listening.getsockname()[1]
            self._process = subprocess.Popen(  # noqa: S603  (our own module)
                [sys.executable, "-m", "flows.local.prefect_server", str(listening.fileno()), str(os.getpid())],
                env=os.environ | MINIMAL_SERVER,
                pass_fds=[listening.fileno()],
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command, which then reports to the server
            )
        self.url = f"http://{HOST}:{self._port}/api"
        os.environ |= {"PREFECT_API_URL": self.url, TEMPORARY_PREFECT: "1"}
        atexit.register(self._end)  # runs after what Prefect registers later

    def wait(self) -> None:
        """Wait until the server answers. Raises: PrefectUnavailable."""
        try:
            with closing(HTTPConnection(HOST, self._port, timeout=START_SECONDS)) as connection:
                connection.request("GET", "/api/health")
                connection.getresponse()
        except (OSError, HTTPException) as error:
            raise PrefectUnavailable(self.url, f"the temporary server failed: {self._last_line()}") from error

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _is_named() -> bool:
    """Return whether the environment or Prefect's active profile names a server, or a file of this folder may."""
    return bool(
        os.environ.get("PREFECT_API_URL")
        or _profile().get("PREFECT_API_URL")
        or any(_has_line(Path(name), pattern) for name, pattern in PREFECT_FILES.items())
    )


def _profile() -> dict[str, str]:
    """Return the settings of the active profile. Prefect reports a file that cannot be read."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    with suppress(OSError, ValueError, KeyError):
        profiles = tomllib.loads(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").read_text())
        active: dict[str, str] = profiles["profiles"][os.environ.get("PREFECT_PROFILE") or profiles["active"]]
        return active
    return {}


def _has_line(path: Path, pattern: str) -> bool:
    with suppress(OSError):
        return bool(re.search(rf"^\s*{pattern}", path.read_text(errors="replace"), re.MULTILINE | re.IGNORECASE))
    return False


def serve(descriptor: int, parent: int) -> None:
    """Serve Prefect's API on an inherited socket until the parent process ends."""
    Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    with without_gc():
        import uvicorn  # heavy: `begin` is called before Prefect is imported
        from prefect.server.api.server import create_app  # heavy

        app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    server.run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_parent(parent: int) -> None:
    """End this process when its parent process has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))

"""A Prefect server for one command, begun before anything heavy is imported: both wake at the same time.

Prefect would start one itself when the first flow asks for it: then one waits for the other, and Prefect's whole server
is imported into the command, too.
"""

import atexit
import os
import subprocess
import sys
import time
import tomllib
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import Any

from flows.local.importing import without_gc
from flows.local.ports import HOST, free_port
from registry.errors import PrefectUnavailable
from registry.settings import TEMPORARY_PREFECT

# No UI, no services that a training has no use for, and no block types, for which every package that has some would be
# imported: a server that stays registers them.
NARROW = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
}
# For clients of a server on this machine that has no TLS: each of eight a training would read the certificates of the
# whole world, 30 ms each time. This file has one, whose key nobody has.
WITHOUT_TLS = {"PREFECT_API_SSL_CERT_FILE": str(Path(__file__).with_name("without_tls.pem"))}
START_SECONDS = 120  # a first start makes Prefect's database, which takes half a minute on a slow machine


def begin() -> "TemporaryServer | None":
    """The server, which wakes; None where Prefect's settings name one. To be called before Prefect is imported."""
    return None if _is_named() else TemporaryServer()


class TemporaryServer:
    """Ends with this process, however that ends."""

    def __init__(self) -> None:
        self._port = free_port("prefect", 0)
        self.url = f"http://{HOST}:{self._port}/api"
        self._said = TemporaryFile()  # noqa: SIM115  (as long as the server)
        env = os.environ | NARROW
        self._process = subprocess.Popen(  # noqa: S603  (our own module)
            [sys.executable, "-m", "flows.local.prefect_server", str(self._port), str(os.getpid())],
            env=env,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the command, which still has something to tell it
        )
        os.environ |= {"PREFECT_API_URL": self.url, TEMPORARY_PREFECT: "1"} | WITHOUT_TLS
        atexit.register(self._end)  # before Prefect's own: they run in reverse

    def wait(self) -> None:
        """Until it answers. Raises: PrefectUnavailable."""
        from http.client import OK, HTTPConnection, HTTPException

        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            connection = HTTPConnection(HOST, self._port, timeout=5)
            with suppress(OSError, HTTPException), closing(connection):
                connection.request("GET", "/api/health")
                if connection.getresponse().status == OK:
                    return
            time.sleep(0.05)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        raise PrefectUnavailable(self.url, f"it is a temporary one, which said {lines[-1] if lines else 'nothing'!r}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _is_named() -> bool:
    """Whether Prefect would find a server's address, where it looks: the environment, the active profile, and files of
    the working folder."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = _toml(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"))
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "ephemeral")
    if profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"):
        return True
    with suppress(OSError):
        if "PREFECT_API_URL" in Path(".env").read_text(errors="replace"):
            return True
    own, shared = _toml(Path("prefect.toml")), _toml(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
    return any(found.get("api", {}).get("url") for found in (own, shared))


def _toml(path: Path) -> dict[str, Any]:
    """What Prefect cannot read it complains of itself."""
    with suppress(OSError, tomllib.TOMLDecodeError), path.open("rb") as file:
        return tomllib.load(file)
    return {}


async def _ask(app: Any) -> None:
    """FastAPI makes the models of all routes for the first request, in 0.2 s: while the command still imports."""
    import httpx

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://temporary") as client:
        await client.get("/api/which-no-route-has")  # so that every one of them is looked at


if __name__ == "__main__":
    from tasks.training.processes import end_with

    Thread(target=end_with, args=(int(sys.argv[2]),), daemon=True).start()
    with without_gc():
        import asyncio

        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app()
        asyncio.run(_ask(app))
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), log_level="error")

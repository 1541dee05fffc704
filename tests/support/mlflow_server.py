"""An MLflow server as a team runs it: it stores the files, and clients know only its address."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import answers, free_port, running


@contextmanager
def mlflow_server(folder: Path, empty_store: Path) -> Iterator[str]:
    """Yield the server's address; it starts with a copy of the empty store, and its files are in the folder `kept`."""
    shutil.copy(empty_store / "mlflow.db", folder / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://127.0.0.1:{port}"
    with running(command, lambda: answers(f"{address}/health"), folder / "mlflow.log", env=env):
        yield address

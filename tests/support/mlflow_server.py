"""MLflow's server as a team has it: nothing is shared with it but its address, and it keeps the files, too."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import answers, free_port, running


@contextmanager
def mlflow_server(folder: Path, empty_store: Path) -> Iterator[str]:
    """Its address; what it keeps is below the folder, in `kept`. It begins with a copy of the empty store."""
    shutil.copy(empty_store / "mlflow.db", folder / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://127.0.0.1:{port}"
    with running(command, lambda: answers(f"{address}/health"), folder / "mlflow.log", env=env):
        yield address

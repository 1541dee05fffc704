"""The worker of `frontrunner up`: it applies prefect.yaml once the servers answer, and then runs scheduled flows."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.states import Crashed

from flows.local.environment import USER
from registry import settings
from registry.errors import FrontrunnerError, PrefectUnavailable

POOL = "frontrunner"
RUN_SECONDS = 5  # for flow runs to end after SIGTERM
START_SECONDS = 180  # the first start creates Prefect's database


def main() -> int:
    """Apply prefect.yaml, print the addresses, and run Prefect's worker until it ends; return its exit code."""
    # Prefect ends its worker by SIGINT, which a program that a shell starts in the background ignores.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _wait_for_servers()
        _deploy()
    except FrontrunnerError as error:
        sys.exit(f"error: {error}")
    worker = psutil.Popen([sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"])
    signal.signal(signal.SIGTERM, lambda *_: _end(worker))
    print_urls()
    return int(worker.wait())


def _end(worker: psutil.Process) -> None:
    """End the flow runs, and then the worker. The worker alone would leave them in the state Running."""
    runs = {run_id: process for process in worker.children(recursive=True) if (run_id := _flow_run_id(process))}
    for process in runs.values():
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(runs.values(), timeout=RUN_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    worker.terminate()
    for run_id in runs:
        try:
            _set_crashed(run_id)
        except Exception as error:  # noqa: BLE001  (the server may have ended)
            print(f"flow run {run_id} may be shown as running: {error}", flush=True)


def _flow_run_id(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        run_id: str | None = process.environ().get("PREFECT__FLOW_RUN_ID")
        return run_id
    return None


def _set_crashed(run_id: str) -> None:
    """Set the state of a flow run that was ended before it could do so itself."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run_id)).state
        if state is None or not state.is_final():
            client.set_flow_run_state(UUID(run_id), Crashed(message="`frontrunner up` was ended"), force=True)


def _wait_for_servers() -> None:
    """Wait until every server that the environment names answers. Raises: PrefectUnavailable."""
    until = time.monotonic() + START_SECONDS
    for name in ("FRONTRUNNER_URL", "MLFLOW_UI_URL", "PREFECT_API_URL"):
        url = os.environ.get(name)
        while url and not _answers(f"{url}/health"):
            if time.monotonic() > until:
                raise PrefectUnavailable(url)
            time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _deploy() -> None:
    """Apply every deployment of prefect.yaml, and create the work pool if it does not exist."""
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: prefect.yaml could not be applied:\n{done.stdout}{done.stderr}")


def print_urls() -> None:
    """Print that everything answers, at which addresses, and how to log in."""
    print("Ready.")
    print(f"Prefect      {get_current_settings().ui_url}/v2/deployments")
    print(f"MLflow       {settings.mlflow_ui()}/#/experiments?workflowType=machine_learning")
    print(f"predictions  {os.environ['FRONTRUNNER_URL']}/docs")
    print(f"Log in as {USER} with FRONTRUNNER_PASSWORD from .frontrunner/up.env; for Prefect enter {USER}:PASSWORD.")
    print("Ctrl-C ends everything.", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The worker of `frontrunner up`: applies prefect.yaml once the server answers, then runs what is due."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import cast
from uuid import UUID

import httpx
import psutil

from registry.errors import FrontrunnerError, PrefectUnavailable

POOL = "frontrunner"
RUN_SECONDS = 5  # for a flow run to end by itself
START_SECONDS = 180  # a first start makes Prefect's database, which takes half a minute on a slow machine


def main() -> int:
    """Says where everything is, and runs Prefect's worker until it ends; its exit code."""
    # A shell that starts something in the background has it ignore SIGINT, by which Prefect ends its worker.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        wait_for_servers(os.environ)
        _deploy()
    except FrontrunnerError as error:
        sys.exit(f"error: {error}")
    _tell()
    sys.stdout.flush()
    worker = psutil.Popen([sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"])
    signal.signal(signal.SIGTERM, lambda *_: _end(worker))
    return int(worker.wait())


def _end(worker: psutil.Process) -> None:
    """Ends the flow runs, then the worker: by itself it would leave them as running, for ever, on their pages."""
    runs = {run_id: process for process in worker.children(recursive=True) if (run_id := _flow_run(process))}
    for process in runs.values():
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(runs.values(), timeout=RUN_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    worker.terminate()
    for run_id in runs:
        try:
            _crashed(run_id)
        except Exception as error:  # noqa: BLE001  (its server may be gone already)
            print(f"flow run {run_id} may stay as running: {error}", flush=True)


def _flow_run(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        return cast("str | None", process.environ().get("PREFECT__FLOW_RUN_ID"))
    return None


def _crashed(run_id: str) -> None:
    """What a run could not say any more."""
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run_id)).state
        if state is None or not state.is_final():
            client.set_flow_run_state(UUID(run_id), Crashed(message="`frontrunner up` was ended meanwhile"), force=True)


def wait_for_servers(environment: Mapping[str, str]) -> None:
    """Until every server that is named there answers, whatever it answers. Raises: PrefectUnavailable."""
    until = time.monotonic() + START_SECONDS
    for url in _health(environment):
        while not _answers(url):
            if time.monotonic() > until:
                raise PrefectUnavailable(url)
            time.sleep(0.3)


def _health(environment: Mapping[str, str]) -> list[str]:
    urls = [f"{environment['FRONTRUNNER_URL']}/health"]
    if ui := environment.get("MLFLOW_UI_URL"):
        urls.append(f"{ui}/health")
    if api := environment.get("PREFECT_API_URL"):
        urls.append(f"{api}/health")
    return urls


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _deploy() -> None:
    """Every deployment of prefect.yaml, and the work pool if it is not there."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: prefect.yaml could not be applied:\n{done.stdout}{done.stderr}")


def _tell() -> None:
    env = os.environ
    prefect = env.get("PREFECT_API_URL", "").removesuffix("/api")
    mlflow = env.get("MLFLOW_UI_URL") or env.get("MLFLOW_TRACKING_URI")
    print(f"Prefect      {prefect}/v2/deployments")
    print(f"MLflow       {mlflow}/?workflowType=machine_learning")
    print(f"predictions  {env['FRONTRUNNER_URL']}/docs")
    print("The password is in .frontrunner/up.env; Ctrl-C ends everything.")


if __name__ == "__main__":
    sys.exit(main())

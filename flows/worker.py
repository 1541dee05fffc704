"""The worker of `frontrunner up`: applies prefect.yaml once the server answers, then runs what is due."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import NoReturn

import httpx

from registry.errors import FrontrunnerError, PrefectUnavailable

POOL = "frontrunner"
START_SECONDS = 180  # a first start makes Prefect's database, which takes half a minute on a slow machine


def main() -> NoReturn:
    """Replaces itself by Prefect's worker, after saying where everything is."""
    try:
        _wait()
        _deploy()
    except FrontrunnerError as error:
        sys.exit(f"error: {error}")
    _tell()
    sys.stdout.flush()
    prefect = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    os.execv(sys.executable, prefect)  # noqa: S606  (no shell is wanted)


def _wait() -> None:
    """Until every server answers, whatever it answers."""
    until = time.monotonic() + START_SECONDS
    for url in _health():
        while not _answers(url):
            if time.monotonic() > until:
                raise PrefectUnavailable(url)
            time.sleep(0.3)


def _health() -> list[str]:
    urls = [f"{os.environ['FRONTRUNNER_URL']}/health"]
    if ui := os.environ.get("MLFLOW_UI_URL"):
        urls.append(f"{ui}/health")
    if api := os.environ.get("PREFECT_API_URL"):
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
    main()

"""A run of the `train` deployment by the worker of `frontrunner up`, as a schedule or the Prefect UI starts it.

It is timed from the request to the state Completed, next to a run of an empty flow by the same worker.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flows import Flow
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from benchmarks.cold import ALGORITHMS
from benchmarks.shared import Options, Row, alternately, say
from benchmarks.training import servers
from flows.local import environment
from flows.local.worker import POOL

PARAMETERS = {
    "project_name": "digits",
    "task": "classification",
    "relation_name": "sklearn:digits",
    "y_column_name": "target",
    "algorithms": ALGORITHMS,
}
EMPTY = "an empty flow"
EMPTY_FLOW = """
from prefect import flow


@flow
def empty() -> None: ...
"""
POLL_SECONDS = 0.1


def measure(options: Options, folder: Path) -> list[Row]:
    with (
        servers(folder, options) as home,
        contextlib.chdir(home),
        its_prefect(),
        get_client(sync_client=True) as client,
    ):
        deploy_empty_flow()
        sides = {
            "ours": lambda: seconds_of_run(client, "train/train", PARAMETERS, options),
            EMPTY: lambda: seconds_of_run(client, "empty/empty", {}, options),
        }
        say(options, "warm: a first run of each, uncounted")
        alternately(1, sides)
        say(options, "warm: taking turns")
        seconds = alternately(2 if options.quick else 7, sides)
    return [Row("warm", "a run of the train deployment", "s", seconds["ours"], EMPTY, seconds[EMPTY])]


def its_prefect() -> contextlib.AbstractContextManager[Any]:
    """Have Prefect's client in this process use the server of the `up` that runs in this folder."""
    found = environment.of_running()
    return temporary_settings({each: found[each.name] for each in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)})


def deploy_empty_flow() -> None:
    Path("empty.py").write_text(EMPTY_FLOW)
    empty: Any = Flow.from_source(str(Path.cwd()), "empty.py:empty")
    empty.deploy("empty", work_pool_name=POOL, build=False, print_next_steps=False, ignore_warnings=True)


def seconds_of_run(client: SyncPrefectClient, deployment: str, parameters: dict[str, Any], options: Options) -> float:
    """Request a run and wait for it. Raises: RuntimeError: it did not complete."""
    found = client.read_deployment_by_name(deployment)
    started = time.perf_counter()
    run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
    while run.state is None or not run.state.is_final():
        time.sleep(POLL_SECONDS)
        run = client.read_flow_run(run.id)
    seconds = time.perf_counter() - started
    if not run.state.is_completed():
        raise RuntimeError(f"the run of {deployment} ended as {run.state}")
    say(options, f"warm: {deployment}, {seconds:.1f} s")
    return seconds

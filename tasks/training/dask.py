"""Train candidates on a Dask cluster (CANDIDATES_ON), as the same Prefect tasks; only ids and settings are sent.

This uses prefect-dask's client and not its task runner. A flow's runner is chosen when its module is imported, and
DaskTaskRunner would use any Dask client of the process.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import Lock
from time import monotonic, sleep
from typing import Any

from joblib import cpu_count
from prefect import Task
from threadpoolctl import threadpool_limits

from registry import queries, settings
from registry.errors import ClusterUnavailable, InvalidInput, MissingExtra, UnknownProject
from registry.timeouts import with_timeout
from tasks.data import frozen_rows
from tasks.flow_runs import persistent_api_url
from tasks.tracking import runs
from tasks.values import Outcome, Training

log = logging.getLogger("frontrunner")

CONNECT_SECONDS = 10
WORKERLESS_SECONDS = 60  # a killed worker may be restarted
FORGET_SECONDS = 10
_alone = Lock()  # a large snapshot has one candidate at a time in a process, with all its cores


def check_cluster() -> None:
    """Check the Dask cluster of CANDIDATES_ON, if it is set, before anything is recorded.

    Raises:
        InvalidInput: the setting is wrong, or there is no persistent Prefect server.
        MissingExtra: prefect-dask is not installed.
        ClusterUnavailable: the scheduler does not answer, or has no workers.
    """
    if address := settings.candidates_on():
        if not persistent_api_url():
            raise InvalidInput(
                "CANDIDATES_ON needs a Prefect server that the Dask workers can reach: set PREFECT_API_URL"
            )
        with connected(address) as client:
            workers = _workers(client)
            if not workers:
                raise ClusterUnavailable(
                    f"the Dask scheduler {address} has no workers: start one, dask worker {address}"
                )
        log.info("candidates are trained on the Dask cluster %s, workers: %d", address, workers)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect prefect-dask's client to the cluster. Raises: MissingExtra, ClusterUnavailable."""
    try:
        from prefect_dask.client import PrefectDaskClient  # an optional dependency
    except ModuleNotFoundError as error:
        raise MissingExtra("CANDIDATES_ON", "dask") from error

    def connect() -> Any:
        return PrefectDaskClient(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]

    try:
        # Dask's own timeout does not end if something other than a Dask scheduler listens there.
        client = with_timeout(2 * CONNECT_SECONDS, "dask", connect)
    except (OSError, ImportError, TypeError) as error:  # TypeError: tls:// without Dask's settings for TLS
        reason = " ".join(str(error).split()) or "it does not answer as one"
        raise ClusterUnavailable(
            f"the Dask scheduler {address} cannot be used: {reason}; start it, or unset CANDIDATES_ON to train here"
        ) from error
    with client:
        yield client


def run_on(
    client: Any, task: Task[..., Outcome], training: Training, algorithms: list[str]
) -> dict[str, BaseException]:
    """Train every candidate on the cluster, and return the errors of those that failed.

    Dask gives a candidate to another worker if its worker is lost, up to three times.
    """
    futures = {
        algorithm: client.submit(task, training, algorithm, None, return_type="state") for algorithm in algorithms
    }
    last_seen = monotonic()
    while not all(future.done() for future in futures.values()) and monotonic() - last_seen < WORKERLESS_SECONDS:
        sleep(0.3)
        if _workers(client):
            last_seen = monotonic()
    errors = {algorithm: _error(future) for algorithm, future in futures.items()}
    with suppress(Exception):  # a worker that does not answer is lost, with its memory
        with_timeout(FORGET_SECONDS, "forget", lambda: client.run(frozen_rows.forget, on_error="ignore"))
    return {algorithm: error for algorithm, error in errors.items() if error}


def _workers(client: Any) -> int:
    return len(client.scheduler_info().get("workers", ()))  # no workers are listed without a scheduler


def _error(future: Any) -> BaseException | None:
    if not future.done():
        return ClusterUnavailable(f"no Dask worker was there for {WORKERLESS_SECONDS} s")
    try:
        error = future.result(WORKERLESS_SECONDS).result(raise_on_failure=False)
    except Exception as lost:  # noqa: BLE001  (Dask raises many types)
        return lost
    return error if isinstance(error, BaseException) else None


@contextmanager
def dask_slot(training: Training, algorithm: str) -> Iterator[int]:
    """Hold a candidate's slot on a Dask worker; yield its number of threads, the worker's cores shared by its slots.

    Raises:
        InvalidInput: the worker's settings name other stores than the flow's.
    """
    import scipy.linalg  # noqa: F401  (slow; only a BLAS that is loaded can be limited)
    from distributed import get_worker  # an optional dependency

    _check_stores(training, algorithm)
    share = cpu_count() if training.one_by_one else max(1, cpu_count() // get_worker().state.nthreads)
    with _alone if training.one_by_one else nullcontext():
        threadpool_limits(share, user_api="blas")  # for the process, and never reset: others may be fitting
        yield share


def _check_stores(training: Training, algorithm: str) -> None:
    """Check that this worker's stores have the candidate's and the run's ids, which no other store has."""
    begun: list[str] = []
    with suppress(UnknownProject):
        begun = [model.algorithm for model in queries.run_models(training.request.project_name, f"{training.key}:")]
    if algorithm not in begun:
        raise InvalidInput(
            "this Dask worker's REGISTRY_URL is not the flow's registry: start it with the flow's setting"
        )
    if not runs.is_there(training.run):
        raise InvalidInput(
            "this Dask worker's MLFLOW_TRACKING_URI is not the flow's MLflow: start it with the flow's setting"
        )

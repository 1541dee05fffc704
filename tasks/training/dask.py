"""Candidates on a Dask cluster (CANDIDATES_ON): they are the same Prefect tasks, and what is sent are ids and settings.

prefect-dask's client rather than its task runner: a flow has one runner, chosen when its module is imported, and that
one takes any Dask client that the process happens to have for its cluster.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import Lock
from time import monotonic, sleep
from typing import Any

from joblib import cpu_count
from prefect import Task

from registry import queries, settings
from registry.errors import ClusterUnavailable, InvalidInput, MissingExtra, UnknownProject
from registry.timeouts import with_timeout
from tasks.data import frozen_rows
from tasks.flow_runs import persistent_api_url
from tasks.tracking import runs
from tasks.values import Outcome, Training

log = logging.getLogger("frontrunner")

CONNECT_SECONDS = 10
WORKERLESS_SECONDS = 60  # a worker that was killed may be started again
FORGET_SECONDS = 10
_alone = Lock()  # large snapshots have one candidate at a time in a process, with all its cores


def check_cluster() -> None:
    """Whether the cluster can be used, if candidates are to be trained on one; before anything is recorded.

    Raises:
        InvalidInput: the setting is wrong, or there is no Prefect server that all could talk to.
        MissingExtra: prefect-dask is not installed.
        ClusterUnavailable: the scheduler does not answer, or has no workers.
    """
    if address := settings.candidates_on():
        if not persistent_api_url():
            raise InvalidInput("CANDIDATES_ON needs a Prefect server that the Dask workers reach: set PREFECT_API_URL")
        with connected(address) as client:
            workers = _workers(client)
            if not workers:
                raise ClusterUnavailable(
                    f"the Dask scheduler {address} has no workers: start one, dask worker {address}"
                )
        log.info("candidates are trained on the Dask cluster %s, workers: %d", address, workers)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """prefect-dask's client of the cluster. Raises: MissingExtra, ClusterUnavailable."""
    try:
        from prefect_dask.client import PrefectDaskClient
    except ModuleNotFoundError as error:
        raise MissingExtra("CANDIDATES_ON", "dask") from error

    def connect() -> Any:
        return PrefectDaskClient(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]

    try:
        # What is no Dask scheduler but listens makes Dask's own limit wait for ever.
        client = with_timeout(2 * CONNECT_SECONDS, "dask", connect)
    except (OSError, ImportError, TypeError) as error:  # TypeError: tls:// without Dask's settings for it
        said = " ".join(str(error).split()) or "it does not answer as one"
        raise ClusterUnavailable(
            f"the Dask scheduler {address} cannot be used: {said}; start it, or unset CANDIDATES_ON to train without"
        ) from error
    with client:
        yield client


def run_on(
    client: Any, task: Task[..., Outcome], training: Training, algorithms: list[str]
) -> dict[str, BaseException]:
    """Has every candidate trained, each on whichever worker is free; those that did not end well, and why.

    A candidate whose worker is lost is given to another one, three times at most.
    """
    futures = {
        algorithm: client.submit(task, training, algorithm, None, return_type="state") for algorithm in algorithms
    }
    last_seen = monotonic()
    while not all(future.done() for future in futures.values()) and monotonic() - last_seen < WORKERLESS_SECONDS:
        sleep(0.3)
        if _workers(client):
            last_seen = monotonic()
    ended = {algorithm: _error(future) for algorithm, future in futures.items()}
    with suppress(Exception):  # a worker that does not answer has lost its memory, or is about to
        with_timeout(FORGET_SECONDS, "forget", lambda: client.run(frozen_rows.forget, on_error="ignore"))
    return {algorithm: error for algorithm, error in ended.items() if error}


def _workers(client: Any) -> int:
    return len(client.scheduler_info().get("workers", ()))  # a client that lost its scheduler knows none


def _error(future: Any) -> BaseException | None:
    if not future.done():
        return ClusterUnavailable(f"no Dask worker was there for {WORKERLESS_SECONDS} s")
    try:
        error = future.result(WORKERLESS_SECONDS).result(raise_on_failure=False)
    except Exception as lost:  # noqa: BLE001  (whatever Dask says of it)
        return lost
    return error if isinstance(error, BaseException) else None


@contextmanager
def dask_slot(training: Training, algorithm: str) -> Iterator[int]:
    """A candidate's place on a Dask worker; how many threads it has there: the worker's cores, shared by its slots.

    Raises:
        InvalidInput: the worker's settings name other stores than the flow's.
    """
    import scipy.linalg  # noqa: F401  (only a BLAS that is loaded can be limited)
    from distributed import get_worker
    from threadpoolctl import threadpool_limits

    _check_stores(training, algorithm)
    share = cpu_count() if training.one_by_one else max(1, cpu_count() // get_worker().state.nthreads)
    with _alone if training.one_by_one else nullcontext():
        threadpool_limits(share, user_api="blas")  # for the whole process, and never given back: others may be fitting
        yield share


def _check_stores(training: Training, algorithm: str) -> None:
    """The flow began this very candidate and this very run, under ids that are nowhere else."""
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

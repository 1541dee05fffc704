"""Support for flow runs: task options and retries, tags, one training of a project at a time, final messages."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from time import sleep
from typing import Any, TypeVar, cast

from httpx import HTTPError
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed

from registry import settings
from registry.errors import RegistryUnavailable, SourceUnavailable, StillTraining, TrackingUnavailable

log = logging.getLogger("frontrunner")

Result = TypeVar("Result")

TRANSIENT_ERRORS = (RegistryUnavailable, SourceUnavailable, TrackingUnavailable)
TURN_SECONDS = 3600  # the longest wait for another training of the project
# Waiting avoids the 503 of Prefect's server on SQLite, which refuses a slot while it records the run's start.
SETTLE_SECONDS = 0.2
LEASE_SECONDS = 60  # the longest wait after the project's last training was killed


def is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a retry can help, because a database or MLflow could not be reached."""
    error = state.result(raise_on_failure=False)
    while isinstance(error, BaseException):
        if isinstance(error, TRANSIENT_ERRORS):
            return True
        error = error.__cause__
    return False


# The options of every task: no result is cached, and transient errors are retried.
TASK_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": [1, 5, 20],
    "retry_condition_fn": is_transient,
}


def tag_flow_run(project_name: str) -> None:
    """Tag the flow run with its project, so that it can be found by it.

    Tasks get no tag, because Prefect checks each tag's limits before it starts a task, and its server on SQLite may
    answer that with 503.
    """
    context = FlowRunContext.get()
    if not (context and context.flow_run):
        return
    tags = sorted({*context.flow_run.tags, f"project:{project_name}"})
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=tags)
    except (PrefectHTTPStatusError, HTTPError) as error:  # no flow fails without its tag
        log.warning("the run has no tag project:%s: %s", project_name, error)


def persistent_api_url() -> str | None:
    """Return the address of the Prefect server; None if that is temporary and ends with this process."""
    return None if settings.TEMPORARY_PREFECT in os.environ else PREFECT_API_URL.value()


@contextmanager
def one_training_at_a_time(project_name: str) -> Iterator[None]:
    """Wait for other trainings of the project, by a concurrency limit of Prefect. A temporary server has no limit.

    Raises:
        StillTraining: another training took more than TURN_SECONDS.
    """
    context = FlowRunContext.get()
    if not (context and persistent_api_url()):
        yield
        return
    name = limit_name(project_name)
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):  # another run has just created it
            client.upsert_global_concurrency_limit_by_name(name, 1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            log.info("waiting for another training of %s", project_name)
    age_seconds = (datetime.now(UTC) - context.start_time).total_seconds()
    sleep(min(SETTLE_SECONDS, max(0.0, SETTLE_SECONDS - age_seconds)))  # the clock may have been changed
    with _slot(name, project_name):
        yield


def limit_name(project_name: str) -> str:
    """Return the name of the project's limit, in which Prefect does not accept every character."""
    return f"frontrunner-train-{hashlib.sha256(project_name.encode()).hexdigest()[:12]}"


@contextmanager
def _slot(name: str, project_name: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            # A lease that cannot be renewed must not end a training: the registry is correct without the limit.
            stack.enter_context(
                concurrency(
                    name,
                    timeout_seconds=TURN_SECONDS,
                    lease_duration=LEASE_SECONDS,
                    strict=True,
                    raise_on_lease_renewal_failure=False,
                )
            )
        except TimeoutError as error:
            raise StillTraining(project_name, TURN_SECONDS, name) from error
        yield


def completed(message: str, result: Result) -> Result:
    """Return the result of a flow, in a flow run with the message that its page shows as the run's state."""
    return cast("Result", Completed(message=message, data=result)) if FlowRunContext.get() else result

"""A flow run besides its steps: its tag, one training at a time, which errors are retried, and its final message."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar, cast

from httpx import HTTPError
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed

from registry import settings
from registry.errors import RegistryUnavailable, SourceUnavailable, StillTraining, TrackingUnavailable

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

log = logging.getLogger("frontrunner")

Result = TypeVar("Result")

TRANSIENT_ERRORS = (RegistryUnavailable, SourceUnavailable, TrackingUnavailable)
TURN_SECONDS = 3600  # a training waits no longer for another one of its project
# Prefect's server on SQLite refuses a slot while it still records the run's start; its client then waits for seconds.
SETTLE_SECONDS = 0.2
LEASE_SECONDS = 60  # after a worker was killed, its project's next training waits that long


def is_transient(_task: "Task[Any, Any]", _run: "TaskRun", state: "State[Any]") -> bool:
    """Whether another try can help: a database or MLflow was away."""
    error = state.result(raise_on_failure=False)
    while isinstance(error, BaseException):
        if isinstance(error, TRANSIENT_ERRORS):
            return True
        error = error.__cause__
    return False


# How a step of a flow is made: nothing of it is cached, and it is tried again where that can help.
TASK_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": [1, 5, 20],
    "retry_condition_fn": is_transient,
}


def tag_flow_run(project_name: str) -> None:
    """The flow run can be found by its project.

    Not its tasks: Prefect asks for a limit of each tag before a task begins, and its server with SQLite may then answer
    503, which costs two seconds, if it writes something else meanwhile.
    """
    context = FlowRunContext.get()
    if not (context and context.flow_run):
        return
    tags = sorted({*context.flow_run.tags, f"project:{project_name}"})
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=tags)
    except (PrefectHTTPStatusError, HTTPError) as error:  # a rollback does not wait for its tag
        log.warning("the run has no tag project:%s: %s", project_name, error)


def persistent_api_url() -> str | None:
    """The address of a Prefect server that is there for others, too, and stays when this process ends."""
    return None if settings.TEMPORARY_PREFECT in os.environ else PREFECT_API_URL.value()


@contextmanager
def one_training_at_a_time(project_name: str) -> Iterator[None]:
    """One training of a project at a time, by a limit of Prefect's; a temporary server has none.

    Raises:
        StillTraining: another one took more than TURN_SECONDS.
    """
    context = FlowRunContext.get()
    if not (context and persistent_api_url()):
        yield
        return
    name = limit_name(project_name)
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):  # another run made it at this moment
            client.upsert_global_concurrency_limit_by_name(name, 1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            log.info("waiting for another training of %s", project_name)
    began = (datetime.now(UTC) - context.start_time).total_seconds()
    sleep(min(SETTLE_SECONDS, max(0.0, SETTLE_SECONDS - began)))  # whatever is done to the clock
    with _slot(name, project_name):
        yield


def limit_name(project_name: str) -> str:
    """The limit's name, in which not every character may stand."""
    return f"frontrunner-train-{hashlib.sha256(project_name.encode()).hexdigest()[:12]}"


@contextmanager
def _slot(name: str, project_name: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            # A lease that could not be renewed must not end a training: the registry is right without any turns.
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
    """What a flow returns, with the message that its page shows as the run's state."""
    return cast("Result", Completed(message=message, data=result)) if FlowRunContext.get() else result

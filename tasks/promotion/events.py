"""The event `frontrunner.deployed`, which triggers Prefect's automations."""

import logging
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect.client.orchestration import get_client
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.runtime import flow_run

from registry.timeouts import with_timeout
from registry.values import DeployResult
from tasks.flow_runs import persistent_api_url

log = logging.getLogger("frontrunner")

EVENT = "frontrunner.deployed"
EVENT_SECONDS = 10
PAYLOAD = (
    "project_name",
    "seq",
    "strategy",
    "model_id",
    "algorithm_name",
    "score",
    "previous_model_id",
    "previous_score",
    "deployed_by",
    "reason",
)


def emit_deployed(result: DeployResult) -> None:
    """Send the event to Prefect's server, if there is one. A failure is logged as a warning.

    The id of the event is derived from the deployment, so a repeated event is a duplicate.
    """
    if not persistent_api_url():
        return
    try:
        with_timeout(EVENT_SECONDS, "event", lambda: _send(_event(result)))
    except Exception as error:  # noqa: BLE001  (any failure: the deployment is committed)
        log.warning("the deployment stands, but was not announced to Prefect: %s", str(error) or type(error).__name__)


def _send(event: Event) -> None:
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()


def _event(result: DeployResult) -> Event:
    assert result.deployed_at is not None, "a new deployment has a timestamp"
    return Event(
        id=uuid5(NAMESPACE_URL, f"{EVENT}/{result.project_name}/{result.seq}/{result.deployed_at.isoformat()}"),
        event=EVENT,
        occurred=result.deployed_at,
        resource=Resource(_resource(result)),
        related=_related(),
        payload={name: getattr(result, name) for name in PAYLOAD},
    )


def _resource(result: DeployResult) -> dict[str, Any]:
    return {
        "prefect.resource.id": f"frontrunner.project.{result.project_name}",
        "prefect.resource.name": result.project_name,
        "frontrunner.project": result.project_name,
        "frontrunner.strategy": str(result.strategy),
        "frontrunner.model_id": str(result.model_id),
        "frontrunner.algorithm": result.algorithm_name,
    }


def _related() -> list[RelatedResource]:
    """Return the current flow run, if there is one."""
    run_id = flow_run.get_id()
    run = {"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}
    return [RelatedResource(run)] if run_id else []

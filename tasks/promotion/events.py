"""The event `frontrunner.deployed`, by which Prefect's automations know that another model answers."""

import logging
from uuid import NAMESPACE_URL, uuid5

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from registry import queries
from registry.timeouts import with_timeout
from tasks.flow_runs import persistent_api_url

log = logging.getLogger("frontrunner")

EVENT = "frontrunner.deployed"
LOOK_BACK = 100  # other deploys that came since
EVENT_SECONDS = 10  # a deploy waits no longer for Prefect


def emit_deployed(project_name: str, model_id: int) -> None:
    """Tells Prefect's server, if there is one, that the model went live: at the end of a deploy, which stands whatever
    comes.

    Once more for the same deployment is the same event.
    """
    if not persistent_api_url():
        return
    try:
        with_timeout(EVENT_SECONDS, "event", lambda: _send(project_name, model_id))
    except Exception as error:  # noqa: BLE001  (whatever it is: the deployment is committed and must be answered for)
        log.warning("the deployment stands, but Prefect was not told of it: %s", str(error) or type(error).__name__)


def _send(project_name: str, model_id: int) -> None:
    from prefect.events.schemas.events import Event, RelatedResource, Resource

    run_id = flow_run.get_id()
    rows = queries.history(project_name, limit=LOOK_BACK)
    number = next(number for number, row in enumerate(rows) if row.model_id == model_id)
    row, earlier = rows[number], rows[number + 1 : number + 2]
    about = {
        "project": project_name,
        "strategy": str(row.strategy),
        "model_id": str(row.model_id),
        "algorithm": row.algorithm_name,
    }
    run = {"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}
    event = Event(
        id=uuid5(NAMESPACE_URL, f"{EVENT}/{project_name}/{row.seq}/{row.deployed_at.isoformat()}"),
        event=EVENT,
        occurred=row.deployed_at,
        resource=Resource(
            {
                "prefect.resource.id": f"frontrunner.project.{project_name}",
                "prefect.resource.name": project_name,
                **{f"frontrunner.{name}": value for name, value in about.items()},
            }
        ),
        related=[RelatedResource(run)] if run_id else [],
        payload={
            "project_name": project_name,
            "seq": row.seq,
            "strategy": str(row.strategy),
            "model_id": row.model_id,
            "algorithm_name": row.algorithm_name,
            "score": row.score,
            "previous_model_id": earlier[0].model_id if earlier else None,
            "previous_score": earlier[0].score if earlier else None,
            "deployed_by": row.deployed_by,
            "reason": row.reason,
        },
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()

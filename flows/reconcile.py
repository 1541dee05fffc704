"""Put in order what crashes and outages left behind: MLflow follows the registry, what was lost is recorded."""

from typing import cast

from prefect import task
from prefect.states import Completed, Failed

from flows.parameters import flow_of
from tasks.flow_runs import TASK_OPTIONS
from tasks.parameters import ReconcileParameters
from tasks.upkeep.reconcile import Action
from tasks.upkeep.reconcile import reconcile as put_in_order


@flow_of(ReconcileParameters, name="reconcile", flow_run_name="reconcile")
def reconcile(given: ReconcileParameters) -> list[Action]:
    """Make MLflow follow the registry, record lost trainings as failed, and delete what belongs to nobody."""
    deeds = mend(given.project_name, given.dry_run)
    undone = [deed.said for deed in deeds if deed.done is False]
    message = "; ".join(undone or [deed.said for deed in deeds][:10]) or "all is in order"
    return cast("list[Action]", Failed(message=message) if undone else Completed(message=message, data=deeds))


@task(**TASK_OPTIONS, task_run_name="reconcile")
def mend(project_name: str | None, dry_run: bool) -> list[Action]:
    """Every project, or one, as a step of a flow."""
    return put_in_order(project_name, dry_run=dry_run)

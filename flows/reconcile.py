"""Put in order what crashes and outages left behind: MLflow follows the registry, what was lost is recorded."""

from typing import cast

from prefect import flow, task
from prefect.states import Completed, Failed

from tasks.callers import checked_switch
from tasks.flow_runs import TASK_OPTIONS
from tasks.upkeep.reconcile import Action
from tasks.upkeep.reconcile import reconcile as put_in_order


@flow(name="reconcile", flow_run_name="reconcile", validate_parameters=False)
def reconcile(project_name: str | None = None, dry_run: bool = False) -> list[Action]:
    """Make MLflow follow the registry, record lost trainings as failed, and delete what belongs to nobody.

    Args:
        project_name: Only this project; empty: every one.
        dry_run: Only say what would be done; nothing is changed.
    """
    deeds = mend(project_name or None, checked_switch("dry_run", dry_run))
    undone = [deed.said for deed in deeds if deed.done is False]
    message = "; ".join(undone or [deed.said for deed in deeds][:10]) or "all is in order"
    return cast("list[Action]", Failed(message=message) if undone else Completed(message=message, data=deeds))


@task(**TASK_OPTIONS, task_run_name="reconcile")
def mend(project_name: str | None, dry_run: bool) -> list[Action]:
    """Every project, or one, as a step of a flow."""
    return put_in_order(project_name, dry_run=dry_run)

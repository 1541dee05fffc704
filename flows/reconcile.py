"""The flow that repairs what crashes and outages left behind."""

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
    """Update MLflow from the registry, record lost trainings as failed, and delete files that belong to no model."""
    actions = reconcile_projects(given.project_name, given.dry_run)
    failures = [action.said for action in actions if action.done is False]
    message = "; ".join(failures or [action.said for action in actions][:10]) or "all is in order"
    return cast("list[Action]", Failed(message=message) if failures else Completed(message=message, data=actions))


@task(**TASK_OPTIONS, task_run_name="reconcile")
def reconcile_projects(project_name: str | None, dry_run: bool) -> list[Action]:
    """Reconcile every project, or one, as a step of a flow."""
    return put_in_order(project_name, dry_run=dry_run)

"""The last step of a manual deploy's flow: the page of its run."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import queries
from registry.values import DeployResult
from registry.vocabulary import WHY
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.manual import describe
from tasks.reporting.markdown import escaped, score_charts, table
from tasks.reporting.publish import publish
from tasks.reporting.tables import Lines, number


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_deploy(result: DeployResult, manual: ManualDeploy) -> None:
    """Show what was live, what is live now and how to undo it on the run's page."""
    publish("deploy", result.project_name, describe(result, manual), lambda: deploy_page(result, manual))


def deploy_page(result: DeployResult, manual: ManualDeploy) -> str:
    parts = [
        f"**{escaped(describe(result, manual))}**",
        table(_before_and_after(result)),
        f"Why this model: {WHY[result.strategy]}.",
    ]
    if manual.reason:
        parts.append(f"The reason that was given: {escaped(manual.reason)}")
    if result.changed and not result.planned:
        parts.append(_undo(result, manual))
    return "\n\n".join([*parts, *score_charts(result.project_name)])


def _before_and_after(result: DeployResult) -> Lines:
    states = {result.model_id: "would be live" if result.planned else "is live"}
    if result.changed and result.previous_model_id is not None:
        states = {result.previous_model_id: "is live" if result.planned else "was live"} | states
    lines = [["", "model", "algorithm", "score", "snapshot", "trained at"]]
    for model_id, state in states.items():
        model = queries.model(model_id)
        trained_at = f"{model.finished_at:%Y-%m-%d %H:%M} UTC" if model.finished_at else ""
        lines.append([state, str(model.id), model.algorithm, number(model.score), str(model.snapshot_id), trained_at])
    return lines


def _undo(result: DeployResult, manual: ManualDeploy) -> str:
    if result.previous_model_id is None:
        return "Nothing was live before it, so there is nothing to go back to."
    first = f"release model {result.previous_model_id} from quarantine, then " if manual.quarantine else ""
    return f"To undo it: {first}run the deployment `rollback` with project_name ``{result.project_name}``."

"""The pages of flow runs, as Markdown."""

import json
import re
from base64 import b64encode

from registry import queries
from registry.values import DeployResult, ModelRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, WHY
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.manual import describe
from tasks.reporting.links import mlflow_model, mlflow_run
from tasks.reporting.live_scores import live_scores
from tasks.reporting.publish import attempt
from tasks.reporting.results import TrainResult
from tasks.reporting.statistics_table import statistics_table
from tasks.reporting.tables import Lines, all_metrics, models_table, ranks
from tasks.values import Training

SHOWN_COLUMNS = 100  # of a snapshot
DRAWN_DEPLOYMENTS = 200  # in the chart


def training_page(result: TrainResult, training: Training, best: ModelRecord, previous_model_id: int | None) -> str:
    """The decision, the leaderboard with its MLflow runs, what has been live, and how the best model was made."""
    links = {row.model_id: mlflow_run(training.run.experiment_id, row.mlflow_run_id) for row in result.leaderboard}
    parts = [
        f"**{_escaped(result.reason)}**",
        _trained_on(training, result.project_name, previous_model_id),
        _table(ranks(result, links)),
        "All metrics:",
        _table(all_metrics(result)),
        *_over_time(result.project_name),
    ]
    if best.hyperparams:
        parts.append(f"{best.algorithm} with `{json.dumps(best.hyperparams)}`")
    if best.preprocessing:
        from tasks.estimators.preprocessing import preprocessing_lines  # a deploy does not wait for scikit-learn

        parts += [f"What {best.algorithm} does to each column:", _table(preprocessing_lines(best.preprocessing))]
    return "\n\n".join(parts)


def snapshot_page(snapshot_id: int) -> str:
    """The statistics of the first columns."""
    return _table(statistics_table(queries.snapshot_statistics(snapshot_id)[:SHOWN_COLUMNS]))


def deploy_page(result: DeployResult, request: ManualDeploy) -> str:
    """What was live, what is, why, and how to undo it."""
    parts = [
        f"**{_escaped(describe(result, request))}**",
        _table(models_table(_before_and_after(result))),
        f"Why this model: {WHY[result.strategy]}.",
    ]
    if request.reason:
        parts.append(f"The reason that was given: {_escaped(request.reason)}")
    if result.changed and not result.planned:
        parts.append(_undo(result, request))
    return "\n\n".join([*parts, *_over_time(result.project_name)])


def _trained_on(training: Training, project_name: str, previous_model_id: int | None) -> str:
    """The snapshots that the two sides were trained on, and where MLflow has what was live."""
    words = f"Trained on snapshot {training.snapshot_id}"
    if previous_model_id is not None:
        words += f", the live one then on {queries.model(previous_model_id).snapshot_id}"
    return f"{words}. {mlflow_model(queries.project(project_name).id)}".strip()


def _before_and_after(result: DeployResult) -> list[tuple[str, ModelRecord]]:
    models = [("would be live" if result.planned else "is live", result.model_id)]
    if result.changed and result.previous_model_id is not None:
        models.insert(0, ("is live" if result.planned else "was live", result.previous_model_id))
    return [(state, queries.model(model_id)) for state, model_id in models]


def _undo(result: DeployResult, request: ManualDeploy) -> str:
    if result.previous_model_id is None:
        return "Nothing was live before it, so there is nothing to go back to."
    first = f"release model {result.previous_model_id} from quarantine, then " if request.quarantine else ""
    return f"To undo it: {first}run the deployment `rollback` with project_name ``{result.project_name}``."


def _over_time(project_name: str) -> list[str]:
    """The chart of what has been live, once there is a change to see; a page goes without one that cannot be drawn."""
    return attempt("the page has no chart", lambda: _chart(project_name), instead=[])


def _chart(project_name: str) -> list[str]:
    rows = queries.history(project_name, limit=DRAWN_DEPLOYMENTS)[::-1]
    if len(rows) < 2:
        return []
    label = METRIC_LABEL[KEY_METRIC[queries.project(project_name).task]]
    image = b64encode(live_scores(rows, label)).decode()
    return [f"![the live model's {label} over time](data:image/png;base64,{image})"]


def _escaped(text: str) -> str:
    """The text as it is: what somebody wrote makes no link and no picture."""
    return re.sub(r"([\\\[\]<>|`*])", r"\\\1", text)


def _table(lines: Lines) -> str:
    head, *rows = lines
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)

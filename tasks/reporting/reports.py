"""What people read: the leaderboard and the decision, on the Prefect run page and at the terminal."""

import hashlib
import json
import logging
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from httpx import HTTPError
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError

from registry import queries
from registry.values import Decision, DeployResult, ModelRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, WHY, Task
from tasks.data.frozen_rows import rows
from tasks.predictions import PredictResult
from tasks.predictions import describe as predictions_said
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.manual import describe
from tasks.reporting.links import mlflow_model, mlflow_run, prefect_run
from tasks.reporting.statistics_table import statistics_table
from tasks.tracking.runs import note_run
from tasks.values import Training

log = logging.getLogger("frontrunner")

PAGE_COLUMNS = 100  # of a snapshot are shown on the run's page
CHART_DEPLOYMENTS = 200  # are drawn


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the leaderboard: where it failed, `score` is None, `metrics` is empty and `reason` is said."""

    algorithm: str
    score: float | None
    status: str
    model_id: int
    mlflow_run_id: str | None
    metrics: dict[str, float]
    reason: str | None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What `train` answers: the leaderboard, the best first; what was deployed (None: nothing), and why or why not.

    `decision_id` is the receipt's (None: automatic_deploy is off), `interval` that of the improvement where confidence
    was asked for, `baseline` the metrics of scikit-learn's dummy on the same test rows.
    """

    project_name: str
    task: Task
    snapshot_id: int
    leaderboard: tuple[Candidate, ...]
    deployed: bool
    deployed_model_id: int | None
    live_model_id: int | None
    reason: str
    decision_id: int | None
    interval: tuple[float, float] | None
    baseline: dict[str, float]


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_training(training: Training, models: list[ModelRecord], decision: Decision) -> TrainResult:
    """The result of a run; the decision and the leaderboard are put on the run's page."""
    ranked = sorted(models, key=lambda model: (model.score is None, -(model.score or 0), -model.id))
    result = TrainResult(
        project_name=decision.project_name,
        task=training.request.task,
        snapshot_id=training.snapshot_id,
        leaderboard=tuple(_candidate(model) for model in ranked),
        deployed=decision.deployed,
        deployed_model_id=decision.challenger_id if decision.deployed else None,
        live_model_id=decision.live_model_id,
        reason=decision.reason,
        decision_id=decision.id,
        interval=decision.interval,
        baseline=_baseline(training),
    )
    note_run(training.run.id, "\n\n".join(filter(None, [result.reason, prefect_run()])))
    if FlowRunContext.get():
        _publish("leaderboard", result.project_name, _page(result, training, ranked, decision), result.reason)
        statistics = queries.snapshot_statistics(training.snapshot_id)[:PAGE_COLUMNS]
        said_of = f"the columns of snapshot {training.snapshot_id}"
        _publish("snapshot", result.project_name, _markdown(statistics_table(statistics)), said_of)
    return result


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_deploy(result: DeployResult, asked: ManualDeploy) -> None:
    """What was live, what is, and how to undo it, on the run's page."""
    words = describe(result, asked)
    parts = [f"**{_plain(words)}**", _markdown(_before_and_after(result)), f"Why this model: {WHY[result.strategy]}."]
    if asked.reason:
        parts.append(f"The reason that was given: {_plain(asked.reason)}")
    if result.changed and not result.planned:
        parts.append(_undo(result, asked))
    _publish("deploy", result.project_name, "\n\n".join([*parts, *_over_time(result.project_name)]), words)


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_predictions(result: PredictResult) -> None:
    """What was scored by which model, on the run's page."""
    _publish("predictions", result.project_name, f"**{predictions_said(result)}**", predictions_said(result))


def leaderboard(result: TrainResult) -> list[list[str]]:
    """The leaderboard as lines of cells, the first one the head; a figure that a candidate does not have is empty."""
    key = KEY_METRIC[result.task]
    others = list(dict.fromkeys(name for row in result.leaderboard for name in row.metrics if name != key))
    failures = ["reason"] if any(row.reason for row in result.leaderboard) else []
    return [
        ["algorithm", METRIC_LABEL[key], *others, "status", "model", *failures],
        *(
            [
                row.algorithm,
                _figure(row.score),
                *(_figure(row.metrics.get(name)) for name in others),
                row.status,
                str(row.model_id),
                *([row.reason or ""] if failures else []),
            ]
            for row in result.leaderboard
        ),
        [
            "baseline",
            _figure(result.baseline.get(key)),
            *(_figure(result.baseline.get(name)) for name in others),
            "",
            "",
            *([""] if failures else []),
        ],
    ]


def _baseline(training: Training) -> dict[str, float]:
    from tasks.estimators.scoring import baseline_metrics

    found = rows(queries.snapshot(training.snapshot_id))
    return baseline_metrics(training.request.task, found.y_train, found.y_test)


def _page(result: TrainResult, training: Training, ranked: list[ModelRecord], decision: Decision) -> str:
    """The decision, the leaderboard with its MLflow runs, what has been live, and how the best model was made."""
    parts = [f"**{_plain(result.reason)}**", _trained_on(training, decision), _markdown(_ranks(result, training))]
    parts += ["All metrics:", _markdown(_all_metrics(result)), *_over_time(result.project_name)]
    best = ranked[0]
    if best.hyperparams:
        parts.append(f"{best.algorithm} with `{json.dumps(best.hyperparams)}`")
    if best.preprocessing:
        from tasks.estimators.preprocessing import preprocessing_lines

        parts += [f"What {best.algorithm} does to each column:", _markdown(preprocessing_lines(best.preprocessing))]
    return "\n\n".join(parts)


def _ranks(result: TrainResult, training: Training) -> list[list[str]]:
    """The leaderboard as the page has room for it."""
    key = KEY_METRIC[result.task]
    return [
        ["algorithm", METRIC_LABEL[key], "fit seconds", "status", "model", "MLflow"],
        *(
            [
                row.algorithm,
                _figure(row.score),
                _figure(row.metrics.get("fit_time")),
                row.reason or row.status,
                str(row.model_id),
                mlflow_run(training.run.experiment_id, row.mlflow_run_id),
            ]
            for row in result.leaderboard
        ),
        ["baseline", _figure(result.baseline.get(key)), "", "", "", ""],
    ]


def _all_metrics(result: TrainResult) -> list[list[str]]:
    rows = [(row.algorithm, row.metrics) for row in result.leaderboard] + [("baseline", result.baseline)]
    names = list(dict.fromkeys(name for _, metrics in rows for name in metrics))
    return [
        ["", *names],
        *([algorithm, *(_figure(metrics.get(name)) for name in names)] for algorithm, metrics in rows),
    ]


def _plain(text: str) -> str:
    """As it is: what somebody wrote makes no link and no picture."""
    return re.sub(r"([\\\[\]<>|`*])", r"\\\1", text)


def _markdown(lines: list[list[str]]) -> str:
    head, *rows = lines
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def _candidate(model: ModelRecord) -> Candidate:
    return Candidate(
        model.algorithm, model.score, model.status, model.id, model.mlflow_run_id, model.metrics, model.reason
    )


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _trained_on(training: Training, decision: Decision) -> str:
    """Which rows each side was trained on, and where MLflow has what was live."""
    words = f"Trained on snapshot {training.snapshot_id}"
    if decision.previous_model_id is not None:
        words += f", the live one then on {queries.model(decision.previous_model_id).snapshot_id}"
    return f"{words}. {mlflow_model(queries.project(decision.project_name).id)}".strip()


def _before_and_after(result: DeployResult) -> list[list[str]]:
    went = "would be live" if result.planned else "is live"
    models = [(went, result.model_id)]
    if result.changed and result.previous_model_id is not None:
        models.insert(0, ("is live" if result.planned else "was live", result.previous_model_id))
    rows = [(when, queries.model(model_id)) for when, model_id in models]
    return [
        ["", "model", "algorithm", "score", "snapshot", "trained at"],
        *(
            [
                when,
                str(row.id),
                row.algorithm,
                _figure(row.score),
                str(row.snapshot_id),
                f"{row.finished_at:%Y-%m-%d %H:%M} UTC" if row.finished_at else "",
            ]
            for when, row in rows
        ),
    ]


def _undo(result: DeployResult, asked: ManualDeploy) -> str:
    if result.previous_model_id is None:
        return "Nothing was live before it, so there is nothing to go back to."
    first = f"release model {result.previous_model_id} from quarantine, then " if asked.quarantine else ""
    return f"To undo it: {first}run the deployment `rollback` with project_name ``{result.project_name}``."


def _over_time(project_name: str) -> list[str]:
    """Return the chart of the live model's score, once there is a change to see."""
    from tasks.reporting.live_scores import live_scores  # matplotlib is slow to import, and flows import this module

    rows = queries.history(project_name, limit=CHART_DEPLOYMENTS)[::-1]
    if len(rows) < 2:
        return []
    key = METRIC_LABEL[KEY_METRIC[queries.project(project_name).task]]
    image = b64encode(live_scores(rows, key)).decode()
    return [f"![the live model's {key} over time](data:image/png;base64,{image})"]


def _publish(key: str, project_name: str, markdown: str, description: str) -> None:
    """On the run's page; in the list of artifacts each project has its own. Outside of a flow run there is no page."""
    if FlowRunContext.get():
        name = re.sub("[^a-z0-9]+", "-", project_name.lower()).strip("-")
        if name != project_name:  # others may come to the same
            name = f"{name}-{hashlib.sha256(project_name.encode()).hexdigest()[:6]}".strip("-")
        try:
            create_markdown_artifact(markdown, key=f"{name}-{key}", description=description)
        except (PrefectHTTPStatusError, HTTPError) as error:  # what was done is done
            log.warning("the run's page has no %s: %s", key, error)

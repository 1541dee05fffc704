"""What people read: the leaderboard and the decision, on the Prefect run page and at the terminal."""

import json
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from registry import queries
from registry.values import Decision, DeployResult, ModelRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Task
from tasks.predictions import PredictResult
from tasks.promotion import Asked, said
from tasks.snapshots import Training, rows
from tasks.statistics import statistics_table

PAGE_COLUMNS = 100  # of a snapshot are shown on the run's page


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
    _publish("leaderboard", _page(result, ranked[0]), result.reason)
    statistics = queries.snapshot_statistics(training.snapshot_id)[:PAGE_COLUMNS]
    _publish("snapshot", _markdown(statistics_table(statistics)), f"the columns of snapshot {training.snapshot_id}")
    return result


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_deploy(result: DeployResult, asked: Asked) -> None:
    """What was live, what is, and how to undo it, on the run's page."""
    done = result.changed and not result.planned
    undo = f"\n\nTo undo it, run `rollback` for `{result.project_name}`." if done else ""
    _publish("deploy", f"**{said(result, asked)}**{undo}", said(result, asked))


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_predictions(result: PredictResult) -> None:
    """What was scored by which model, on the run's page."""
    model = f"{result.algorithm_name} (model {result.model_id})"
    scored = f"{result.rows:,} rows of {result.relation_name} were scored by {model}"
    _publish("predictions", f"**{scored}** into {result.output}", scored)


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
    from tasks.scoring import baseline_metrics

    found = rows(queries.snapshot(training.snapshot_id))
    return baseline_metrics(training.request.task, found.y_train, found.y_test)


def _page(result: TrainResult, best: ModelRecord) -> str:
    """The decision, the leaderboard, and how the best model was made."""
    parts = [f"**{result.reason}**", _markdown(leaderboard(result))]
    if best.hyperparams:
        parts.append(f"{best.algorithm} with `{json.dumps(best.hyperparams)}`")
    if best.preprocessing:
        from tasks.preprocessing import preprocessing_lines

        parts += [f"What {best.algorithm} does to each column:", _markdown(preprocessing_lines(best.preprocessing))]
    return "\n\n".join(parts)


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


def _publish(key: str, markdown: str, description: str) -> None:
    """Outside of a flow run there is no page to write on."""
    if FlowRunContext.get():
        create_markdown_artifact(markdown, key=key, description=description)

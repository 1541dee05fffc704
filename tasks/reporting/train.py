"""The last step of a training's flow: its result, MLflow's note and the pages of its run."""

import json
from dataclasses import fields

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import queries
from registry.values import Decision, ModelRecord
from tasks.data.frozen_rows import rows
from tasks.estimators.preprocessing import preprocessing_lines
from tasks.estimators.scoring import baseline_metrics
from tasks.reporting.links import mlflow_model, mlflow_run, prefect_run
from tasks.reporting.markdown import escaped, score_charts, table
from tasks.reporting.publish import attempt, publish
from tasks.reporting.results import Candidate, TrainResult
from tasks.reporting.statistics_table import statistics_table
from tasks.reporting.tables import all_metrics, ranks
from tasks.tracking.runs import note_run
from tasks.values import Training

SHOWN_COLUMNS = 100  # of a snapshot


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_training(training: Training, models: list[ModelRecord], decision: Decision) -> TrainResult:
    """Return the result of a run; show the decision, the leaderboard and the snapshot on the run's page."""
    ranked = sorted(models, key=lambda model: (model.score is None, -(model.score or 0), -model.id))
    result = _train_result(training, ranked, decision)
    attempt("MLflow's run has no note", lambda: _note(training, result), instead=None)
    publish(
        "leaderboard",
        result.project_name,
        result.reason,
        lambda: training_page(result, training, ranked[0], decision.previous_model_id),
    )
    publish(
        "snapshot",
        result.project_name,
        f"the columns of snapshot {training.snapshot_id}",
        lambda: snapshot_page(training.snapshot_id),
    )
    return result


def training_page(result: TrainResult, training: Training, best: ModelRecord, previous_model_id: int | None) -> str:
    """Return the decision, the leaderboard with links to MLflow, the live scores, and how the best model was made."""
    links = {row.model_id: mlflow_run(training.run.experiment_id, row.mlflow_run_id) for row in result.leaderboard}
    parts = [
        f"**{escaped(result.reason)}**",
        _snapshots(training, result.project_name, previous_model_id),
        table(ranks(result, links)),
        "All metrics:",
        table(all_metrics(result)),
        *score_charts(result.project_name),
    ]
    if best.hyperparams:
        parts.append(f"{best.algorithm} with `{json.dumps(best.hyperparams)}`")
    if best.preprocessing:
        parts += [f"What {best.algorithm} does to each column:", table(preprocessing_lines(best.preprocessing))]
    return "\n\n".join(parts)


def snapshot_page(snapshot_id: int) -> str:
    return table(statistics_table(queries.snapshot_statistics(snapshot_id)[:SHOWN_COLUMNS]))


def _snapshots(training: Training, project_name: str, previous_model_id: int | None) -> str:
    """Return the snapshots that the two sides were trained on, and a link to the registered model."""
    text = f"Trained on snapshot {training.snapshot_id}"
    if previous_model_id is not None:
        text += f", the live one then on {queries.model(previous_model_id).snapshot_id}"
    return f"{text}. {mlflow_model(queries.project(project_name).id)}".strip()


def _train_result(training: Training, ranked: list[ModelRecord], decision: Decision) -> TrainResult:
    return TrainResult(
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
        baseline=attempt("the leaderboard has no baseline", lambda: _baseline(training), instead={}),
    )


def _candidate(model: ModelRecord) -> Candidate:
    same = {field.name: getattr(model, field.name) for field in fields(Candidate) if field.name != "model_id"}
    return Candidate(model_id=model.id, **same)


def _baseline(training: Training) -> dict[str, float]:
    data = rows(queries.snapshot(training.snapshot_id))
    return baseline_metrics(training.request.task, data.y_train, data.y_test)


def _note(training: Training, result: TrainResult) -> None:
    note_run(training.run.id, "\n\n".join(filter(None, [result.reason, prefect_run()])))

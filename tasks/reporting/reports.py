"""The last steps of the flows: their results, and what people read on the Prefect run page."""

from dataclasses import fields

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import queries
from registry.values import Decision, DeployResult, ModelRecord
from tasks.data.frozen_rows import rows
from tasks.predictions import PredictResult
from tasks.predictions import describe as describe_predictions
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.manual import describe as describe_deploy
from tasks.reporting.links import prefect_run
from tasks.reporting.pages import deploy_page, snapshot_page, training_page
from tasks.reporting.publish import attempt, publish
from tasks.reporting.results import Candidate, TrainResult
from tasks.tracking.runs import note_run
from tasks.values import Training


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_training(training: Training, models: list[ModelRecord], decision: Decision) -> TrainResult:
    """Return the result of a run; put the decision and the leaderboard on the run's page."""
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


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_deploy(result: DeployResult, request: ManualDeploy) -> None:
    """Put what was live, what is, and how to undo it, on the run's page."""
    publish("deploy", result.project_name, describe_deploy(result, request), lambda: deploy_page(result, request))


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_predictions(result: PredictResult) -> None:
    """Put how many rows were scored by which model on the run's page."""
    words = describe_predictions(result)
    publish("predictions", result.project_name, words, lambda: f"**{words}**")


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
    from tasks.estimators.scoring import baseline_metrics  # a deploy does not wait for scikit-learn

    found = rows(queries.snapshot(training.snapshot_id))
    return baseline_metrics(training.request.task, found.y_train, found.y_test)


def _note(training: Training, result: TrainResult) -> None:
    note_run(training.run.id, "\n\n".join(filter(None, [result.reason, prefect_run()])))

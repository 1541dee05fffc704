"""One candidate: fit it, score it, save it, record it. No Prefect here, so that a candidate's process needs none."""

import logging
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

from registry import lifecycle, queries
from registry.errors import CandidateFailed, FrontrunnerError, RegistryUnavailable
from registry.serving.features import features
from registry.serving.proof import golden_answers
from registry.values import ModelRecord, SnapshotRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Status, Task
from tasks.data import frozen_rows
from tasks.estimators.pipeline import new_pipeline
from tasks.estimators.search import run_search
from tasks.tracking import models, runs
from tasks.training.threads import cores_shared, limited
from tasks.values import Found, Outcome, Rows, Training, TrainingRequest

log = logging.getLogger("frontrunner")


class Fitted(NamedTuple):
    """A fitted and scored candidate; `found` is what its search tried, None without one."""

    pipeline: Any
    hyperparams: dict[str, Any]
    preprocessing: dict[str, dict[str, Any]]
    found: Found | None
    score: float
    metrics: dict[str, float]
    predicted: Any  # for the test rows


def train_alone(training: Training, algorithm: str, threads: int) -> Outcome:
    """Train a candidate that has this process to itself: BLAS has one limit for all of a process."""
    with cores_shared(threads):
        return train_one(training, algorithm, threads)


def train_one(training: Training, algorithm: str, threads: int) -> Outcome:
    """Fit, score, save and record one candidate.

    Raises:
        CandidateFailed: it could not be trained; the reason is recorded.
        RegistryUnavailable: there is nowhere to record it.
    """
    snapshot = queries.snapshot(training.snapshot_id)
    model = start(training, snapshot, algorithm)
    if model.status is not Status.RUNNING:  # a run that is retried had finished this one, or it was cancelled
        return Outcome(model.id)
    log.info("%s: training", algorithm)
    with limited(threads):
        return _train(training, snapshot, model, threads)


def start(training: Training, snapshot: SnapshotRecord, algorithm: str, *, again: bool = False) -> ModelRecord:
    """Record that the candidate is being trained."""
    key, hyperparams = f"{training.key}:{algorithm}", training.request.hyperparams[algorithm]
    return lifecycle.start_model(snapshot, algorithm, hyperparams, key, again=again)


def _train(training: Training, snapshot: SnapshotRecord, model: ModelRecord, threads: int) -> Outcome:
    run_id = None
    try:
        run_id = runs.start_candidate(training.run, model, snapshot)
        rows = frozen_rows.rows(snapshot)
        fitted = fit(training.request, model.algorithm, rows, threads)
        golden = _golden(snapshot, replace(model, preprocessing=fitted.preprocessing), fitted.pipeline)
        if queries.model(model.id).status is Status.CANCELLED:  # nobody waits for it any more
            return Outcome(model.id)
        artifact, mlflow_model_id = models.save_model(
            training.run, run_id, model, fitted.pipeline, rows.X_train, rows.y_train
        )
    except RegistryUnavailable:
        raise
    except Exception as error:  # whatever a library raises: it must not sink the other candidates
        raise _failed(model, run_id, error) from error
    lifecycle.finish_model(
        model.id,
        hyperparams=fitted.hyperparams,
        preprocessing=fitted.preprocessing,
        score=fitted.score,
        metrics=fitted.metrics,
        golden=golden,
        artifact=artifact,
        mlflow_run_id=run_id,
        mlflow_model_id=mlflow_model_id,
    )
    label = METRIC_LABEL[KEY_METRIC[training.request.task]]
    log.info("%s: %s %.4f in %.2f s", model.algorithm, label, fitted.score, fitted.metrics["fit_time"])
    _describe(training.request.task, snapshot, model.algorithm, run_id, mlflow_model_id, fitted, rows)
    return Outcome(model.id, fitted.predicted)


def _failed(model: ModelRecord, run_id: str | None, error: Exception) -> CandidateFailed:
    reason = one_line(error)
    log.warning("%s: failed: %s", model.algorithm, reason)
    if run_id:
        runs.end_run(run_id, "FAILED", reason)
    lifecycle.fail_model(model.id, reason, run_id)
    return CandidateFailed(f"{model.algorithm}: {reason}")


def _describe(
    task: Task,
    snapshot: SnapshotRecord,
    algorithm: str,
    run_id: str,
    mlflow_model_id: str,
    fitted: Fitted,
    rows: Rows,
) -> None:
    """Log metrics, tables and plots to MLflow. The model is trained and recorded: a failure is a warning."""
    try:
        runs.log_metrics(run_id, mlflow_model_id, snapshot, fitted.metrics)
        runs.log_tables(run_id, fitted.found, fitted.preprocessing)
        runs.log_plots(run_id, _plots(task, fitted, rows))
    except Exception as error:  # noqa: BLE001  (whatever a library raises: nobody needs a plot to deploy a model)
        log.warning("%s is trained, but its MLflow run is incomplete: %s", algorithm, one_line(error))
    runs.end_run(run_id, "FINISHED")


def fit(request: TrainingRequest, algorithm: str, rows: Rows, threads: int) -> Fitted:
    """Search hyperparameters where that was requested, then fit on all training rows and score on the test rows."""
    from tasks.estimators.scoring import score  # scikit-learn: only the process that fits needs it

    hyperparams, found = request.hyperparams[algorithm], None
    if request.search and algorithm in request.search.params:
        found = _search(request, algorithm, rows, threads)
        hyperparams = hyperparams | found.params
    pipeline, _, preprocessing = new_pipeline(request, algorithm, hyperparams, rows, threads)
    started = perf_counter()
    pipeline.fit(rows.X_train, rows.y_train)
    fit_time = perf_counter() - started
    key_metric, metrics, predicted = score(request.task, pipeline, rows.X_test, rows.y_test)
    metrics["fit_time"] = fit_time
    return Fitted(pipeline, hyperparams, preprocessing, found, key_metric, metrics, predicted)


def _search(request: TrainingRequest, algorithm: str, rows: Rows, threads: int) -> Found:
    assert request.search is not None
    pipeline, prefix, _ = new_pipeline(request, algorithm, request.hyperparams[algorithm], rows, threads)
    return run_search(
        request.search,
        request.task,
        algorithm,
        pipeline,
        prefix,
        rows.X_train,
        rows.y_train,
        request.seed,
        lambda trial: _log_trial(algorithm, trial, METRIC_LABEL[KEY_METRIC[request.task]]),
    )


def _log_trial(algorithm: str, trial: dict[str, Any], label: str) -> None:
    outcome = trial["state"] if trial["state"] != "complete" else f"{label} {trial['mean']:.4f}"
    log.info("%s: trial %d: %s with %s", algorithm, trial["trial"] + 1, outcome, trial["params"])


def _golden(snapshot: SnapshotRecord, model: ModelRecord, pipeline: Any) -> list[Any]:
    """Return the answers for the snapshot's golden rows, predicted as for an application."""
    rows, _ = queries.golden(model.id)
    return golden_answers(pipeline, features(snapshot, model), rows)


def _plots(task: Task, fitted: Fitted, rows: Rows) -> dict[str, Any]:
    from tasks.estimators.plots import model_plots, search_plot  # matplotlib: the flow's own process draws nothing

    figures: dict[str, Any] = dict(model_plots(task, fitted.pipeline, rows.X_test, rows.y_test, fitted.predicted))
    if fitted.found:
        figures["search"] = search_plot(fitted.found.trials, METRIC_LABEL[KEY_METRIC[task]])
    return figures


def one_line(error: BaseException) -> str:
    """Return an error in one line, with its type unless the error is ours and speaks for itself."""
    printable = "".join(character if character.isprintable() else " " for character in str(error))
    printable = printable.partition("Stack trace:")[0]  # xgboost's
    text = " ".join(printable.split())[:500]
    return text if isinstance(error, FrontrunnerError) and text else f"{type(error).__name__}: {text}"

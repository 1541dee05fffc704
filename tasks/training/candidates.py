"""One candidate: fit it, score it, save it, record it. A candidate that fails is recorded and fails alone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from prefect import task, unmapped
from prefect.futures import wait

from registry import lifecycle, queries, settings
from registry.errors import CandidateFailed, FrontrunnerError, RegistryUnavailable
from registry.serving.features import features
from registry.serving.proof import golden_answers
from registry.values import ModelRecord, SnapshotRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Status
from registry.vocabulary import Task as MlTask
from tasks.data import frozen_rows, predicted
from tasks.estimators.algorithms import LONGEST_FIRST
from tasks.estimators.pipeline import new_pipeline
from tasks.estimators.search import run_search
from tasks.flow_runs import TASK_OPTIONS
from tasks.tracking import models, runs
from tasks.training import dask, processes
from tasks.training.processes import ProcessLost
from tasks.training.threads import cores_shared, limited
from tasks.values import Found, Rows, Training, TrainingRequest

log = logging.getLogger("frontrunner")


class Trained(NamedTuple):
    """A fitted and scored candidate; `found` is what its search tried, None without one."""

    pipeline: Any
    hyperparams: dict[str, Any]
    preprocessing: dict[str, dict[str, Any]]
    found: Found | None
    score: float
    metrics: dict[str, float]
    predicted: Any  # for the test rows


@task(**TASK_OPTIONS, task_run_name="begin candidates")
def begin_candidates(training: Training) -> None:
    """Records them in the order in which they were asked for: of equal scores the newest wins, whichever ends first."""
    snapshot = queries.snapshot(training.snapshot_id)
    for algorithm in training.request.algorithms:
        _begin(training, snapshot, algorithm, again=True)


@task(**TASK_OPTIONS, task_run_name="train {algorithm}")
def train_candidate(training: Training, algorithm: str, threads: int | None, rows: Path | None = None) -> int:
    """One candidate as a step of a flow; its model's id. A Dask worker is told no threads: it has its own.

    With the file of `snapshots.rows_shared` it is trained in a process of its own, if one is free.
    """
    if threads and rows and (worker := processes.free()):
        return _in_process(worker, training, algorithm, threads, rows)
    with dask.dask_slot(training, algorithm) if threads is None else nullcontext(threads) as share:
        return candidate(training, algorithm, share).id


def train_candidates(training: Training, threads: int, rows: Path | None = None) -> list[ModelRecord]:
    """Every candidate as it was recorded, the failed ones too; each is a task of the flow. `rows`: see there."""
    begin_candidates(training)
    algorithms = longest_first(training.request)
    if scheduler := settings.candidates_on():
        return _on_dask(scheduler, training, algorithms)
    for together in [[name] for name in algorithms] if training.one_by_one else [algorithms]:
        futures = train_candidate.map(unmapped(training), together, unmapped(threads), unmapped(rows))
        wait(list(futures))  # for all of them, before one that could not be recorded ends the run
        for future in futures:
            with suppress(CandidateFailed):
                future.result()
        if training.one_by_one:
            frozen_rows.give_back()
    return queries.run_models(training.request.project_name, f"{training.key}:")


def longest_first(request: TrainingRequest) -> list[str]:
    """The algorithms in the order in which they begin, so that none is left over that takes long: searches, then what
    takes long by itself.
    """
    searched = request.search.params if request.search else {}
    last = len(LONGEST_FIRST)
    rank = {name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else last for name in request.algorithms}
    return sorted(request.algorithms, key=lambda name: (name not in searched, rank[name]))


@contextmanager
def rows_for_processes(training: Training) -> Iterator[Path | None]:
    """The file of the rows if candidates have processes; those that run one after the other have the flow's."""
    if training.one_by_one or not processes.are_there():
        yield None
        return
    with frozen_rows.rows_shared(queries.snapshot(training.snapshot_id)) as path:
        yield path


def _in_process(worker: processes.Worker, training: Training, algorithm: str, threads: int, rows: Path) -> int:
    """The same in a process of its own. A candidate whose process is lost is recorded as failed, and why."""
    try:
        model_id, predicted = worker.call(_alone, training, algorithm, threads, rows)
    except ProcessLost as lost:
        begun = queries.run_models(training.request.project_name, f"{training.key}:")
        model = next(each for each in begun if each.algorithm == algorithm)
        if model.status not in lifecycle.UNDECIDED:
            return model.id
        reason = model.reason or str(lost)  # it may have said why, and was lost then
        log.warning("%s: failed: %s", algorithm, reason)
        lifecycle.fail_model(model.id, reason, model.mlflow_run_id)
        runs.end_abandoned(training.run, model.id)
        raise CandidateFailed(f"{algorithm}: {reason}") from lost
    if predicted is not None:
        predicted.remember(model_id, predicted)
    return model_id


def _alone(training: Training, algorithm: str, threads: int, rows: Path) -> tuple[int, Any]:
    """The candidate that this process has been called for; its model's id, and what it predicted for the test rows."""
    frozen_rows.take_shared(queries.snapshot(training.snapshot_id), rows)
    with cores_shared(threads), predicted.predictions_kept():
        model_id = candidate(training, algorithm, threads).id
        return model_id, predicted.remembered(model_id)


def _on_dask(scheduler: str, training: Training, algorithms: list[str]) -> list[ModelRecord]:
    """The same on a Dask cluster. A candidate that no worker brought to an end is recorded as failed, and why."""
    with dask.connected(scheduler) as client:
        errors = dask.run_on(client, train_candidate, training, algorithms)
    for model in queries.run_models(training.request.project_name, f"{training.key}:"):
        if model.status is Status.RUNNING and model.algorithm in errors:
            reason = one_line(errors[model.algorithm])
            log.warning("%s: failed: %s", model.algorithm, reason)
            lifecycle.fail_model(model.id, reason, None)
    runs.end_abandoned(training.run)
    return queries.run_models(training.request.project_name, f"{training.key}:")


def _begin(training: Training, snapshot: SnapshotRecord, algorithm: str, *, again: bool = False) -> ModelRecord:
    key, hyperparams = f"{training.key}:{algorithm}", training.request.hyperparams[algorithm]
    return lifecycle.start_model(snapshot, algorithm, hyperparams, key, again=again)


def candidate(training: Training, algorithm: str, threads: int) -> ModelRecord:
    """Fits, scores, saves and records one candidate.

    Raises:
        CandidateFailed: it could not be done; that is recorded with its reason.
        RegistryUnavailable: there is nowhere to record it.
    """
    request = training.request
    snapshot = queries.snapshot(training.snapshot_id)
    model = _begin(training, snapshot, algorithm)
    if model.status is not Status.RUNNING:  # a run that is tried again had finished this one, or it was cancelled
        return model
    log.info("%s: training", algorithm)
    run_id = None
    try:
        run_id = runs.start_candidate(training.run, model, snapshot)
        rows = frozen_rows.rows(snapshot)
        with limited(threads), _named(algorithm):
            done = _trained(request, algorithm, rows, threads)
            figures = _figures(request.task, done, rows)
            golden = _golden(snapshot, replace(model, preprocessing=done.preprocessing), done.pipeline)
        if (given_up := queries.model(model.id)).status is Status.CANCELLED:  # nobody waits for it any more
            return given_up
        predicted.remember(model.id, done.predicted)
        artifact, mlflow_model_id = models.save_model(
            training.run, run_id, model, done.pipeline, rows.X_train, rows.y_train
        )
        runs.log_metrics(run_id, mlflow_model_id, snapshot, done.metrics)
        runs.log_details(run_id, done.found, done.preprocessing, figures)
        runs.end_run(run_id, "FINISHED")
    except RegistryUnavailable:
        raise
    except Exception as error:  # whatever a library raises: it must not sink the other candidates
        reason = one_line(error)
        log.warning("%s: failed: %s", algorithm, reason)
        if run_id:
            runs.end_run(run_id, "FAILED", reason)
        lifecycle.fail_model(model.id, reason, run_id)
        raise CandidateFailed(f"{algorithm}: {reason}") from error
    label = METRIC_LABEL[KEY_METRIC[request.task]]
    log.info("%s: %s %.4f in %.2f s", algorithm, label, done.score, done.metrics["fit_time"])
    return lifecycle.finish_model(
        model.id,
        hyperparams=done.hyperparams,
        preprocessing=done.preprocessing,
        score=done.score,
        metrics=done.metrics,
        golden=golden,
        artifact=artifact,
        mlflow_run_id=run_id,
        mlflow_model_id=mlflow_model_id,
    )


def _trained(request: TrainingRequest, algorithm: str, rows: Rows, threads: int) -> Trained:
    """Searches where that was asked for, then fits on all training rows and scores on the test rows."""
    from tasks.estimators.scoring import score

    hyperparams, found = request.hyperparams[algorithm], None
    if request.search and algorithm in request.search.params:
        pipeline, prefix, _ = new_pipeline(request, algorithm, hyperparams, rows, threads)
        found = run_search(
            request.search,
            request.task,
            algorithm,
            pipeline,
            prefix,
            rows.X_train,
            rows.y_train,
            request.seed,
            lambda trial: _tell_trial(algorithm, trial, METRIC_LABEL[KEY_METRIC[request.task]]),
        )
        hyperparams = hyperparams | found.params
    pipeline, _, preprocessing = new_pipeline(request, algorithm, hyperparams, rows, threads)
    started = perf_counter()
    pipeline.fit(rows.X_train, rows.y_train)
    fit_time = perf_counter() - started
    key_metric, metrics, predicted = score(request.task, pipeline, rows.X_test, rows.y_test)
    metrics["fit_time"] = fit_time
    return Trained(pipeline, hyperparams, preprocessing, found, key_metric, metrics, predicted)


def _golden(snapshot: SnapshotRecord, model: ModelRecord, pipeline: Any) -> list[Any]:
    """What it answers for the snapshot's golden rows, asked as an application asks."""
    rows, _ = queries.golden(model.id)
    return golden_answers(pipeline, features(snapshot, model), rows)


def _tell_trial(algorithm: str, trial: dict[str, Any], label: str) -> None:
    outcome = trial["state"] if trial["state"] != "complete" else f"{label} {trial['mean']:.4f}"
    log.info("%s: trial %d: %s with %s", algorithm, trial["trial"] + 1, outcome, trial["params"])


def _figures(task: MlTask, done: Trained, rows: Rows) -> dict[str, Any]:
    from tasks.estimators.plots import model_plots, search_plot

    figures: dict[str, Any] = dict(model_plots(task, done.pipeline, rows.X_test, rows.y_test, done.predicted))
    if done.found:
        figures["search"] = search_plot(done.found.trials, METRIC_LABEL[KEY_METRIC[task]])
    return figures


@contextmanager
def _named(algorithm: str) -> Iterator[None]:
    """What a library warns of is told with the candidate's name."""
    before = processes.candidate_at_work.set(algorithm)
    try:
        yield
    finally:
        processes.candidate_at_work.reset(before)


def one_line(error: BaseException) -> str:
    """An error in one line; the type is said unless the error is ours and speaks for itself."""
    printable = "".join(character if character.isprintable() else " " for character in str(error))
    printable = printable.partition("Stack trace:")[0]  # xgboost's
    said = " ".join(printable.split())[:500]
    return said if isinstance(error, FrontrunnerError) and said else f"{type(error).__name__}: {said}"

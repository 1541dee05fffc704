"""The candidates of a training as steps of a flow, each in a process of its own or on a Dask cluster."""

import logging
from contextlib import suppress

from prefect import task, unmapped
from prefect.futures import wait

from registry import lifecycle, queries, settings
from registry.errors import CandidateFailed
from registry.values import ModelRecord
from registry.vocabulary import Status
from tasks.data import frozen_rows, predicted
from tasks.estimators.algorithms import LONGEST_FIRST
from tasks.flow_runs import TASK_OPTIONS
from tasks.tracking import runs
from tasks.training import dask, fit, processes
from tasks.training.processes import ProcessLost
from tasks.values import Outcome, Training, TrainingRequest

log = logging.getLogger("frontrunner")


@task(**TASK_OPTIONS, task_run_name="begin candidates")
def begin_candidates(training: Training) -> None:
    """Record the candidates in the order of the request: of equal scores the newest wins, whichever ends first."""
    snapshot = queries.snapshot(training.snapshot_id)
    for algorithm in training.request.algorithms:
        fit.start(training, snapshot, algorithm, again=True)


@task(**TASK_OPTIONS, task_run_name="train {algorithm}")
def train_candidate(training: Training, algorithm: str, threads: int | None) -> Outcome:
    """Train one candidate in a process of its own; without `threads` in this thread, which is a Dask worker's.

    Dask's workers may not start processes, and Dask gives the candidate of a lost worker to another one.
    """
    if threads is None:
        with dask.dask_slot(training, algorithm) as share:
            return fit.train_one(training, algorithm, share)._replace(predicted=None)  # the file answers, too
    try:
        return processes.call(f"{training.key}:{algorithm}", fit.train_alone, training, algorithm, threads)
    except ProcessLost as lost:
        return _record_lost(training, algorithm, lost)


def prepare_processes() -> None:
    """Start the processes' fork server early, unless the candidates are trained on a Dask cluster."""
    if not settings.candidates_on():
        processes.start_server()


def train_candidates(training: Training, threads: int) -> list[ModelRecord]:
    """Return every candidate as it was recorded, the failed ones too; each is a task of the flow."""
    begin_candidates(training)
    algorithms = longest_first(training.request)
    if scheduler := settings.candidates_on():
        _train_on_dask(scheduler, training, algorithms)
    else:
        frozen_rows.forget()  # of large rows there must not be a second copy
        for together in [[name] for name in algorithms] if training.one_by_one else [algorithms]:
            _train_here(training, together, threads)
    return queries.run_models(training.request.project_name, f"{training.key}:")


def longest_first(request: TrainingRequest) -> list[str]:
    """Return the algorithms in the order in which they begin, so that none that takes long is left over at the end:
    searches first, then the algorithms that are slow to fit.
    """
    searched = request.search.params if request.search else {}
    last = len(LONGEST_FIRST)
    rank = {name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else last for name in request.algorithms}
    return sorted(request.algorithms, key=lambda name: (name not in searched, rank[name]))


def _train_here(training: Training, algorithms: list[str], threads: int) -> None:
    futures = train_candidate.map(unmapped(training), algorithms, unmapped(threads))
    wait(list(futures))  # for all of them, before one that could not be recorded ends the run
    for future in futures:
        with suppress(CandidateFailed):
            outcome = future.result()
            if outcome.predicted is not None:
                predicted.remember(outcome.model_id, outcome.predicted)


def _record_lost(training: Training, algorithm: str, lost: ProcessLost) -> Outcome:
    """Record a candidate as failed whose process was lost, unless it was trained or given up by then."""
    model = _recorded(training, algorithm)
    if model.status is Status.TRAINED:
        log.warning("%s is trained, but its MLflow run is incomplete: %s", algorithm, lost)
        runs.end_run(str(model.mlflow_run_id), "FINISHED")
    if model.status not in lifecycle.UNDECIDED:
        return Outcome(model.id)
    reason = model.reason or str(lost)  # it may have recorded a reason, and was lost then
    log.warning("%s: failed: %s", algorithm, reason)
    lifecycle.fail_model(model.id, reason, model.mlflow_run_id)
    runs.end_abandoned(training.run, model.id)
    raise CandidateFailed(f"{algorithm}: {reason}") from lost


def _recorded(training: Training, algorithm: str) -> ModelRecord:
    models = queries.run_models(training.request.project_name, f"{training.key}:")
    return next(model for model in models if model.algorithm == algorithm)


def _train_on_dask(scheduler: str, training: Training, algorithms: list[str]) -> None:
    """Train on a Dask cluster. A candidate that no worker brought to an end is recorded as failed, with the reason."""
    with dask.connected(scheduler) as client:
        errors = dask.run_on(client, train_candidate, training, algorithms)
    for model in queries.run_models(training.request.project_name, f"{training.key}:"):
        if model.status is Status.RUNNING and model.algorithm in errors:
            reason = fit.one_line(errors[model.algorithm])
            log.warning("%s: failed: %s", model.algorithm, reason)
            lifecycle.fail_model(model.id, reason, None)
    runs.end_abandoned(training.run)

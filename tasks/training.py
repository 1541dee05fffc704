"""One candidate: fit it, score it, save it, record it. A candidate that fails is recorded and fails alone."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

from joblib import cpu_count
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait

from registry import history, queries
from registry.errors import CandidateFailed, FrontrunnerError, RegistryUnavailable
from registry.values import ModelRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Status
from registry.vocabulary import Task as MlTask
from tasks import snapshots, tracking
from tasks.snapshots import Training

log = logging.getLogger("frontrunner")


@task(cache_policy=NO_CACHE, task_run_name="train {algorithm}")
def train_candidate(training: Training, algorithm: str, threads: int) -> int:
    """One candidate as a step of a flow; its model's id."""
    return candidate(training, algorithm, threads).id


def finished(training: Training, futures: Iterable[PrefectFuture[int]]) -> list[ModelRecord]:
    """Waits for the candidates; all of them as they were recorded, the failed ones too."""
    futures = list(futures)
    try:
        wait(futures)  # all of them, before one that could not be recorded ends the run
        for future in futures:
            with suppress(CandidateFailed):
                future.result()
    finally:
        snapshots.forget_rows()
    return queries.run_models(training.request.project_name, f"{training.key}:")


def candidate(training: Training, algorithm: str, threads: int) -> ModelRecord:
    """Fits, scores, saves and records one candidate.

    Raises:
        CandidateFailed: it could not be done; that is recorded with its reason.
        RegistryUnavailable: there is nowhere to record it.
    """
    request = training.request
    snapshot = queries.snapshot(training.snapshot_id)
    model = history.start_model(snapshot, algorithm, request.hyperparams[algorithm], f"{training.key}:{algorithm}")
    if model.status is Status.TRAINED:  # a retry of a run that had finished this one
        return model
    log.info("%s: training", algorithm)
    run_id = None
    try:
        run_id = tracking.start_candidate(training.run, model, snapshot, request.project_name, training.key)
        rows = snapshots.rows(snapshot)
        from tasks.scoring import score

        with _limited(threads):
            pipeline, fit_time = fit(request.task, algorithm, model.hyperparams, rows, request.seed, threads)
            key_metric, metrics = score(request.task, pipeline, rows.X_test, rows.y_test)
        metrics = {**metrics, "fit_time": fit_time}
        artifact, mlflow_model_id = tracking.save_model(
            training.run, run_id, model, pipeline, rows.X_train, rows.y_train
        )
        tracking.log_metrics(run_id, mlflow_model_id, snapshot, metrics)
        tracking.end_run(run_id, "FINISHED")
    except RegistryUnavailable:
        raise
    except Exception as error:  # whatever a library raises: it must not sink the other candidates
        reason = _reason(error)
        log.warning("%s: failed: %s", algorithm, reason)
        if run_id:
            tracking.end_run(run_id, "FAILED", reason)
        history.fail_model(model.id, reason, run_id)
        raise CandidateFailed(f"{algorithm}: {reason}") from error
    log.info("%s: %s %.4f in %.2f s", algorithm, METRIC_LABEL[KEY_METRIC[request.task]], key_metric, fit_time)
    return history.finish_model(
        model.id,
        score=key_metric,
        metrics=metrics,
        artifact=artifact,
        mlflow_run_id=run_id,
        mlflow_model_id=mlflow_model_id,
    )


def fit(
    task: MlTask, algorithm: str, hyperparams: dict[str, Any], rows: snapshots.Rows, seed: int, threads: int
) -> tuple[Any, float]:
    """A pipeline fitted on the training rows, and the seconds that the fit alone took."""
    from sklearn.ensemble import VotingClassifier
    from sklearn.pipeline import Pipeline

    from tasks.algorithms import THREADS, needs_encoded_labels, new_estimator
    from tasks.preprocessing import preprocessor

    limit = {THREADS[algorithm]: threads} if algorithm in THREADS else {}
    estimator = new_estimator(task, algorithm, limit | hyperparams, seed)
    takes_gaps = estimator.__sklearn_tags__().input_tags.allow_nan
    if needs_encoded_labels(estimator):
        # A vote of one: scikit-learn's own class encodes the labels and gives the original ones back.
        # n_jobs=1 keeps it in this thread, whose limit holds for no other.
        estimator = VotingClassifier([(algorithm, estimator)], voting="soft", n_jobs=1)
    prepared = preprocessor(task, rows.X_train, takes_gaps=takes_gaps, seed=seed)
    pipeline = Pipeline([("preprocessing", prepared), ("model", estimator)])
    started = perf_counter()
    pipeline.fit(rows.X_train, rows.y_train)
    return pipeline, perf_counter() - started


def threads_each(candidates: int) -> int:
    """Candidates that run at once times their threads make the machine's cores."""
    cores = workers()
    return max(1, cores // min(cores, candidates))


def workers() -> int:
    """How many candidates run at once: the cores that this process may use, in a container too."""
    return int(cpu_count())


@contextmanager
def cores_shared(threads: int) -> Iterator[None]:
    """BLAS has one limit for the whole process: the thread that waits for the candidates holds it, not theirs."""
    import scipy.linalg  # noqa: F401  (only a BLAS that is loaded can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        yield


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """OpenMP (scikit-learn's trees, xgboost) and joblib have limits that are this thread's alone."""
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="openmp"), parallel_config(backend="threading", n_jobs=threads):
        yield


def _reason(error: Exception) -> str:
    """One line; the type is said unless the error is ours and speaks for itself."""
    printable = "".join(character if character.isprintable() else " " for character in str(error))
    said = " ".join(printable.split())[:500]
    return said if isinstance(error, FrontrunnerError) and said else f"{type(error).__name__}: {said}"

"""Build a candidate's unfitted pipeline from its preprocessing and its estimator."""

from typing import Any

from sklearn.ensemble import VotingClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline

from tasks.estimators.algorithms import THREADS, needs_encoded_labels, new_estimator
from tasks.estimators.preprocessing import preprocessor, resolved
from tasks.values import Rows, TrainingRequest


def new_pipeline(
    request: TrainingRequest, algorithm: str, hyperparams: dict[str, Any], rows: Rows, threads: int
) -> tuple[Any, str, dict[str, dict[str, Any]]]:
    """Return an unfitted pipeline, the prefix of a hyperparameter's name in it, and the options of each column."""
    limit = {THREADS[algorithm]: threads} if algorithm in THREADS else {}
    estimator = new_estimator(request.task, algorithm, limit | hyperparams, request.seed)
    tags, prefix = estimator.__sklearn_tags__(), "model__"
    if needs_encoded_labels(estimator):
        # scikit-learn's own class encodes the labels of its only voter and returns the original ones.
        # n_jobs=1 keeps the fit in this thread, because the OpenMP limit of a thread holds only for itself.
        estimator = VotingClassifier([(algorithm, estimator)], voting="soft", n_jobs=1)
        prefix += f"{algorithm}__"
    # Bagging's tag is wrong: its trees do support several targets.
    if rows.y_train.ndim > 1 and not tags.target_tags.multi_output and algorithm != "bagging":
        estimator, prefix = MultiOutputRegressor(estimator, n_jobs=1), f"{prefix}estimator__"
    chosen = resolved(rows.X_train, request.preprocess, allow_missing=tags.input_tags.allow_nan)
    prepared = preprocessor(request.task, rows.X_train, chosen, seed=request.seed)
    return Pipeline([("preprocessing", prepared), ("model", estimator)]), prefix, chosen

"""An unfitted pipeline: preprocessing and the estimator."""

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
    """An unfitted pipeline, what stands before a hyperparameter's name in it, and what is done to each column."""
    limit = {THREADS[algorithm]: threads} if algorithm in THREADS else {}
    estimator = new_estimator(request.task, algorithm, limit | hyperparams, request.seed)
    tags, prefix = estimator.__sklearn_tags__(), "model__"
    if needs_encoded_labels(estimator):
        # A vote of one: scikit-learn's own class encodes the labels and gives the original ones back.
        # n_jobs=1 keeps it in this thread, whose limit holds for no other.
        estimator = VotingClassifier([(algorithm, estimator)], voting="soft", n_jobs=1)
        prefix += f"{algorithm}__"
    # Bagging's tag says no, but its trees take several targets.
    if rows.y_train.ndim > 1 and not tags.target_tags.multi_output and algorithm != "bagging":
        estimator, prefix = MultiOutputRegressor(estimator, n_jobs=1), f"{prefix}estimator__"
    takes_gaps = tags.input_tags.allow_nan
    chosen = resolved(rows.X_train, request.preprocess, takes_gaps=takes_gaps)
    prepared = preprocessor(request.task, rows.X_train, chosen, seed=request.seed)
    return Pipeline([("preprocessing", prepared), ("model", estimator)]), prefix, chosen

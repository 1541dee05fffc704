"""Metrics on the test rows. A higher key metric is better, and a candidate without a finite one fails."""

import math
from time import perf_counter
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from registry.errors import CandidateFailed
from registry.vocabulary import KEY_METRIC, Task


def score(task: Task, pipeline: Any, X_test: Any, y_test: Any) -> tuple[float, dict[str, float], Any]:
    """Return the key metric, all metrics and the predictions of a fitted pipeline on the test rows.

    With two labels f1, precision and recall are those of the larger one, with more the mean over the labels (macro). An
    undefined ratio counts as 0. roc_auc and log_loss need two labels. `score_time` is the seconds of predicting.

    Raises:
        CandidateFailed: the key metric is not a finite number.
    """
    started = perf_counter()
    predicted = predictions(pipeline, X_test)
    took = perf_counter() - started
    if task is Task.REGRESSION:
        measured = _regression(y_test, predicted)
    else:
        labels = np.union1d(pipeline.classes_, y_test)  # a rare label may be among the test rows only
        measured = _classification(y_test, predicted, labels)
        if len(labels) == 2:
            measured |= _ranking(pipeline, X_test, np.asarray(y_test) == labels[1])
    key = measured[KEY_METRIC[task]]
    if not math.isfinite(key):
        raise CandidateFailed(f"its {KEY_METRIC[task]} on the test rows is {key}, not a finite number")
    return float(key), _finite(measured) | {"score_time": took}, predicted


def predictions(pipeline: Any, X: Any) -> Any:
    """Predict in one thread: with several, the order in which a forest's trees are added changes the last digits."""
    with parallel_config("sequential"):
        return np.asarray(pipeline.predict(X))


def key_metric(task: Task, y: Any, predicted: Any, labels: Any) -> float:
    """Return the key metric, NaN if it is undefined. `labels` are all labels that could have been predicted."""
    if task is Task.REGRESSION:
        finite = np.isfinite(predicted).all()
        return float(metrics.r2_score(y, predicted)) if finite else math.nan
    return float(metrics.f1_score(y, predicted, zero_division=0, **_average(labels)))


def baseline(task: Task, y_train: Any, rows: int) -> Any:
    """Return the predictions of scikit-learn's dummy: the most frequent label, or the mean of each target."""
    dummy = DummyRegressor() if task is Task.REGRESSION else DummyClassifier()
    return dummy.fit(np.zeros((len(y_train), 1)), y_train).predict(np.zeros((rows, 1)))


def baseline_metrics(task: Task, y_train: Any, y_test: Any) -> dict[str, float]:
    """Return the metrics of the baseline that need predictions only."""
    predicted = baseline(task, y_train, len(y_test))
    if task is Task.REGRESSION:
        return _finite(_regression(y_test, predicted))
    return _finite(_classification(y_test, predicted, np.union1d(y_train, y_test)))


def _finite(measured: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in measured.items() if math.isfinite(value)}


def _regression(y_test: Any, predicted: Any) -> dict[str, float]:
    if not np.isfinite(predicted).all():
        raise CandidateFailed("it predicts values that are not finite numbers")
    return {
        "r2": metrics.r2_score(y_test, predicted),
        "mean_absolute_error": metrics.mean_absolute_error(y_test, predicted),
        "mean_squared_error": metrics.mean_squared_error(y_test, predicted),
    }


def _classification(y_test: Any, predicted: Any, labels: Any) -> dict[str, float]:
    average = _average(labels)
    measured = {
        "f1": metrics.f1_score(y_test, predicted, zero_division=0, **average),
        "precision": metrics.precision_score(y_test, predicted, zero_division=0, **average),
        "recall": metrics.recall_score(y_test, predicted, zero_division=0, **average),
        "accuracy": metrics.accuracy_score(y_test, predicted),
    }
    if len(np.unique(y_test)) > 1:
        measured["mcc"] = metrics.matthews_corrcoef(y_test, predicted)
    return measured


def _average(labels: Any) -> dict[str, Any]:
    return {"average": "binary", "pos_label": labels[1]} if len(labels) == 2 else {"average": "macro"}


def _ranking(pipeline: Any, X_test: Any, positive: Any) -> dict[str, float]:
    """Return metrics of the probabilities; without them, only roc_auc from the decision function."""
    if positive.all() or not positive.any():
        return {}
    if hasattr(pipeline, "predict_proba"):
        probability = pipeline.predict_proba(X_test)[:, 1]
        return {
            "roc_auc": metrics.roc_auc_score(positive, probability),
            "log_loss": metrics.log_loss(positive, probability),
        }
    return {"roc_auc": metrics.roc_auc_score(positive, pipeline.decision_function(X_test))}

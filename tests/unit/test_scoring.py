"""Metrics, beside scikit-learn's own on the same predictions."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from registry.errors import CandidateFailed
from registry.vocabulary import Task
from tasks.estimators.scoring import score

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION


def test_regression() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(X[:300], y[:300])
    key, measured, _ = score(REGRESSION, model, X[300:], y[300:])
    predicted = model.predict(X[300:])
    assert key == measured["r2"] == metrics.r2_score(y[300:], predicted)
    assert measured["mean_absolute_error"] == metrics.mean_absolute_error(y[300:], predicted)
    assert measured["mean_squared_error"] == metrics.mean_squared_error(y[300:], predicted)


def test_three_classes_are_averaged_with_equal_weight() -> None:
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    key, measured, _ = score(CLASSIFICATION, model, X[1::2], y[1::2])
    predicted = model.predict(X[1::2])
    assert key == measured["f1"] == metrics.f1_score(y[1::2], predicted, average="macro")
    assert measured["precision"] == metrics.precision_score(y[1::2], predicted, average="macro")
    assert measured["recall"] == metrics.recall_score(y[1::2], predicted, average="macro")
    assert {"roc_auc", "log_loss"}.isdisjoint(measured)


@pytest.mark.parametrize("names", [[0, 1], ["benign", "malignant"], [False, True], [1, 2]])
def test_two_classes_are_scored_for_the_larger_label(names) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    labels = np.array(names)[y]
    model = LogisticRegression(max_iter=10_000).fit(X[::2], labels[::2])
    key, measured, _ = score(CLASSIFICATION, model, X[1::2], labels[1::2])
    positive, predicted = y[1::2] == 1, model.predict(X[1::2]) == names[1]
    assert key == metrics.f1_score(positive, predicted)
    assert measured["precision"] == metrics.precision_score(positive, predicted)
    assert measured["roc_auc"] == metrics.roc_auc_score(positive, model.predict_proba(X[1::2])[:, 1])
    assert measured["log_loss"] == metrics.log_loss(positive, model.predict_proba(X[1::2])[:, 1])


def test_a_class_that_is_among_the_test_rows_alone_counts_as_one_more() -> None:
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X[:100], y[:100])
    key, measured, _ = score(CLASSIFICATION, model, X, y)
    assert key == metrics.f1_score(y, model.predict(X), average="macro")
    assert "roc_auc" not in measured


def test_without_probabilities_the_decision_function_ranks() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    model = LinearSVC().fit(X[::2], y[::2])
    measured = score(CLASSIFICATION, model, X[1::2], y[1::2])[1]
    assert measured["roc_auc"] == metrics.roc_auc_score(y[1::2], model.decision_function(X[1::2]))
    assert "log_loss" not in measured


def test_a_share_of_nothing_counts_as_zero_and_warns_of_nothing() -> None:
    X, y = np.zeros((10, 1)), np.array([0] * 6 + [1] * 4)
    model = DummyClassifier(strategy="constant", constant=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        key, measured, _ = score(CLASSIFICATION, model, X, y)
    assert key == measured["precision"] == measured["recall"] == 0


def test_test_rows_of_one_class_still_have_a_score() -> None:
    X = pd.DataFrame({"x": range(10)})
    model = DummyClassifier(strategy="prior").fit(X, [0, 1] * 5)
    assert "roc_auc" not in score(CLASSIFICATION, model, X, np.zeros(10))[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_fails_the_candidate(bad: float) -> None:
    class Overflowing:
        def predict(self, X):
            return np.full(len(X), bad)

    with pytest.raises(CandidateFailed, match="not finite"):
        score(REGRESSION, Overflowing(), [[0], [1]], np.array([0.0, 1.0]))

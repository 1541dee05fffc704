"""Every algorithm of the catalogue, fitted on numbers, gaps and text; saved and loaded by our list of types."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_diabetes, load_iris

from registry.errors import ArtifactChanged, ArtifactMissing, BadHyperparameter
from registry.serving.artifacts import TRUSTED_TYPES, describe, load_pipeline
from registry.serving.features import Feature, Features
from registry.serving.inputs import aligned
from registry.serving.served_pipeline import ServedPipeline
from registry.vocabulary import Task
from tasks.estimators.algorithms import ALGORITHMS, EXTRAS, NAMES, new_estimator
from tasks.estimators.pipeline import new_pipeline
from tasks.values import Rows
from tests.support.requests import request

CATALOGUE = [(task, name) for task in Task for name in ALGORITHMS[task]]


def rows(task: Task) -> Rows:
    """150 or 442 rows: numbers, one in ten missing in a column, two kinds of text; iris by name or diabetes."""
    data = load_iris(as_frame=True) if task is Task.CLASSIFICATION else load_diabetes(as_frame=True)
    X, draw = data.data.iloc[:, :4].copy(), np.random.default_rng(0)
    X["few"] = pd.Series(draw.choice(["red", "green"], len(X)), dtype="str")
    X["many"] = pd.Series([f"town {number}" for number in draw.integers(0, 30, len(X))], dtype="str")
    X.loc[draw.random(len(X)) < 0.1, ["few", X.columns[0]]] = None
    y = data.target_names[data.target].astype(str) if task is Task.CLASSIFICATION else data.target.to_numpy()
    order = draw.permutation(len(X))
    train, test = order[:-40], order[-40:]
    return Rows(X.iloc[train], y[train], X.iloc[test], y[test])


def trained(task: Task, name: str, hyperparams: dict[str, Any], given: Rows) -> Any:
    return new_pipeline(request(task), name, hyperparams, given, threads=1)[0].fit(given.X_train, given.y_train)


@pytest.mark.parametrize(("task", "name"), CATALOGUE, ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")  # lightgbm behind the transformer
def test_it_fits_and_comes_back_from_its_file_with_the_same_answers(task: Task, name: str, tmp_path: Path) -> None:
    given = rows(task)
    pipeline = trained(task, name, {}, given)
    path = tmp_path / "model.skops"
    skops.io.dump(pipeline, path)
    loaded = load_pipeline(describe(path, path.as_uri()))
    predicted = pipeline.predict(given.X_test)
    assert np.array_equal(np.ravel(loaded.predict(given.X_test)), np.ravel(predicted))
    if task is Task.CLASSIFICATION:
        assert set(np.ravel(predicted)) <= {"setosa", "versicolor", "virginica"}
    if hasattr(pipeline, "predict_proba"):
        assert np.array_equal(loaded.predict_proba(given.X_test), pipeline.predict_proba(given.X_test))


VARIANTS: list[tuple[Task, str, dict[str, Any]]] = [
    *((task, name, {}) for task, name in CATALOGUE),
    *(
        (Task.REGRESSION, "kernel_ridge", kernel)
        for kernel in ({"kernel": "chi2", "gamma": 1.0}, {"kernel": "laplacian"})
    ),
    *((Task.CLASSIFICATION, "knn", {"algorithm": each}) for each in ("ball_tree", "brute")),
    (Task.CLASSIFICATION, "svm", {"kernel": "linear"}),
]


@pytest.mark.parametrize(("task", "name", "hyperparams"), VARIANTS, ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_its_model_alone_answers_as_the_whole_pipeline(task: Task, name: str, hyperparams: dict[str, Any]) -> None:
    """The very same digits, of classifiers that were trained on whole numbers and regressors on fractions."""
    given = rows(task)
    numbers = [column for column in given.X_train if given.X_train[column].dtype == float]
    X = pd.concat([given.X_train, given.X_test])[numbers].fillna(0)
    X = (X * 10).round().astype("int64") if task is Task.CLASSIFICATION else X - X.min()
    train, test = X[: len(given.y_train)], X[len(given.y_train) :]
    pipeline = trained(task, name, hyperparams, Rows(train, given.y_train, test, given.y_test))
    kind = "int64" if task is Task.CLASSIFICATION else "double"
    ours = ServedPipeline(pipeline, Features(Feature(column, kind, used=True, nullable=True) for column in numbers))
    by_rows = pd.DataFrame(np.ascontiguousarray(test.to_numpy()), columns=numbers, copy=False)
    for asked in (test, by_rows, test.head(1), test.astype("float32"), test.round().astype("int64")):
        alone, table = ours.prepare(asked), aligned(asked, ours.features)
        assert isinstance(alone, np.ndarray)
        assert np.array_equal(ours.predict(alone), pipeline.predict(table))
        if hasattr(pipeline, "predict_proba"):
            assert np.array_equal(ours.predict_proba(alone), pipeline.predict_proba(table))


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "canberra", "braycurtis", "euclidean"])
@pytest.mark.parametrize("algorithm", ["ball_tree", "brute"])
def test_knns_other_trees_and_metrics_come_back_too(algorithm: str, metric: str, tmp_path: Path) -> None:
    given, path = rows(Task.REGRESSION), tmp_path / "model.skops"
    pipeline = trained(Task.REGRESSION, "knn", {"algorithm": algorithm, "metric": metric}, given)
    skops.io.dump(pipeline, path)
    loaded = load_pipeline(describe(path, path.as_uri()))
    assert np.array_equal(loaded.predict(given.X_test), pipeline.predict(given.X_test))


@pytest.mark.parametrize(("task", "name"), CATALOGUE, ids=str)
def test_a_parameter_that_it_does_not_have_is_refused(task: Task, name: str) -> None:
    with pytest.raises(BadHyperparameter, match=f"{name} has no hyperparameter 'no_such'"):
        new_estimator(task, name, {"no_such": 1}, seed=0)


@pytest.mark.parametrize(("task", "name"), CATALOGUE, ids=str)
def test_what_draws_random_numbers_draws_them_from_the_seed(task: Task, name: str) -> None:
    parameters = new_estimator(task, name, {}, seed=7).get_params()
    assert parameters.get("random_state", 7) == 7
    if "random_state" in parameters:
        assert new_estimator(task, name, {"random_state": 3}, seed=7).get_params()["random_state"] == 3


def test_the_names_are_postgresmls() -> None:
    assert len(NAMES) == 32
    assert set(EXTRAS) < set(NAMES)


class TestOnlyWhatWasRecordedIsOpened:
    def test_another_file(self, tmp_path: Path) -> None:
        path = tmp_path / "model.skops"
        path.write_bytes(b"what was saved")
        recorded = describe(path, path.as_uri())
        path.write_bytes(b"what was shoved")
        with pytest.raises(ArtifactChanged, match="is not the file that was recorded"):
            load_pipeline(recorded)

    def test_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "model.skops"
        path.write_bytes(b"what was saved")
        recorded = describe(path, path.as_uri())
        path.unlink()
        with pytest.raises(ArtifactMissing, match="cannot be read"):
            load_pipeline(recorded)

    def test_no_type_that_is_not_ours_to_trust(self) -> None:
        assert not [name for name in TRUSTED_TYPES if name.startswith(("tasks.", "flows.", "registry.", "builtins."))]

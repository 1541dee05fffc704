"""The search, beside scikit-learn's own on the same folds; what it refuses; and what comes of trials that fail."""

import logging
import sys
import threading
import warnings
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from joblib import effective_n_jobs, parallel_config
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor, VotingClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

from registry.errors import BadHyperparameter, CandidateFailed, InvalidInput, MissingExtra, UnknownValue
from registry.vocabulary import Task
from tasks.estimators.algorithms import LONGEST_FIRST, NAMES
from tasks.estimators.search import run_search
from tasks.estimators.search_space import checked_search
from tasks.parameters import TrainParameters
from tasks.training.candidates import longest_first
from tasks.validation import check
from tasks.values import Found, Search, trials_table
from tests.support.limits import threads
from tests.support.requests import request

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION
FOREST = {"max_depth": [1, 3, 5], "min_samples_leaf": [1, 10], "n_estimators": [5, 10]}


def model(estimator: Any) -> Pipeline:
    return Pipeline([("model", estimator)])


def svm() -> Pipeline:
    return Pipeline([("preprocessing", StandardScaler()), ("model", SVC(random_state=0))])


def asked(search: Any, params: Any, args: Any = None, algorithms=("svm",), hyperparams=None) -> Search | None:
    given = check(
        TrainParameters, {"project_name": "p", "search": search, "search_params": params, "search_args": args}
    )
    return checked_search(
        given.search, given.search_params, given.search_args, CLASSIFICATION, list(algorithms), hyperparams or {}
    )


def found(search: str, params: Any, X: Any, y: Any, estimator: Any, task=CLASSIFICATION, seed=0, **args: Any) -> Found:
    """As a training does it; the pipeline's last step is the algorithm that is called svm here."""
    pipeline = estimator if isinstance(estimator, Pipeline) else model(estimator)
    return run_search(Search(search, {"svm": params}, args), task, "svm", pipeline, "model__", pd.DataFrame(X), y, seed)


def column(trials: list[dict[str, Any]], name: str) -> list[Any]:
    return [trial[name] for trial in trials]


# --- what can be asked for -------------------------------------------------------------------------------------------


def test_no_search_is_none() -> None:
    assert asked(None, None) is None


@pytest.mark.parametrize(
    ("search", "args"),
    [
        ("grid", {"cv": 5}),
        ("random", {"cv": 5, "n_iter": 10}),
        ("optuna", {"cv": 5, "n_trials": 20, "timeout": None}),
    ],
)
def test_arguments_have_defaults_and_one_algorithm_needs_no_name(search: str, args: dict[str, Any]) -> None:
    expected = Search(search, {"svm": {"C": [1, 10]}}, args)
    assert asked(search, {"C": [1, 10]}) == asked(search, {"svm": {"C": (1, 10)}}, {}) == expected
    assert asked(search, {"C": [1, 10]}, {"cv": 3}).args["cv"] == 3


def test_some_of_several_algorithms_are_searched() -> None:
    params = {"svm": {"C": [1]}, "knn": {"n_neighbors": [1, 3]}}
    assert asked("grid", params, algorithms=("svm", "linear", "knn")).params == params


@pytest.mark.parametrize("params", [{"quantile": {"low": 0.1, "high": 0.9}}, {"quantile": {"quantile": [0.1, 0.9]}}])
def test_an_algorithm_may_have_a_parameter_of_its_own_name(params) -> None:
    search = checked_search("optuna", params, None, REGRESSION, ["quantile"], {})
    assert list(search.params) == list(search.params["quantile"]) == ["quantile"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"low": 1, "high": 9}, {"low": 1, "high": 9, "log": False}),
        ({"low": 1, "high": 9.5}, {"low": 1.0, "high": 9.5, "log": False}),
        ({"low": 1, "high": 100, "log": True}, {"low": 1, "high": 100, "log": True}),
        ({"low": 10, "high": 200, "step": 50}, {"low": 10, "high": 160, "step": 50}),
        ({"low": 0, "high": 1, "step": 0.25, "log": False}, {"low": 0.0, "high": 1.0, "step": 0.25}),
        ({"low": 0.1, "high": 1.05, "step": 0.1}, {"low": 0.1, "high": 1.0, "step": 0.1}),
        ([1, "a", None, [1, 2]], [1, "a", None, [1, 2]]),
    ],
)
def test_optuna_takes_ranges_and_choices(given, taken) -> None:
    values = asked("optuna", {"C": given}).params["svm"]["C"]
    assert values == taken
    assert [type(value) for value in values] == [type(value) for value in taken]
    if isinstance(taken, dict):
        assert [type(value) for value in values.values()] == [type(value) for value in taken.values()]


C = {"C": [1, 10]}
REFUSED = [
    (UnknownValue, "choose one of grid, random, optuna", ("bayes", C)),
    (UnknownValue, "choose one of grid", (["grid"], C)),
    (InvalidInput, "need a search: choose one of grid", (None, C)),
    (InvalidInput, "need a search", (None, None, {"cv": 3})),
    (InvalidInput, "search='grid' needs search_params", ("grid", None)),
    (InvalidInput, "search='optuna' needs search_params", ("optuna", {})),
    (InvalidInput, "search_params is {algorithm: {parameter: [values]}}, not [1, 2]", ("random", [1, 2])),
    (
        BadHyperparameter,
        "for 'knn', which is not among the algorithms: ['svm']",
        ("grid", {"knn": {"n_neighbors": [1]}}),
    ),
    (BadHyperparameter, "for 'C', which is not among", ("grid", C, None, ("svm", "knn"))),
    (BadHyperparameter, "'svm' are not {parameter: values}: {}", ("grid", {"svm": {}})),
    (BadHyperparameter, "'svm' are not {parameter: values}: [1]", ("grid", {"svm": [1]}, None, ("svm", "knn"))),
    (BadHyperparameter, "svm has no hyperparameter 'depth'; it has C, ", ("grid", {"depth": [1]})),
    (BadHyperparameter, "'C' of 'svm' is in both", ("grid", C, None, ("svm",), {"svm": {"C": 2}})),
    (BadHyperparameter, "'C' of 'svm' is not a list of the values to try: 1", ("grid", {"C": 1})),
    (BadHyperparameter, "not a list of the values to try: 'rbf'", ("random", {"kernel": "rbf"})),
    (BadHyperparameter, "not a list of the values to try: []", ("optuna", {"C": []})),
    (BadHyperparameter, "'C' of 'svm' cannot be written as JSON", ("grid", {"C": [1, float("nan")]})),
    (BadHyperparameter, "cannot be written as JSON", ("optuna", {"C": {"low": 1, "high": float("inf")}})),
    (BadHyperparameter, "cannot be written as JSON", ("grid", {"C": np.array([1, 2])})),
    (BadHyperparameter, "a range, which only search='optuna' takes", ("grid", {"C": {"low": 1, "high": 2}})),
    (BadHyperparameter, "a range, which only search='optuna' takes", ("random", {"C": {"low": 1, "high": 2}})),
    (BadHyperparameter, 'is not {"low": a, "high": b}', ("optuna", {"C": {"low": 1}})),
    (BadHyperparameter, 'is not {"low": a, "high": b}', ("optuna", {"C": {"low": 1, "high": "2"}})),
    (BadHyperparameter, 'is not {"low": a, "high": b}', ("optuna", {"C": {"low": False, "high": True}})),
    (BadHyperparameter, 'is not {"low": a, "high": b}', ("optuna", {"C": {"low": 1, "high": 2, "q": 1}})),
    (BadHyperparameter, 'is not {"low": a, "high": b}', ("optuna", {"C": {"low": 1, "high": 2, "log": "yes"}})),
    (BadHyperparameter, "low is not below its high", ("optuna", {"C": {"low": 2, "high": 2}})),
    (BadHyperparameter, "a low above 0 and no step", ("optuna", {"C": {"low": 0, "high": 2, "log": True}})),
    (BadHyperparameter, "above 0 and no step", ("optuna", {"C": {"low": 1, "high": 2, "log": True, "step": 1}})),
    (BadHyperparameter, "step is not between", ("optuna", {"C": {"low": 1, "high": 2, "step": 2}})),
    (BadHyperparameter, "step is not between", ("optuna", {"C": {"low": 1, "high": 2, "step": 0}})),
    (BadHyperparameter, "10,100 combinations", ("grid", {"C": list(range(1, 102)), "degree": list(range(100))})),
    (
        BadHyperparameter,
        "combinations; search='random' takes at most",
        ("random", {name: [*range(100_000)] for name in ("C", "degree", "coef0", "tol")}),
    ),
    (UnknownValue, "unknown argument of search='grid' 'n_iter': choose one of cv", ("grid", C, {"n_iter": 3})),
    (UnknownValue, "choose one of cv, n_trials, timeout", ("optuna", C, {"n_iter": 3})),
    (InvalidInput, "search_args is {name: value}, not [3]", ("grid", C, [3])),
    (InvalidInput, "cv is a whole number of at least 2, not 1", ("grid", C, {"cv": 1})),
    (InvalidInput, "cv is a whole number of at least 2, not 5.0", ("grid", C, {"cv": 5.0})),
    (InvalidInput, "n_iter is a whole number of at least 1, not True", ("random", C, {"n_iter": True})),
    (InvalidInput, "n_trials is a whole number of at least 1, not 0", ("optuna", C, {"n_trials": 0})),
    (InvalidInput, "timeout is seconds above 0, not 0", ("optuna", C, {"timeout": 0})),
    (InvalidInput, "timeout is seconds above 0, not '9'", ("optuna", C, {"timeout": "9"})),
    (InvalidInput, "timeout is seconds above 0, not nan", ("optuna", C, {"timeout": float("nan")})),
]


@pytest.mark.parametrize(("error", "said", "arguments"), REFUSED)
def test_what_cannot_be_searched_is_refused_in_one_line(error, said, arguments) -> None:
    with pytest.raises(error) as refused:
        asked(*arguments)
    assert type(refused.value) is error
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_grid_of_ten_thousand_is_taken_and_random_draws_from_more() -> None:
    params = {"C": list(range(1, 101)), "degree": list(range(100))}
    assert asked("grid", params).params == {"svm": params}
    assert asked("random", {**params, "coef0": [0, 1]})


def test_optuna_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"search='optuna' needs .* pip install 'frontrunner\[optuna\]'"):
        asked("optuna", C)
    assert asked("grid", C)


# --- grid and random -------------------------------------------------------------------------------------------------


def assert_same(ours: Found, theirs: Any) -> None:
    """The same combinations in the same order, with the same figures and the same winner."""
    assert column(ours.trials, "params") == [
        {name.removeprefix("model__"): value for name, value in params.items()}
        for params in theirs.cv_results_["params"]
    ]
    np.testing.assert_allclose(column(ours.trials, "mean"), theirs.cv_results_["mean_test_score"], rtol=1e-12)
    np.testing.assert_allclose(column(ours.trials, "std"), theirs.cv_results_["std_test_score"], rtol=1e-9)
    assert {f"model__{name}": value for name, value in ours.params.items()} == theirs.best_params_
    assert ours.mean == pytest.approx(theirs.best_score_, rel=1e-12)


def prefixed(params: dict[str, Any]) -> dict[str, Any]:
    return {f"model__{name}": values for name, values in params.items()}


def test_a_grid_finds_what_scikit_learns_finds() -> None:
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    forest = RandomForestRegressor(random_state=0)
    ours = found("grid", FOREST, X, y.to_numpy(), forest, REGRESSION, cv=4)
    assert_same(ours, GridSearchCV(model(forest), prefixed(FOREST), scoring="r2", cv=4, refit=False).fit(X, y))
    assert len({trial["mean"] for trial in ours.trials}) > 6
    assert all(trial["fit_time"] > 0 and trial["state"] == "complete" for trial in ours.trials)
    assert column(ours.trials, "trial") == list(range(12))


def test_a_random_search_draws_what_scikit_learns_draws() -> None:
    X, y = load_diabetes(return_X_y=True)
    forest = RandomForestRegressor(random_state=0)
    ours = found("random", FOREST, X, y, forest, REGRESSION, seed=7, cv=3, n_iter=5)
    theirs = RandomizedSearchCV(model(forest), prefixed(FOREST), n_iter=5, random_state=7, scoring="r2", cv=3)
    assert_same(ours, theirs.set_params(refit=False).fit(X, y))
    again = found("random", FOREST, X, y, forest, REGRESSION, seed=7, cv=3, n_iter=5)
    assert column(again.trials, "mean") == column(ours.trials, "mean")
    other = found("random", FOREST, X, y, forest, REGRESSION, seed=8, cv=3, n_iter=5)
    assert column(other.trials, "params") != column(ours.trials, "params")


def test_a_random_search_tries_a_small_grid_once() -> None:
    X, y = load_iris(return_X_y=True)
    ours = found("random", {"C": [0.1, 1, 10]}, X, y, svm(), cv=3, n_iter=10)
    assert sorted(trial["params"]["C"] for trial in ours.trials) == [0.1, 1, 10]


def test_three_labels_count_alike_and_folds_are_stratified() -> None:
    X, y = load_iris(return_X_y=True)  # sorted by label: folds in order would miss one each
    params = {"C": [0.001, 0.01, 1], "kernel": ["linear", "rbf"]}
    theirs = GridSearchCV(svm(), prefixed(params), scoring="f1_macro", cv=5, refit=False).fit(X, y)
    assert_same(found("grid", params, X, y, svm(), cv=5), theirs)


@pytest.mark.parametrize("names", [["benign", "malignant"], [1, 0]])
def test_two_labels_are_scored_for_the_larger(names: list[Any]) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    labels = np.array(names)[y]
    ours = found("grid", {"C": [0.001, 1]}, X, labels, svm(), cv=5)
    folds = StratifiedKFold(5).split(X, labels)
    pipeline, scores = svm().set_params(model__C=0.001), []
    for train, test in folds:
        predicted = pipeline.fit(X[train], labels[train]).predict(X[test])
        scores.append(f1_score(labels[test] == max(names), predicted == max(names)))
    assert ours.trials[0]["mean"] == pytest.approx(np.mean(scores), rel=1e-12)
    assert ours.params == {"C": 1}


def test_several_targets_count_alike() -> None:
    X, Y = load_linnerud(return_X_y=True)
    ours = found("grid", {"alpha": [1, 100_000]}, X, Y, Ridge(), REGRESSION, cv=4)
    means = [cross_val_score(Ridge(alpha=alpha), X, Y, scoring="r2", cv=4).mean() for alpha in (1, 100_000)]
    np.testing.assert_allclose(column(ours.trials, "mean"), means, rtol=1e-12)


def test_the_first_of_equals_wins() -> None:
    X, y = load_iris(return_X_y=True)
    ours = found("grid", {"degree": [7, 3, 5]}, X, y, svm(), cv=3)  # which the rbf kernel does not look at
    assert len(set(column(ours.trials, "mean"))) == 1
    assert ours.params == {"degree": 7}


def test_each_trial_is_told_of_as_it_ends_and_the_pipeline_stays_unfitted() -> None:
    X, y = load_iris(return_X_y=True)
    heard: list[dict[str, Any]] = []
    pipeline, search = svm(), Search("grid", {"svm": {"C": [0.1, 1]}}, {"cv": 3})
    ours = run_search(search, CLASSIFICATION, "svm", pipeline, "model__", pd.DataFrame(X), y, 0, heard.append)
    assert heard == ours.trials
    assert not hasattr(pipeline[-1], "classes_")
    assert pipeline[-1].C == 1.0


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("search", "args"), [("grid", {}), ("random", {"n_iter": 9}), ("optuna", {"n_trials": 9})])
def test_a_combination_that_fails_is_recorded_and_does_not_win(search: str, args, caplog) -> None:
    X, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = found(search, {"C": [-1, 0.01, 1]}, X, y, svm(), cv=3, timeout=None, **args)
    failed = [trial for trial in ours.trials if trial["params"] == {"C": -1}]
    assert failed
    for trial in failed:
        assert (trial["mean"], trial["std"], trial["fit_time"], trial["state"]) == (None, None, None, "failed")
    assert ours.params == {"C": 1}
    assert caplog.text.count("trials failed") == 1
    assert (
        f"svm: {len(failed)} of {len(ours.trials)} trials failed, the first with InvalidParameterError" in caplog.text
    )


@pytest.mark.parametrize(("search", "args"), [("grid", {}), ("random", {"n_iter": 9}), ("optuna", {"n_trials": 2})])
def test_when_all_fail_the_first_reason_is_said(search: str, args) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(
        CandidateFailed, match=r"none of the 2 trials .* InvalidParameterError: The 'C' parameter of SVC"
    ) as error:
        found(search, {"C": [-1, -2]}, X, y, svm(), cv=3, timeout=None, **args)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_score_that_is_not_finite_fails_its_trial() -> None:
    X, y = load_diabetes(return_X_y=True)
    dummy = DummyRegressor(strategy="constant")
    ours = found("grid", {"constant": [1e200, 150]}, X, y, dummy, REGRESSION, cv=3)
    assert column(ours.trials, "state") == ["failed", "complete"]
    assert ours.params == {"constant": 150}
    with pytest.raises(CandidateFailed, match="score is -inf, not a finite number"):
        found("grid", {"constant": [1e200]}, X, y, dummy, REGRESSION, cv=3)


def test_too_few_rows_for_the_folds() -> None:
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(CandidateFailed, match="cv=5 needs 10 training rows, but there are 9: choose a lower cv"):
        found("grid", {"alpha": [1]}, X[:9], y[:9], Ridge(), REGRESSION, cv=5)
    assert found("grid", {"alpha": [1]}, X[:10], y[:10], Ridge(), REGRESSION, cv=5).params == {"alpha": 1}
    few = [*range(4), *range(50, 54)]
    X, y = load_iris(return_X_y=True)
    with pytest.raises(CandidateFailed, match="cv=5 needs 5 training rows of at least one label, but there are 4"):
        found("grid", {"C": [1]}, X[few], y[few], svm(), cv=5)


def test_a_rare_label_is_no_obstacle_and_no_warning() -> None:
    X, y = load_iris(return_X_y=True)
    assert found("grid", {"C": [1]}, X[:102], y[:102], svm(), cv=5).mean > 0.5  # two of the third label


# --- what is inside the pipeline -------------------------------------------------------------------------------------


def test_each_fold_prepares_its_own_text_columns() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    X["width"] = np.where(X["petal width (cm)"] > 1, "wide", "narrow")
    seen: list[int] = []

    def noted(frame: pd.DataFrame) -> pd.DataFrame:
        seen.append(len(frame))
        return frame

    text = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    prepared = ColumnTransformer([("text", text, ["width"])], remainder="passthrough", verbose_feature_names_out=False)
    steps = [("noted", FunctionTransformer(noted)), ("preprocessing", prepared), ("model", SVC())]
    ours = found("grid", {"C": [0.01, 1]}, X, y.to_numpy(), Pipeline(steps), cv=3)
    assert seen == [100, 50] * 6  # fitted on two folds, scored on the third, six times
    assert ours.params == {"C": 1}


def test_xgboost_in_its_vote_of_one_keeps_text_labels() -> None:
    X, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    booster = XGBClassifier(random_state=0, n_estimators=3, n_jobs=1)
    pipeline = model(VotingClassifier([("xgboost", booster)], voting="soft", n_jobs=1))
    search = checked_search("grid", {"max_depth": [1, 2]}, {"cv": 3}, CLASSIFICATION, ["xgboost"], {})
    ours = run_search(search, CLASSIFICATION, "xgboost", pipeline, "model__xgboost__", pd.DataFrame(X), labels, 0)
    bare = [cross_val_score(booster.set_params(max_depth=d), X, y, scoring="f1_macro", cv=3).mean() for d in (1, 2)]
    assert column(ours.trials, "params") == [{"max_depth": 1}, {"max_depth": 2}]
    np.testing.assert_allclose(column(ours.trials, "mean"), bare, rtol=1e-12)


@pytest.mark.parametrize(("search", "args"), [("grid", {}), ("optuna", {"n_trials": 2, "timeout": None})])
def test_fits_stay_in_the_thread_whose_limits_hold(search: str, args) -> None:
    X, y = load_iris(return_X_y=True)
    seen = set()

    def noted(frame: Any) -> Any:
        seen.add((threading.get_ident(), effective_n_jobs(None), *threads("openmp")))
        return frame

    pipeline = Pipeline([("noted", FunctionTransformer(noted)), ("model", SVC())])
    with threadpool_limits(1, user_api="openmp"), parallel_config(backend="threading", n_jobs=2):
        found(search, {"C": [0.1, 1]}, X, y, pipeline, cv=3, **args)
    assert seen == {(threading.get_ident(), 2, 1)}


# --- optuna ----------------------------------------------------------------------------------------------------------

SVM_RANGES = {
    "C": {"low": 1e-4, "high": 100.0, "log": True},
    "kernel": ["sigmoid", "poly"],
    "degree": {"low": 2, "high": 5},
}


def test_optuna_improves_on_its_first_trial_and_finds_the_same_again() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    params = asked("optuna", SVM_RANGES).params["svm"]
    ours, again = (found("optuna", params, X, y, svm(), cv=3, n_trials=20, timeout=None) for _ in range(2))
    timeless = [{name: value for name, value in trial.items() if name != "fit_time"} for trial in ours.trials]
    assert timeless == [{name: value for name, value in trial.items() if name != "fit_time"} for trial in again.trials]
    assert ours.mean > ours.trials[0]["mean"]
    assert ours.mean == max(trial["mean"] for trial in ours.trials if trial["state"] == "complete")
    assert len(ours.trials) == 20
    other = found("optuna", params, X, y, svm(), seed=1, cv=3, n_trials=2, timeout=None)
    assert column(other.trials, "params") != column(ours.trials[:2], "params")


def test_optuna_tries_what_a_study_of_its_own_tries() -> None:
    X, y = load_breast_cancer(return_X_y=True)

    def objective(trial: optuna.Trial) -> float:
        pipeline = svm().set_params(model__C=trial.suggest_float("C", 1e-4, 100, log=True))
        scores = cross_val_score(pipeline, X, y, scoring="f1", cv=3)
        for folds in (1, 2):
            trial.report(scores[:folds].mean(), folds)
            if trial.should_prune():
                raise optuna.TrialPruned
        return scores.mean()

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=3))
    study.optimize(objective, n_trials=20)
    params = {"C": {"low": 1e-4, "high": 100.0, "log": True}}
    ours = found("optuna", params, X, y, svm(), seed=3, cv=3, n_trials=20, timeout=None)
    assert column(ours.trials, "params") == [trial.params for trial in study.trials]
    assert column(ours.trials, "state") == [trial.state.name.lower() for trial in study.trials]
    np.testing.assert_allclose(column(ours.trials, "mean"), [trial.value for trial in study.trials], rtol=1e-12)
    assert ours.params == study.best_params


def test_optuna_says_nothing_by_itself(caplog) -> None:
    X, y = load_iris(return_X_y=True)
    logger = logging.getLogger("optuna")
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logger.addHandler(caplog.handler)
    try:
        found("optuna", {"C": [1, -1]}, X, y, svm(), cv=3, n_trials=5, timeout=None)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.name for record in caplog.records] == ["frontrunner"]


def test_values_are_of_their_range_and_of_its_type() -> None:
    X, y = load_iris(return_X_y=True)
    ranges = {
        "max_depth": {"low": 1, "high": 9, "step": 3},
        "min_samples_leaf": {"low": 1, "high": 40, "log": True},
        "min_samples_split": {"low": 0.1, "high": 0.5, "step": 0.2},
        "ccp_alpha": {"low": 0.001, "high": 0.1, "log": True},
        "class_weight": [None, "balanced", {"0": 1}],
        "splitter": ["best"],
    }
    params = {name: asked("optuna", {"C": values}).params["svm"]["C"] for name, values in ranges.items()}
    tree = DecisionTreeClassifier(random_state=0)
    ours = found("optuna", params, X, y, tree, cv=2, n_trials=25, timeout=None)
    table = pd.DataFrame(column(ours.trials, "params"))
    assert set(table["max_depth"]) == {1, 4, 7}
    assert table["min_samples_leaf"].between(1, 40).all()
    assert set(table["min_samples_split"].round(9)) == {0.1, 0.3, 0.5}
    assert table["ccp_alpha"].between(0.001, 0.1).all()
    assert {type(trial["params"]["min_samples_leaf"]) for trial in ours.trials} == {int}
    assert {type(trial["params"]["ccp_alpha"]) for trial in ours.trials} == {float}
    assert any(trial["params"]["class_weight"] == {"0": 1} for trial in ours.trials)


def test_a_trial_that_falls_behind_is_pruned_and_does_not_win() -> None:
    """Five trials are complete before the pruner decides; the farther a constant from the mean, the worse each fold."""
    X, y = load_diabetes(return_X_y=True)
    params = {"constant": {"low": -1000, "high": 1000}}
    dummy = DummyRegressor(strategy="constant")
    ours = found("optuna", params, X, y, dummy, REGRESSION, cv=5, n_trials=15, timeout=None)
    states = column(ours.trials, "state")
    assert states[:5] == ["complete"] * 5
    assert "pruned" in states
    pruned = ours.trials[states.index("pruned")]
    constant = pruned["params"]["constant"]
    whole = cross_val_score(DummyRegressor(strategy="constant", constant=constant), X, y, scoring="r2", cv=5)
    assert any(pruned["mean"] == pytest.approx(whole[:folds].mean()) for folds in range(1, 5))
    assert ours.mean == max(trial["mean"] for trial in ours.trials if trial["state"] == "complete")


def test_timeout_ends_the_search_after_a_fold() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(CandidateFailed, match="none of the 1 trials .* timeout ended the first before its last fold"):
        found("optuna", {"C": [1, 10]}, X, y, svm(), cv=3, n_trials=5, timeout=1e-6)
    ours = found("optuna", {"C": [1, 10]}, X, y, svm(), cv=3, n_trials=1_000_000, timeout=0.5)
    assert 0 < len(ours.trials) < 1000


def test_a_table_of_trials_has_a_column_for_each_parameter() -> None:
    X, y = load_iris(return_X_y=True)
    ours = found("grid", {"C": [-1, 1], "kernel": ["rbf"]}, X, y, svm(), cv=3)
    table = trials_table(ours.trials)
    assert list(table[0]) == ["trial", "C", "kernel", "mean", "std", "fit_time", "state"]
    assert [(row["C"], row["kernel"], row["mean"]) for row in table] == [(-1, "rbf", None), (1, "rbf", ours.mean)]


def test_searches_begin_first_then_what_takes_long() -> None:
    algorithms = ("linear", "xgboost", "knn", "svm")
    assert longest_first(request(Task.CLASSIFICATION, algorithms=algorithms)) == ["svm", "xgboost", "linear", "knn"]
    search = Search("grid", {"knn": {"n_neighbors": [1, 2]}}, {"cv": 2})
    searching = request(Task.CLASSIFICATION, algorithms=algorithms, search=search)
    assert longest_first(searching) == ["knn", "svm", "xgboost", "linear"]
    assert set(LONGEST_FIRST) < set(NAMES)

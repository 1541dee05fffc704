"""The catalogue of algorithms, by PostgresML's names. Nothing is imported before an estimator is asked for."""

import inspect
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from registry.errors import BadHyperparameter, InvalidInput, MissingExtra, UnknownValue
from registry.vocabulary import Task

REGRESSION = {
    "linear": "sklearn.linear_model.LinearRegression",
    "ridge": "sklearn.linear_model.Ridge",
    "lasso": "sklearn.linear_model.Lasso",
    "elastic_net": "sklearn.linear_model.ElasticNet",
    "least_angle": "sklearn.linear_model.Lars",
    "lasso_least_angle": "sklearn.linear_model.LassoLars",
    "orthogonal_matching_pursuit": "sklearn.linear_model.OrthogonalMatchingPursuit",
    "bayesian_ridge": "sklearn.linear_model.BayesianRidge",
    "automatic_relevance_determination": "sklearn.linear_model.ARDRegression",
    "stochastic_gradient_descent": "sklearn.linear_model.SGDRegressor",
    "passive_aggressive": "sklearn.linear_model.PassiveAggressiveRegressor",
    "ransac": "sklearn.linear_model.RANSACRegressor",
    "theil_sen": "sklearn.linear_model.TheilSenRegressor",
    "huber": "sklearn.linear_model.HuberRegressor",
    "quantile": "sklearn.linear_model.QuantileRegressor",
    "kernel_ridge": "sklearn.kernel_ridge.KernelRidge",
    "gaussian_process": "sklearn.gaussian_process.GaussianProcessRegressor",
    "knn": "sklearn.neighbors.KNeighborsRegressor",
    "svm": "sklearn.svm.SVR",
    "nu_svm": "sklearn.svm.NuSVR",
    "linear_svm": "sklearn.svm.LinearSVR",
    "ada_boost": "sklearn.ensemble.AdaBoostRegressor",
    "bagging": "sklearn.ensemble.BaggingRegressor",
    "extra_trees": "sklearn.ensemble.ExtraTreesRegressor",
    "random_forest": "sklearn.ensemble.RandomForestRegressor",
    "gradient_boosting_trees": "sklearn.ensemble.GradientBoostingRegressor",
    "hist_gradient_boosting": "sklearn.ensemble.HistGradientBoostingRegressor",
    "xgboost": "xgboost.XGBRegressor",
    "xgboost_random_forest": "xgboost.XGBRFRegressor",
    "lightgbm": "lightgbm.LGBMRegressor",
    "catboost": "catboost.CatBoostRegressor",
}

CLASSIFICATION = {
    "linear": "sklearn.linear_model.LogisticRegression",
    "ridge": "sklearn.linear_model.RidgeClassifier",
    "stochastic_gradient_descent": "sklearn.linear_model.SGDClassifier",
    "perceptron": "sklearn.linear_model.Perceptron",
    "passive_aggressive": "sklearn.linear_model.PassiveAggressiveClassifier",
    "gaussian_process": "sklearn.gaussian_process.GaussianProcessClassifier",
    "knn": "sklearn.neighbors.KNeighborsClassifier",
    "svm": "sklearn.svm.SVC",
    "nu_svm": "sklearn.svm.NuSVC",
    "linear_svm": "sklearn.svm.LinearSVC",
    "ada_boost": "sklearn.ensemble.AdaBoostClassifier",
    "bagging": "sklearn.ensemble.BaggingClassifier",
    "extra_trees": "sklearn.ensemble.ExtraTreesClassifier",
    "random_forest": "sklearn.ensemble.RandomForestClassifier",
    "gradient_boosting_trees": "sklearn.ensemble.GradientBoostingClassifier",
    "hist_gradient_boosting": "sklearn.ensemble.HistGradientBoostingClassifier",
    "xgboost": "xgboost.XGBClassifier",
    "xgboost_random_forest": "xgboost.XGBRFClassifier",
    "lightgbm": "lightgbm.LGBMClassifier",
    "catboost": "catboost.CatBoostClassifier",
}

ALGORITHMS: Mapping[Task, Mapping[str, str]] = {Task.REGRESSION: REGRESSION, Task.CLASSIFICATION: CLASSIFICATION}
NAMES = sorted({*REGRESSION, *CLASSIFICATION})
DEFAULT = ("linear", "random_forest", "xgboost")
EXTRAS = ("lightgbm", "catboost")

# What these would otherwise print or write while they fit.
QUIET: Mapping[str, dict[str, Any]] = {
    "lightgbm": {"verbose": -1},
    "catboost": {"verbose": False, "allow_writing_files": False},
}

# What these would take every core for, whatever OpenMP's limit is.
THREADS: Mapping[str, str] = {"lightgbm": "n_jobs", "catboost": "thread_count"}


def checked_algorithms(task: Task, names: list[str] | None) -> list[str]:
    """The algorithms to train, each once and in the order they were named; a few good ones if none was.

    Raises:
        InvalidInput: it is no list.
        UnknownValue: one is not in the task's catalogue.
    """
    if not (names is None or isinstance(names, list | tuple)):
        raise InvalidInput(f"algorithms is a list of names, not {names!r}")
    chosen = list(dict.fromkeys(names)) if names else list(DEFAULT)
    for name in chosen:
        if name not in ALGORITHMS[task]:
            raise UnknownValue(f"{task} algorithm", name, sorted(ALGORITHMS[task]))
    return chosen


def checked_hyperparams(
    task: Task, algorithms: list[str], hyperparams: dict[str, dict[str, Any]] | None
) -> dict[str, dict[str, Any]]:
    """{algorithm: {parameter: value}} for the algorithms that are trained; every estimator can be made with them.

    Raises:
        BadHyperparameter: an algorithm that is not trained, or a parameter that it does not have.
        MissingExtra: the algorithm's package is not installed.
    """
    given = hyperparams or {}
    for name in given:
        if name not in algorithms:
            raise BadHyperparameter(f"hyperparams are for {name!r}, which is not among the algorithms: {algorithms}")
        if not isinstance(given[name], dict):
            raise BadHyperparameter(f"hyperparams of {name!r} are not {{parameter: value}}: {given[name]!r}")
        try:
            json.dumps(given[name], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadHyperparameter(f"hyperparams of {name!r} cannot be written as JSON: {error}") from error
    for name in algorithms:
        new_estimator(task, name, given.get(name, {}), seed=0)
    return {name: given.get(name, {}) for name in algorithms}


def new_estimator(task: Task, name: str, hyperparams: dict[str, Any], seed: int) -> Any:
    """An unfitted estimator with the library's defaults, `random_state=seed` where it takes one, and the hyperparams.

    Raises:
        BadHyperparameter: it has no such parameter. (xgboost itself would only warn.)
        MissingExtra: its package is not installed.
    """
    estimator_class = _imported(ALGORITHMS[task][name], name)
    known = _parameters(estimator_class)
    for parameter in hyperparams:
        if parameter not in known:
            raise BadHyperparameter(f"{name} has no hyperparameter {parameter!r}; it has {', '.join(sorted(known))}")
    seeded = {"random_state": seed} if "random_state" in known else {}
    return estimator_class(**(seeded | QUIET.get(name, {}) | hyperparams))


def needs_encoded_labels(estimator: Any) -> bool:
    """Whether it is one of xgboost's classifiers, which want their labels as 0 .. n-1."""
    return type(estimator).__name__ in ("XGBClassifier", "XGBRFClassifier")


def _imported(path: str, name: str) -> Any:
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name in EXTRAS:
            raise MissingExtra(f"the algorithm {name!r}", name) from error
        raise


def _parameters(estimator_class: Any) -> set[str]:
    """xgboost names some of its parameters only in `get_params`, catboost all of its own only in `__init__`."""
    signature = inspect.signature(estimator_class.__init__).parameters
    return {*signature, *estimator_class().get_params()} - {"self", "args", "kwargs"}

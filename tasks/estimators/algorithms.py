"""The catalogue of algorithms, by PostgresML's names. An estimator's package is imported when it is needed."""

import inspect
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Annotated, Any

from pydantic import WithJsonSchema

from registry.errors import BadHyperparameter, MissingExtra, UnknownValue
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
AlgorithmName = Annotated[str, WithJsonSchema({"type": "string", "enum": NAMES})]  # a dropdown in forms
DESCRIPTIONS: Mapping[str, str] = {
    "linear": "ordinary least squares; logistic regression for labels",
    "ridge": "least squares with an L2 penalty",
    "lasso": "least squares with an L1 penalty: few columns count",
    "elastic_net": "least squares with an L1 and an L2 penalty",
    "least_angle": "least-angle regression: columns enter one after the other",
    "lasso_least_angle": "lasso, fitted by least-angle regression",
    "orthogonal_matching_pursuit": "least squares on a few columns, chosen greedily",
    "bayesian_ridge": "ridge with its penalty estimated from the rows",
    "automatic_relevance_determination": "Bayesian ridge with a penalty for each column",
    "stochastic_gradient_descent": "a linear model fitted row by row; scale the columns",
    "perceptron": "the perceptron; scale the columns",
    "passive_aggressive": "a linear model that corrects itself at each mistake",
    "ransac": "least squares on the rows that agree: outliers do not count",
    "theil_sen": "the median of many least squares fits: outliers count little",
    "huber": "least squares in which outliers count less",
    "quantile": "a linear model of the median, or of another quantile",
    "kernel_ridge": "ridge with a kernel; its memory grows with the square of the rows",
    "gaussian_process": "a Gaussian process; its time grows with the cube of the rows",
    "knn": "the nearest neighbours; scale the columns",
    "svm": "a support vector machine; its time grows with the square of the rows; scale the columns",
    "nu_svm": "a support vector machine with a bound on the share of errors",
    "linear_svm": "a linear support vector machine; scale the columns",
    "ada_boost": "boosted small trees, each fitted to the mistakes before it",
    "bagging": "trees on samples of the rows, averaged",
    "extra_trees": "a forest whose splits are drawn at random",
    "random_forest": "a forest of trees on samples of rows and columns",
    "gradient_boosting_trees": "gradient boosting, exact; slow on many rows",
    "hist_gradient_boosting": "gradient boosting on binned columns; fast, takes gaps",
    "xgboost": "gradient boosting by xgboost; takes gaps",
    "xgboost_random_forest": "a random forest by xgboost; takes gaps",
    "lightgbm": "gradient boosting by lightgbm; takes gaps (extra `lightgbm`)",
    "catboost": "gradient boosting by catboost; takes gaps (extra `catboost`)",
}
DEFAULT = ("linear", "random_forest", "xgboost")
EXTRAS = ("lightgbm", "catboost")

# Settings that change no result: they turn off output during a fit, and a needless copy of the preprocessed rows.
OWN_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "lightgbm": {"verbose": -1},
    "catboost": {"verbose": False, "allow_writing_files": False},
    "linear regression": {"copy_X": False},
}

# Parameters that limit the threads of algorithms that ignore OpenMP's limit.
THREADS: Mapping[str, str] = {"lightgbm": "n_jobs", "catboost": "thread_count"}

# The algorithms that take longest to fit with their defaults, the slowest first.
LONGEST_FIRST = (
    *("gaussian_process", "kernel_ridge", "nu_svm", "svm", "random_forest", "gradient_boosting_trees", "bagging"),
    *("extra_trees", "catboost", "ada_boost", "xgboost", "xgboost_random_forest", "lightgbm"),
)

MAX_THREADS = 1024  # OpenMP ends a process that cannot start its threads

# Refused parameters, which name files that catboost would read or overwrite.
FILES: Mapping[str, set[str]] = {
    "catboost": {
        "allow_writing_files", "input_borders", "output_borders", "save_snapshot", "snapshot_file", "train_dir"
    },
}  # fmt: skip


def checked_algorithms(task: Task, names: list[str] | None) -> list[str]:
    """Return the algorithms to train in the given order, without duplicates; the defaults if none is given.

    Raises:
        UnknownValue: an algorithm is not in the task's catalogue.
    """
    chosen = list(dict.fromkeys(names)) if names else list(DEFAULT)
    for name in chosen:
        if name not in ALGORITHMS[task]:
            raise UnknownValue(f"{task} algorithm", name, sorted(ALGORITHMS[task]))
    return chosen


def checked_hyperparams(
    task: Task, algorithms: list[str], hyperparams: dict[str, dict[str, Any]] | None
) -> dict[str, dict[str, Any]]:
    """Return {algorithm: {parameter: value}} for each algorithm to train, checked by the estimators.

    Raises:
        BadHyperparameter: an algorithm is not to be trained, lacks a parameter, or does not accept its value.
        MissingExtra: the algorithm's package is not installed.
    """
    given = hyperparams or {}
    for name, chosen in given.items():
        if name not in algorithms:
            raise BadHyperparameter(f"hyperparams are for {name!r}, which is not among the algorithms: {algorithms}")
        refuse_what_is_not_json(f"hyperparams of {name!r}", chosen)
        _refuse_too_many_threads(name, chosen)
    for name in algorithms:
        _check_values(name, new_estimator(task, name, given.get(name, {}), seed=0))
    return {name: given.get(name, {}) for name in algorithms}


def refuse_what_is_not_json(where: str, value: Any) -> None:
    """Raise BadHyperparameter if the registry could not store the value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadHyperparameter(f"{where} cannot be written as JSON: {error}") from error


def _refuse_too_many_threads(name: str, chosen: dict[str, Any]) -> None:
    for parameter in ("n_jobs", "thread_count"):
        if isinstance(threads := chosen.get(parameter), int | float) and abs(threads) > MAX_THREADS:
            raise BadHyperparameter(f"{parameter} of {name!r} is at most {MAX_THREADS:,} threads, not {threads:,}")


def _check_values(name: str, estimator: Any) -> None:
    """Run scikit-learn's own check. xgboost checks values only when it fits, so it fits four rows."""
    try:
        if hasattr(estimator, "_parameter_constraints"):
            estimator._validate_params()  # noqa: SLF001  (`fit` calls it first; there is no public way without rows)
        if name.startswith("xgboost"):
            estimator.set_params(n_estimators=1).fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    except Exception as error:  # whatever a library raises for a value that it does not take
        raise _invalid(name, error) from error


def _invalid(name: str, error: Exception) -> BadHyperparameter:
    reason = " ".join(str(error).partition("Stack trace")[0].split())
    return BadHyperparameter(f"hyperparams of {name!r} are invalid: {reason}")


def new_estimator(task: Task, name: str, hyperparams: dict[str, Any], seed: int) -> Any:
    """Return an unfitted estimator with the hyperparams, `random_state=seed` if it has one, and otherwise defaults.

    Raises:
        BadHyperparameter: the algorithm lacks a parameter. (xgboost itself would only warn.)
        MissingExtra: the algorithm's package is not installed.
    """
    known = check_parameters(task, name, hyperparams)
    estimator_class = _import_class(task, name)
    seeded = {"random_state": seed} if "random_state" in known else {}
    own = OWN_DEFAULTS.get(f"{name} {task}", OWN_DEFAULTS.get(name, {}))
    try:
        return estimator_class(**(seeded | own | hyperparams))
    except Exception as error:  # xgboost's forests refuse some parameters when they are created
        raise _invalid(name, error) from error


def check_parameters(task: Task, name: str, parameters: Iterable[str]) -> set[str]:
    """Return all parameters of the algorithm.

    Raises:
        BadHyperparameter: one of the given parameters is not among them.
        MissingExtra: the algorithm's package is not installed.
    """
    known = _parameters(_import_class(task, name)) - FILES.get(name, set())
    for parameter in parameters:
        if parameter not in known:
            raise BadHyperparameter(f"{name} has no hyperparameter {parameter!r}; it has {', '.join(sorted(known))}")
    return known


def needs_encoded_labels(estimator: Any) -> bool:
    """Return whether the estimator is a classifier of xgboost, which requires the labels 0 to n - 1."""
    return type(estimator).__name__ in ("XGBClassifier", "XGBRFClassifier")


def _import_class(task: Task, name: str) -> Any:
    module, _, attribute = ALGORITHMS[task][name].rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name in EXTRAS:
            raise MissingExtra(f"the algorithm {name!r}", name) from error
        raise


def _parameters(estimator_class: Any) -> set[str]:
    """Return all parameters: xgboost has some of them only in `get_params`, catboost its own only in `__init__`."""
    signature = inspect.signature(estimator_class.__init__).parameters
    return {*signature, *estimator_class().get_params()} - {"self", "args", "kwargs"}

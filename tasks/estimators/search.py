"""The best hyperparameters of one algorithm, by cross-validation on the training rows. The best mean of its folds wins.

scikit-learn says which combinations a grid or a random search tries, and on which folds. Its GridSearchCV itself is not
used: it keeps no reason of a failed fit but warns of it, and warnings can only be silenced for all threads at once.
"""

import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from registry.errors import BadHyperparameter, CandidateFailed, InvalidInput, MissingExtra, UnknownValue
from registry.vocabulary import Task
from tasks.estimators.algorithms import NAMES, check_parameters
from tasks.values import Found, Search

if TYPE_CHECKING:
    from optuna import Trial

log = logging.getLogger("frontrunner")

DEFAULT_ARGS: dict[str, dict[str, Any]] = {
    "grid": {"cv": 5},
    "random": {"cv": 5, "n_iter": 10},
    "optuna": {"cv": 5, "n_trials": 20, "timeout": None},
}
LEAST = {"cv": 2, "n_iter": 1, "n_trials": 1}
MOST_COMBINATIONS = {"grid": 10_000, "random": sys.maxsize}  # scikit-learn numbers those that it draws from

# Whether a trial is given up after this many folds with this mean.
Stop = Callable[[int, float], bool]


def checked_search(
    search: str | None,
    search_params: dict[str, Any] | None,
    search_args: dict[str, Any] | None,
    task: Task,
    algorithms: list[str],
    hyperparams: dict[str, dict[str, Any]],
) -> Search | None:
    """The search that can begin, or None. With one algorithm, search_params may leave its name out.

    Raises:
        UnknownValue, BadHyperparameter, InvalidInput: something in it cannot be searched.
        MissingExtra: optuna is not installed.
    """
    if search is None:
        if search_params or search_args:
            raise InvalidInput(f"search_params and search_args need a search: choose one of {', '.join(DEFAULT_ARGS)}")
        return None
    if search not in list(DEFAULT_ARGS):
        raise UnknownValue("search", search, DEFAULT_ARGS)
    if search == "optuna" and find_spec("optuna") is None:
        raise MissingExtra("search='optuna'", "optuna")
    if not isinstance(search_params, dict) or not search_params:
        raise InvalidInput(f"search={search!r} needs search_params, {{algorithm: {{parameter: [values]}}}}")
    unnamed = len(algorithms) == 1 and not _names_algorithms(search_params)
    by_algorithm = {algorithms[0]: search_params} if unnamed else search_params
    for name, space in by_algorithm.items():
        _check_space(task, name, space, algorithms, hyperparams)
    params = {name: _checked_space(search, name, space) for name, space in by_algorithm.items()}
    return Search(search, params, _checked_args(search, search_args))


def run_search(
    search: Search,
    task: Task,
    algorithm: str,
    pipeline: Any,
    prefix: str,
    X_train: Any,
    y_train: Any,
    seed: int,
    on_trial: Callable[[dict[str, Any]], None] | None = None,
) -> Found:
    """Tries the combinations on clones of the unfitted pipeline; `prefix` comes before a parameter's name there.

    X_train (n, d), y_train (n,) or (n, targets). `on_trial` hears of each trial as it ends.

    Raises:
        CandidateFailed: too few rows for the folds, or no trial was complete.
    """
    folds, scorer = _folds(task, search.args["cv"], y_train), _scorer(task, y_train)
    trials: list[dict[str, Any]] = []
    reasons: list[str] = []
    for params, stop in _proposed(search, algorithm, seed, trials):
        prefixed = {f"{prefix}{name}": value for name, value in params.items()}
        measured = _measured(pipeline, prefixed, X_train, y_train, folds, scorer)
        try:
            outcome = _outcome(measured, len(folds), stop)
        except Exception as error:  # noqa: BLE001  (whatever a library raises: other combinations may do)
            outcome = {"mean": None, "std": None, "fit_time": None, "state": "failed"}
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
        trials.append({"trial": len(trials), "params": params, **outcome})
        if on_trial:
            on_trial(trials[-1])
    if reasons:
        log.warning("%s: %d of %d trials failed, the first with %s", algorithm, len(reasons), len(trials), reasons[0])
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        why = f"the first failed with {reasons[0]}" if reasons else "timeout ended the first before its last fold"
        raise CandidateFailed(f"none of the {len(trials)} trials of its search was complete: {why}")
    best = max(complete, key=itemgetter("mean"))  # the first of equals
    return Found(best["params"], best["mean"], trials)


def _names_algorithms(search_params: dict[str, Any]) -> bool:
    """`quantile` is an algorithm and a parameter: what it has then is a range, or parameters of its own."""
    return any(
        name in NAMES and isinstance(values, dict) and "low" not in values for name, values in search_params.items()
    )


def _check_space(
    task: Task, name: str, space: Any, algorithms: list[str], hyperparams: dict[str, dict[str, Any]]
) -> None:
    if name not in algorithms:
        raise BadHyperparameter(f"search_params are for {name!r}, which is not among the algorithms: {algorithms}")
    if not isinstance(space, dict) or not space:
        raise BadHyperparameter(f"search_params of {name!r} are not {{parameter: values}}: {space!r}")
    check_parameters(task, name, space)
    for parameter in space:
        if parameter in hyperparams.get(name, {}):
            raise BadHyperparameter(
                f"{parameter!r} of {name!r} is in both hyperparams and search_params: leave one out"
            )


def _checked_space(search: str, name: str, space: dict[str, Any]) -> dict[str, Any]:
    checked = {parameter: _values(search, f"{parameter!r} of {name!r}", given) for parameter, given in space.items()}
    if search == "optuna":
        return checked
    size, most = math.prod(len(values) for values in checked.values()), MOST_COMBINATIONS[search]
    if size > most:
        raise BadHyperparameter(
            f"search_params of {name!r} make {size:,} combinations; search={search!r} takes at most {most:,}:"
            " list fewer values, or choose another search"
        )
    return checked


def _values(search: str, where: str, given: Any) -> list[Any] | dict[str, Any]:
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadHyperparameter(f"search_params: {where} cannot be written as JSON: {error}") from error
    if isinstance(given, dict):
        if search != "optuna":
            raise BadHyperparameter(
                f"search_params: {where} is a range, which only search='optuna' takes: list the values for {search!r}"
            )
        return _range(f"search_params: {where}", given)
    if not isinstance(given, list | tuple) or not given:
        raise BadHyperparameter(f"search_params: {where} is not a list of the values to try: {given!r}")
    return list(given)


def _range(where: str, given: Any) -> dict[str, Any]:
    """`high` becomes the last value that the steps reach: optuna would warn and do the same."""
    low, high, step, log_scaled = (given.get(key) for key in ("low", "high", "step", "log"))
    numbers = [low, high] if step is None else [low, high, step]
    known = set(given) <= {"low", "high", "step", "log"} and log_scaled in (None, True, False)
    if not (known and all(_is_number(number) for number in numbers)):
        raise BadHyperparameter(
            f'{where} is not {{"low": a, "high": b}}, perhaps with a "step" or "log": true: {given}'
        )
    if low >= high:
        raise BadHyperparameter(f"{where} is a range whose low is not below its high: {given}")
    if log_scaled and (low <= 0 or step is not None):
        raise BadHyperparameter(f"{where} is a range on a log scale, which needs a low above 0 and no step: {given}")
    kind = int if all(isinstance(number, int) for number in numbers) else float
    if step is None:
        return {"low": kind(low), "high": kind(high), "log": bool(log_scaled)}
    if not 0 < step <= high - low:
        raise BadHyperparameter(f"{where} is a range whose step is not between 0 and high - low: {given}")
    first, size = Fraction(str(low)), Fraction(str(step))
    last = first + (Fraction(str(high)) - first) // size * size
    return {"low": kind(low), "high": kind(last), "step": kind(step)}


def _checked_args(search: str, given: dict[str, Any] | None) -> dict[str, Any]:
    if not (given is None or isinstance(given, dict)):
        raise InvalidInput(f"search_args are {{name: value}}, not {given!r}")
    known = DEFAULT_ARGS[search]
    for name, value in (given or {}).items():
        if name not in known:
            raise UnknownValue(f"argument of search={search!r}", name, known)
        if name == "timeout":
            if not (value is None or (_is_number(value) and 0 < value < math.inf)):
                raise InvalidInput(f"search_args: timeout is seconds above 0, not {value!r}")
        elif not isinstance(value, int) or isinstance(value, bool) or value < LEAST[name]:
            raise InvalidInput(f"search_args: {name} is a whole number of at least {LEAST[name]}, not {value!r}")
    return {**known, **(given or {})}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _folds(task: Task, cv: int, y: Any) -> list[tuple[Any, Any]]:
    """What `cv` means to scikit-learn: stratified by label, or in order for regression; the same for every trial."""
    import numpy as np
    from sklearn.model_selection import check_cv

    classification = task is Task.CLASSIFICATION
    rows = np.unique(y, return_counts=True)[1].max() if classification else len(y)
    needed = cv if classification else 2 * cv  # r2 of a single row is undefined
    if rows < needed:
        of_one = " of at least one label" if classification else ""
        raise CandidateFailed(f"cv={cv} needs {needed} training rows{of_one}, but there are {rows}: choose a lower cv")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # rare labels miss in some folds
        return list(check_cv(cv, y, classifier=classification).split(np.zeros(len(y)), y))


def _scorer(task: Task, y: Any) -> Any:
    """The key metric, as `tasks.scoring` has it; which labels there are is decided once, not by each fold."""
    import numpy as np
    from sklearn.metrics import f1_score, make_scorer, r2_score

    if task is Task.REGRESSION:
        return make_scorer(r2_score)
    labels = np.unique(y)
    average = {"average": "binary", "pos_label": labels[1]} if len(labels) == 2 else {"average": "macro"}
    return make_scorer(f1_score, zero_division=0, **average)


def _measured(
    pipeline: Any, params: dict[str, Any], X: Any, y: Any, folds: list[tuple[Any, Any]], scorer: Any
) -> Iterator[tuple[float, float]]:
    """Score and fit seconds, fold by fold, in this thread: its OpenMP limit holds for no other."""
    from sklearn.base import clone
    from sklearn.utils import _safe_indexing as taken

    candidate = clone(pipeline).set_params(**params)
    for train, test in folds:
        started = perf_counter()
        fitted = clone(candidate).fit(taken(X, train), taken(y, train))
        fit_time = perf_counter() - started
        score = float(scorer(fitted, taken(X, test), taken(y, test)))
        if not math.isfinite(score):
            raise CandidateFailed(f"a fold's score is {score}, not a finite number")
        yield score, fit_time


def _outcome(measured: Iterator[tuple[float, float]], folds: int, stop: Stop) -> dict[str, Any]:
    import numpy as np

    scores, times, state = [], [], "complete"
    for score, fit_time in measured:
        scores.append(score)
        times.append(fit_time)
        if len(scores) < folds and stop(len(scores), float(np.mean(scores))):
            state = "pruned"
            break
    figures = {"mean": np.mean(scores), "std": np.std(scores), "fit_time": np.mean(times)}
    return {**{name: float(figure) for name, figure in figures.items()}, "state": state}


def _proposed(
    search: Search, algorithm: str, seed: int, trials: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Stop]]:
    """The combinations to try, one after the other: what came of one is in `trials` when the next is asked for."""
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    space, args = search.params[algorithm], search.args
    if search.kind == "optuna":
        yield from _suggested(space, args, seed, trials)
        return
    grid = ParameterGrid(space)
    random = search.kind == "random"
    listed = ParameterSampler(space, min(args["n_iter"], len(grid)), random_state=seed) if random else grid
    for combination in listed:
        yield {name: combination[name] for name in space}, lambda _fold, _mean: False


def _suggested(
    space: dict[str, Any], args: dict[str, Any], seed: int, trials: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Stop]]:
    """Time is looked at after each fold; the first trial always begins."""
    import optuna
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    deadline = perf_counter() + (args["timeout"] or math.inf)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it prints each study that it makes
    sampler, pruner = optuna.samplers.TPESampler(seed=seed), optuna.pruners.MedianPruner()
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for _ in range(args["n_trials"]):
        trial = study.ask()
        yield (
            {name: _suggestion(trial, name, values) for name, values in space.items()},
            partial(_stop, trial, deadline),
        )
        state = states[trials[-1]["state"]]
        study.tell(trial, trials[-1]["mean"] if state is TrialState.COMPLETE else None, state)
        if perf_counter() >= deadline:
            return


def _suggestion(trial: "Trial", name: str, values: list[Any] | dict[str, Any]) -> Any:
    if isinstance(values, list):  # by its place: optuna's own choices are numbers and texts alone
        return values[trial.suggest_categorical(name, range(len(values)))]
    suggest = trial.suggest_int if isinstance(values["low"], int) else trial.suggest_float
    return suggest(name, **values)


def _stop(trial: "Trial", deadline: float, fold: int, mean: float) -> bool:
    trial.report(mean, fold)
    return trial.should_prune() or perf_counter() >= deadline

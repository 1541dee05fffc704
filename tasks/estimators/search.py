"""Search the best hyperparameters of an algorithm by cross-validation: the highest mean over the folds wins.

scikit-learn generates the folds, and the combinations of a grid or random search. Its GridSearchCV is not used, because
it only warns of a failed fit, and warnings can only be silenced for all threads at once.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv

from registry.errors import CandidateFailed
from registry.vocabulary import Task
from tasks.estimators.scoring import key_metric
from tasks.values import Found, Search

log = logging.getLogger("frontrunner")

Stop = Callable[[int, float], bool]  # returns whether to prune a trial after so many folds with this mean


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
    """Try combinations of hyperparameters on clones of the unfitted pipeline, and return the best one.

    `prefix` precedes a parameter's name in the pipeline. X_train is a frame (n, d), y_train is (n,) or (n, targets).
    `on_trial` is called with each trial that has ended.

    Raises:
        CandidateFailed: there are too few rows for the folds, or no trial was complete.
    """
    folds = _folds(task, search.args["cv"], y_train)
    labels = np.unique(y_train)  # of all rows, as a fold may lack some
    trials: list[dict[str, Any]] = []
    reasons: list[str] = []
    for params, stop in _proposed(search, algorithm, seed, trials):
        prefixed = {f"{prefix}{name}": value for name, value in params.items()}
        measured = _measured(task, clone(pipeline), prefixed, X_train, y_train, folds, labels)
        try:
            outcome = _outcome(measured, len(folds), stop)
        except Exception as error:  # noqa: BLE001  (a library may raise anything, and other combinations may succeed)
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
    best = max(complete, key=itemgetter("mean"))  # ties go to the first
    return Found(best["params"], best["mean"], trials)


def _folds(task: Task, cv: int, y: Any) -> list[tuple[Any, Any]]:
    """Return scikit-learn's folds for `cv`, for all trials: stratified by label, or for regression in order."""
    classification = task is Task.CLASSIFICATION
    rows = np.unique(y, return_counts=True)[1].max() if classification else len(y)
    needed = cv if classification else 2 * cv  # r2 of a single row is undefined
    if rows < needed:
        of_one = " of at least one label" if classification else ""
        raise CandidateFailed(f"cv={cv} needs {needed} training rows{of_one}, but there are {rows}: choose a lower cv")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # some folds lack rare labels
        return list(check_cv(cv, y, classifier=classification).split(np.zeros(len(y)), y))


def _measured(
    task: Task, pipeline: Any, params: dict[str, Any], X: Any, y: Any, folds: list[tuple[Any, Any]], labels: Any
) -> Iterator[tuple[float, float]]:
    """Yield the score and the seconds of fitting, fold by fold, in this thread, to which the OpenMP limit applies.

    The errors of `cross_validate` would not name the estimator whose hyperparameter is wrong.
    """
    candidate = pipeline.set_params(**params)
    for train, test in folds:
        started = perf_counter()
        fitted = clone(candidate).fit(X.iloc[train], y[train])
        fit_time = perf_counter() - started
        score = key_metric(task, y[test], fitted.predict(X.iloc[test]), labels)
        if not math.isfinite(score):
            raise CandidateFailed(f"a fold's score is {score}, not a finite number")
        yield score, fit_time


def _outcome(measured: Iterator[tuple[float, float]], folds: int, stop: Stop) -> dict[str, Any]:
    scores, times, state = [], [], "complete"
    for score, fit_time in measured:
        scores.append(score)
        times.append(fit_time)
        if len(scores) < folds and stop(len(scores), float(np.mean(scores))):
            state = "pruned"
            break
    return {
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores)),
        "fit_time": float(np.mean(times)),
        "state": state,
    }


def _proposed(
    search: Search, algorithm: str, seed: int, trials: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Stop]]:
    """Yield the combinations to try. The caller appends the result of each to `trials` before it takes the next."""
    space, args = search.params[algorithm], search.args
    if search.kind == "optuna":
        yield from _suggested(space, args, seed, trials)
        return
    combinations = grid = ParameterGrid(space)
    if search.kind == "random":
        combinations = ParameterSampler(space, min(args["n_iter"], len(grid)), random_state=seed)
    for combination in combinations:
        yield {name: combination[name] for name in space}, lambda _fold, _mean: False


def _suggested(
    space: dict[str, Any], args: dict[str, Any], seed: int, trials: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Stop]]:
    """Yield combinations that optuna suggests until the timeout, which is checked after each fold."""
    import optuna  # an extra, which other searches do not need

    result = optuna.trial.TrialState
    states = {"complete": result.COMPLETE, "pruned": result.PRUNED, "failed": result.FAIL}
    deadline = perf_counter() + (args["timeout"] or math.inf)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it prints each new study otherwise
    sampler, pruner = optuna.samplers.TPESampler(seed=seed), optuna.pruners.MedianPruner()
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    for _ in range(args["n_trials"]):
        trial = study.ask()
        yield (
            {name: _suggestion(trial, name, values) for name, values in space.items()},
            partial(_stop, trial, deadline),
        )
        ended = trials[-1]
        study.tell(trial, ended["mean"] if ended["state"] == "complete" else None, states[ended["state"]])
        if perf_counter() >= deadline:
            return


def _suggestion(trial: Any, name: str, values: list[Any] | dict[str, Any]) -> Any:
    if isinstance(values, list):  # by position, because optuna's choices can only be numbers and texts
        return values[trial.suggest_categorical(name, range(len(values)))]
    suggest = trial.suggest_int if isinstance(values["low"], int) else trial.suggest_float
    return suggest(name, **values)


def _stop(trial: Any, deadline: float, fold: int, mean: float) -> bool:
    trial.report(mean, fold)
    return trial.should_prune() or perf_counter() >= deadline

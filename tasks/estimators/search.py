"""The best hyperparameters of one algorithm, by cross-validation on the training rows. The best mean of its folds wins.

scikit-learn generates the combinations of a grid or a random search, and the folds. Its GridSearchCV is not used:
it keeps no reason of a failed fit but warns of it, and warnings can only be silenced for all threads at once.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import f1_score, make_scorer, r2_score
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv

from registry.errors import CandidateFailed
from registry.vocabulary import Task
from tasks.values import Found, Search

if TYPE_CHECKING:
    from optuna import Trial

log = logging.getLogger("frontrunner")

# Whether a trial is given up after this many folds with this mean.
Stop = Callable[[int, float], bool]


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


def _folds(task: Task, cv: int, y: Any) -> list[tuple[Any, Any]]:
    """What `cv` means to scikit-learn: stratified by label, or in order for regression; the same for every trial."""
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
    if task is Task.REGRESSION:
        return make_scorer(r2_score)
    labels = np.unique(y)
    average = {"average": "binary", "pos_label": labels[1]} if len(labels) == 2 else {"average": "macro"}
    return make_scorer(f1_score, zero_division=0, **average)


def _measured(
    pipeline: Any, params: dict[str, Any], X: Any, y: Any, folds: list[tuple[Any, Any]], scorer: Any
) -> Iterator[tuple[float, float]]:
    """Yield score and fit seconds, fold by fold, in this thread: its OpenMP limit holds for no other.

    `cross_validate` would put its own name in place of the estimator's into the error of a wrong hyperparameter.
    """
    candidate = clone(pipeline).set_params(**params)
    for train, test in folds:
        started = perf_counter()
        fitted = clone(candidate).fit(_rows(X, train), y[train])
        fit_time = perf_counter() - started
        score = float(scorer(fitted, _rows(X, test), y[test]))
        if not math.isfinite(score):
            raise CandidateFailed(f"a fold's score is {score}, not a finite number")
        yield score, fit_time


def _rows(X: Any, index: Any) -> Any:
    return X.iloc[index] if hasattr(X, "iloc") else X[index]


def _outcome(measured: Iterator[tuple[float, float]], folds: int, stop: Stop) -> dict[str, Any]:
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
    import optuna  # an extra, which other searches do not need
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

"""Check the values that a search is to try before anything is fitted."""

import math
import sys
from dataclasses import asdict
from fractions import Fraction
from importlib.util import find_spec
from typing import Annotated, Any

from annotated_types import Ge, Gt
from pydantic import AllowInfNan
from pydantic.dataclasses import dataclass

from registry.errors import BadHyperparameter, InvalidInput, MissingExtra
from registry.vocabulary import Task
from tasks.estimators.algorithms import NAMES, check_parameters, refuse_what_is_not_json
from tasks.validation import STRICT, Described, check
from tasks.values import Search

MAX_COMBINATIONS = {"grid": 10_000, "random": sys.maxsize}  # scikit-learn numbers the combinations it draws from
RANGE = '{"low": a, "high": b}, optionally with a "step" or "log": true'

Number = Annotated[int | float, AllowInfNan(False), Described("")]


@dataclass(frozen=True, config=STRICT)
class GridArgs:
    cv: Annotated[int, Ge(2), Described("The number of folds.", "a whole number of at least 2")] = 5


@dataclass(frozen=True, config=STRICT)
class RandomArgs(GridArgs):
    n_iter: Annotated[int, Ge(1), Described("The number of combinations to try.", "a whole number of at least 1")] = 10


@dataclass(frozen=True, config=STRICT)
class OptunaArgs(GridArgs):
    n_trials: Annotated[int, Ge(1), Described("The maximal number of trials.", "a whole number of at least 1")] = 20
    timeout: Annotated[
        float | None, Gt(0), AllowInfNan(False), Described("The maximal seconds of the search.", "seconds above 0")
    ] = None


@dataclass(frozen=True, config=STRICT)
class Range:
    low: Number
    high: Number
    step: Annotated[int | float | None, AllowInfNan(False), Described("")] = None
    log: Annotated[bool | None, Described("")] = None


ARGS: dict[str, type[GridArgs]] = {"grid": GridArgs, "random": RandomArgs, "optuna": OptunaArgs}


def checked_search(
    search: str | None,
    search_params: dict[str, Any] | None,
    search_args: dict[str, Any] | None,
    task: Task,
    algorithms: list[str],
    hyperparams: dict[str, dict[str, Any]],
) -> Search | None:
    """Return the checked search, None without one. With one algorithm, search_params may omit its name.

    Raises:
        UnknownValue, BadHyperparameter, InvalidInput: the search is not possible.
        MissingExtra: optuna is not installed.
    """
    if search is None:
        if search_params or search_args:
            raise InvalidInput(f"search_params and search_args need a search: choose one of {', '.join(ARGS)}")
        return None
    if search == "optuna" and find_spec("optuna") is None:
        raise MissingExtra("search='optuna'", "optuna")
    if not search_params:
        raise InvalidInput(f"search={search!r} needs search_params, {{algorithm: {{parameter: [values]}}}}")
    unnamed = len(algorithms) == 1 and not _names_algorithms(search_params)
    by_algorithm = {algorithms[0]: search_params} if unnamed else search_params
    for name, space in by_algorithm.items():
        _check_space(task, name, space, algorithms, hyperparams)
    params = {name: _checked_space(search, name, space) for name, space in by_algorithm.items()}
    args = check(ARGS[search], search_args or {}, unknown=f"argument of search={search!r}")
    return Search(search, params, asdict(args))


def _names_algorithms(search_params: dict[str, Any]) -> bool:
    """Return whether the keys are algorithms. The value of `quantile` shows if it is the algorithm or the parameter."""
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
    combinations, limit = math.prod(len(values) for values in checked.values()), MAX_COMBINATIONS[search]
    if combinations > limit:
        raise BadHyperparameter(
            f"search_params of {name!r} make {combinations:,} combinations; search={search!r} takes at most {limit:,}:"
            " list fewer values, or choose another search"
        )
    return checked


def _values(search: str, parameter: str, given: Any) -> list[Any] | dict[str, Any]:
    where = f"search_params: {parameter}"
    refuse_what_is_not_json(where, given)
    if isinstance(given, dict):
        if search != "optuna":
            raise BadHyperparameter(
                f"{where} is a range, which only search='optuna' takes: list the values for {search!r}"
            )
        return _range(where, given)
    if not isinstance(given, list | tuple) or not given:
        raise BadHyperparameter(f"{where} is not a list of the values to try: {given!r}")
    return list(given)


def _range(where: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the range in optuna's form. `high` becomes the last value that the steps reach, else optuna warns."""
    try:
        chosen = check(Range, given)
    except InvalidInput:
        raise BadHyperparameter(f"{where} is not {RANGE}: {given}") from None
    low, high, step = chosen.low, chosen.high, chosen.step
    if low >= high:
        raise BadHyperparameter(f"{where} is a range whose low is not below its high: {given}")
    if chosen.log and (low <= 0 or step is not None):
        raise BadHyperparameter(f"{where} is a range on a log scale, which needs a low above 0 and no step: {given}")
    kind = int if all(isinstance(number, int) for number in (low, high, step or 0)) else float
    if step is None:
        return {"low": kind(low), "high": kind(high), "log": bool(chosen.log)}
    if not 0 < step <= high - low:
        raise BadHyperparameter(f"{where} is a range whose step is not between 0 and high - low: {given}")
    first, size = Fraction(str(low)), Fraction(str(step))
    last = first + (Fraction(str(high)) - first) // size * size
    return {"low": kind(low), "high": kind(last), "step": kind(step)}

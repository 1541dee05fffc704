"""Turn columns into numbers, with a ColumnTransformer in the model's pipeline that is fitted on the training rows."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pandas.api import types
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from registry.errors import BadData, InvalidInput, UnknownColumn
from registry.vocabulary import Task
from tasks.validation import STRICT, Described, check, definitions

ONE_HOT_CATEGORIES = 20  # a text column with more categories than this is target-encoded
MAX_CATEGORIES = 1000  # of a one-hot column; rare categories beyond them share one
# A transformer is fitted on this many values, because an imputer takes several times the memory of its columns, but on
# at least two columns, because single columns make a row-major matrix, which is slower to build and to fit.
FITTED_VALUES, MIN_FITTED_COLUMNS = 8_000_000, 2
LISTED_NAMES = 5

IMPUTERS: dict[str, dict[str, Any]] = {
    "mean": {"strategy": "mean"},
    "median": {"strategy": np.median},  # the strategy "median" sorts a masked array, which is much slower
    "mode": {"strategy": "most_frequent"},
    "min": {"strategy": np.min},
    "max": {"strategy": np.max},
    "zero": {"strategy": "constant"},  # 0 in the column's type
}
SCALERS = {"standard": StandardScaler, "min_max": MinMaxScaler, "max_abs": MaxAbsScaler, "robust": RobustScaler}

Choice = dict[str, Any]


def _distinct(encode: str | dict[str, list[Any]]) -> str | dict[str, list[Any]]:
    order = encode.get("ordinal", []) if isinstance(encode, dict) else ["a text"]
    if not order or len({*map(str, order)}) < len(order):
        raise ValueError
    return encode


@dataclass(frozen=True, config=STRICT)
class ColumnOptions:
    """The preprocessing of one column. The default of an option depends on the column's type."""

    impute: Annotated[
        Literal["error", "mean", "median", "mode", "min", "max", "zero"] | None, Described("Fill missing values.")
    ] = None
    encode: Annotated[
        Literal["native", "ordinal", "one_hot", "target"] | dict[Literal["ordinal"], list[Any]] | None,
        AfterValidator(_distinct),
        Described(
            "Turn text into numbers.",
            'one of native, ordinal, one_hot, target or {"ordinal": [values in order]}',
        ),
    ] = None
    scale: Annotated[
        Literal["preserve", "standard", "min_max", "max_abs", "robust"] | None, Described("Scale numbers.")
    ] = None


OPTIONS = {name: each.choices for name, each in definitions(ColumnOptions).items()}


def checked_preprocess(preprocess: Mapping[str, Any] | None) -> dict[str, Choice]:
    """Return {column: {"impute": …, "encode": …, "scale": …}} with the given options only.

    Raises:
        InvalidInput: a value has the wrong form.
        UnknownValue: ColumnOptions does not have an option or its value.
    """
    return {name: _checked_choice(name, choice) for name, choice in (preprocess or {}).items()}


def _checked_choice(name: str, choice: Any) -> Choice:
    if not isinstance(choice, dict):
        raise InvalidInput(f"preprocess of {name!r} is {{option: value}}, not {choice!r}")
    options = check(ColumnOptions, choice, of=f" of {name!r}", unknown=f"preprocess option of {name!r}")
    return {option: value for option, value in vars(options).items() if value is not None}


def resolved(X: pd.DataFrame, preprocess: dict[str, Choice], *, allow_missing: bool) -> dict[str, Choice]:
    """Return the options of each column: the requested ones, and the defaults of its type.

    Missing numbers stay if the estimator supports them (`allow_missing`) and become the median otherwise. Nothing is
    scaled. Text is one-hot encoded, or cross-fitted target encoded above ONE_HOT_CATEGORIES. Dates become their parts.
    A column without any value is dropped.

    Raises:
        UnknownColumn: `preprocess` names a column that does not exist.
        BadData: a column cannot be prepared like this.
    """
    for name in preprocess:
        if name not in X.columns:
            raise UnknownColumn(name, "the features", map(str, X.columns))
    return {str(name): _choice(str(name), X[name], preprocess.get(str(name), {}), allow_missing) for name in X}


def preprocessor(task: Task, X: pd.DataFrame, chosen: dict[str, Choice], *, seed: int) -> ColumnTransformer:
    """Return a transformer in which columns with equal options share a step. It accepts new categories."""
    folds = KFold(min(5, len(X)), shuffle=True, random_state=seed)
    size = max(MIN_FITTED_COLUMNS, FITTED_VALUES // len(X))
    shared: list[tuple[str, Any, list[str]]] = []
    dates: list[tuple[str, Any, str]] = []
    for choice, names in _groups(chosen):
        if choice["encode"] == "date_parts":  # its encoder takes one column
            dates += [(f"{name} parts", _date_steps(choice), name) for name in names]
        elif choice["encode"] != "dropped":
            for start in range(0, len(names), size):
                part = names[start : start + size]
                shared.append((f"group {len(shared) + 1}", _steps(task, choice, len(part), folds), part))
    return ColumnTransformer([*shared, *dates], verbose_feature_names_out=_names_may_clash(chosen))


def refuse_identifier(name: str, distinct: int, values: int) -> None:
    """Raise BadData for a text column without repeated values, from which no estimator can learn."""
    if distinct > ONE_HOT_CATEGORIES and distinct == values:
        raise BadData(
            f"column {name!r} has {distinct} different texts and may be an id: leave it out, or choose its encode"
        )


def preprocessing_lines(chosen: dict[str, Choice]) -> list[list[str]]:
    """Return lines of cells, the first one the header. Columns with equal options share a line."""
    lines = [["columns", *OPTIONS]]
    for choice, names in _groups(chosen):
        more = f", … ({len(names)} in all)" if len(names) > LISTED_NAMES else ""
        lines.append([", ".join(names[:LISTED_NAMES]) + more])
        for value in (choice.get(option, "") for option in OPTIONS):
            is_order = isinstance(value, dict)
            lines[-1].append("ordinal: " + " < ".join(map(str, value["ordinal"])) if is_order else value)
    return lines


def _groups(chosen: dict[str, Choice]) -> Iterable[tuple[Choice, list[str]]]:
    """Return the different options and the columns that have them."""
    groups: dict[str, tuple[Choice, list[str]]] = {}
    for name, choice in chosen.items():
        groups.setdefault(str(choice), (choice, []))[1].append(name)
    return groups.values()


def _choice(name: str, column: "pd.Series[Any]", requested: Choice, allow_missing: bool) -> Choice:
    missing = int(column.isna().sum())
    if missing == len(column):
        return {"encode": "dropped"}
    if requested.get("impute") == "error" and missing:
        raise BadData(
            f"column {name!r} has {missing} missing values, and its impute is error: fill them, or change impute"
        )
    impute = "native" if allow_missing else "median"
    if types.is_datetime64_any_dtype(column.dtype):
        if requested.get("encode", "native") != "native":
            raise BadData(f"column {name!r} holds dates, which are expanded into their parts: leave its encode out")
        # Unscaled, the seconds since 1970 would outweigh every other feature of a linear model.
        return {"encode": "", "impute": impute, "scale": "standard"} | requested | {"encode": "date_parts"}
    if types.is_numeric_dtype(column.dtype):
        return {"encode": "native", "impute": impute, "scale": "preserve"} | requested
    return _text_choice(name, column, requested, impute)


def _text_choice(name: str, column: "pd.Series[Any]", requested: Choice, impute: str) -> Choice:
    if requested.get("encode") == "native":
        raise BadData(f"column {name!r} is text, which no algorithm accepts: encode it by ordinal, one_hot or target")
    encode = requested.get("encode", "one_hot" if column.nunique() <= ONE_HOT_CATEGORIES else "target")
    if isinstance(encode, dict) and (unknown := set(column.dropna()) - set(encode["ordinal"])):
        raise BadData(f"the order of column {name!r} lacks {min(unknown, key=str)!r}, which its rows have: add it")
    if encode == "one_hot" and requested.get("impute") not in (None, "error", "mode"):
        raise BadData(
            f"column {name!r} is text, and impute {requested['impute']} is for numbers: choose mode, or encode it"
        )
    if encode in ("one_hot", "target"):
        impute = "native"  # a missing value is a category of its own
    return {"encode": encode, "impute": impute, "scale": "preserve"} | requested


def _names_may_clash(chosen: dict[str, Choice]) -> bool:
    """Return whether a derived name such as `city_Rome` may be another column's, so that names need a prefix."""
    expanded = {name for name, choice in chosen.items() if choice["encode"] in ("one_hot", "date_parts")}
    ends = ((name, end) for name in chosen for end, letter in enumerate(name) if letter == "_")
    return any(name[:end] in expanded for name, end in ends)


def _steps(task: Task, choice: Choice, columns: int, folds: KFold) -> Any:
    encoders = _encoders(task, choice["encode"], columns, folds)
    if encoders and choice["impute"] == "mode":
        return _joined([SimpleImputer(strategy="most_frequent"), *encoders], choice["scale"])
    return _joined([*encoders, *_imputers(choice)], choice["scale"])


def _date_steps(choice: Choice) -> Any:
    from skrub import DatetimeEncoder  # slow to import, and only dates need it

    return _joined([DatetimeEncoder(add_weekday=True), *_imputers(choice)], choice["scale"])


def _imputers(choice: Choice) -> list[Any]:
    return [SimpleImputer(**IMPUTERS[choice["impute"]])] if choice["impute"] in IMPUTERS else []


def _joined(steps: list[Any], scale: str) -> Any:
    if scale in SCALERS:
        steps = [*steps, SCALERS[scale]()]
    if len(steps) > 1:
        return make_pipeline(*steps)
    return steps[0] if steps else "passthrough"


def _encoders(task: Task, encode: Any, columns: int, folds: KFold) -> list[Any]:
    if encode == "one_hot":
        return [OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False)]
    if encode == "target":
        return [TargetEncoder(target_type="continuous" if task is Task.REGRESSION else "auto", cv=folds)]
    if encode == "ordinal" or isinstance(encode, dict):
        order = [encode["ordinal"]] * columns if isinstance(encode, dict) else "auto"
        return [OrdinalEncoder(categories=order, handle_unknown="use_encoded_value", unknown_value=-1)]
    return []

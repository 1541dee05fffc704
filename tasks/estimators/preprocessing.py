"""Columns to numbers, as one ColumnTransformer inside the model's pipeline, fitted on training rows."""

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
MOST_CATEGORIES = 1000  # of a one-hot column; the rare ones above share one
# Fitted at a time, by a thread: an imputer takes several times the memory of its columns. Columns one by one would make
# a matrix by rows, which takes longer to put together and to fit.
FITTED_VALUES, FITTED_COLUMNS = 8_000_000, 2
LISTED = 5

IMPUTERS: dict[str, dict[str, Any]] = {
    "mean": {"strategy": "mean"},
    "median": {"strategy": np.median},  # by that name it would sort a masked array, five times as long
    "mode": {"strategy": "most_frequent"},
    "min": {"strategy": np.min},
    "max": {"strategy": np.max},
    "zero": {"strategy": "constant"},  # 0 of the columns' own type
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
    """How one column is prepared. An option that is left out depends on the column's type."""

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
    """Return {column: {"impute": …, "encode": …, "scale": …}} with the options that were given.

    Raises:
        InvalidInput: a value has another shape.
        UnknownValue: an option or its value is not one of those of ColumnOptions.
    """
    return {name: _checked_choice(name, choice) for name, choice in (preprocess or {}).items()}


def _checked_choice(name: str, choice: Any) -> Choice:
    if not isinstance(choice, dict):
        raise InvalidInput(f"preprocess of {name!r} is {{option: value}}, not {choice!r}")
    options = check(ColumnOptions, choice, of=f" of {name!r}", unknown=f"preprocess option of {name!r}")
    return {option: value for option, value in vars(options).items() if value is not None}


def resolved(X: pd.DataFrame, preprocess: dict[str, Choice], *, takes_gaps: bool) -> dict[str, Choice]:
    """What is done to each column: what was asked for, and by default what its type asks for.

    Numbers: gaps stay where the estimator takes them (`takes_gaps`), else they become the median; nothing is scaled.
    Text: one-hot, or cross-fitted target encoding above ONE_HOT_CATEGORIES. Dates become their parts. A column without
    a single value is dropped.

    Raises:
        BadData: a column cannot be treated so.
    """
    for name in preprocess:
        if name not in X.columns:
            raise UnknownColumn(name, "the features", map(str, X.columns))
    return {str(name): _choice(str(name), X[name], preprocess.get(str(name), {}), takes_gaps) for name in X}


def preprocessor(task: Task, X: pd.DataFrame, chosen: dict[str, Choice], *, seed: int) -> ColumnTransformer:
    """Columns of the same choice share a transformer. A new category is no error; columns are found by their names."""
    groups: dict[str, tuple[Choice, list[str]]] = {}
    dates = []
    for name, choice in chosen.items():
        if choice["encode"] == "date_parts":  # its encoder takes one column
            dates.append((f"{name} parts", _date_steps(choice), name))
        elif choice["encode"] != "dropped":
            groups.setdefault(str(choice), (choice, []))[1].append(name)
    folds = KFold(min(5, len(X)), shuffle=True, random_state=seed)
    at_once = max(FITTED_COLUMNS, FITTED_VALUES // len(X))
    parts = [
        (choice, names[start : start + at_once])
        for choice, names in groups.values()
        for start in range(0, len(names), at_once)
    ]
    shared = [
        (f"group {number}", _steps(task, choice, len(names), folds), names)
        for number, (choice, names) in enumerate(parts, 1)
    ]
    return ColumnTransformer([*shared, *dates], verbose_feature_names_out=_names_may_clash(chosen))


def refuse_identifier(name: str, distinct: int, values: int) -> None:
    """A text column of which every value is another tells an estimator nothing. Raises: BadData."""
    if distinct > ONE_HOT_CATEGORIES and distinct == values:
        raise BadData(
            f"column {name!r} has {distinct} texts and none twice, an id perhaps: leave it out, or say how to encode it"
        )


def preprocessing_lines(chosen: dict[str, Choice]) -> list[list[str]]:
    """Lines of cells, the first one the head: columns of the same choice stand together."""
    groups: dict[str, tuple[Choice, list[str]]] = {}
    for name, choice in chosen.items():
        groups.setdefault(str(choice), (choice, []))[1].append(name)
    return [
        ["columns", *OPTIONS],
        *(
            [_listed(names), *(_told(choice.get(option, "")) for option in OPTIONS)]
            for choice, names in groups.values()
        ),
    ]


def _choice(name: str, column: "pd.Series[Any]", asked: Choice, takes_gaps: bool) -> Choice:
    gaps = int(column.isna().sum())
    if gaps == len(column):
        return {"encode": "dropped"}
    if asked.get("impute") == "error" and gaps:
        raise BadData(
            f"column {name!r} has {gaps} gaps and its impute is error: fill them, or impute by mean or median"
        )
    filled = "native" if takes_gaps else "median"
    if types.is_datetime64_any_dtype(column.dtype):
        _refuse_encoding(name, asked, "dates", ("native",))
        # Seconds since 1970 beside a weekday: as they are, a linear model sees nothing else.
        return {"encode": "date_parts", "impute": filled, "scale": "standard"} | _without(asked, "encode")
    if types.is_numeric_dtype(column.dtype):
        return {"encode": "native", "impute": filled, "scale": "preserve"} | asked
    return _text_choice(name, column, asked, filled)


def _text_choice(name: str, column: "pd.Series[Any]", asked: Choice, filled: str) -> Choice:
    distinct = column.nunique()
    if asked.get("encode") == "native":
        raise BadData(f"column {name!r} is text, which no algorithm reads: encode it by ordinal, one_hot or target")
    encode = asked.get("encode", "one_hot" if distinct <= ONE_HOT_CATEGORIES else "target")
    if isinstance(encode, dict) and (unknown := set(column.dropna()) - set(encode["ordinal"])):
        raise BadData(f"the order of column {name!r} lacks {min(unknown, key=str)!r}, which its rows have: add it")
    if encode == "one_hot" and asked.get("impute") not in (None, "error", "mode"):
        raise BadData(f"column {name!r} is text, and {asked['impute']} is of numbers: impute by mode, or encode it")
    impute = (
        filled if encode == "ordinal" or isinstance(encode, dict) else "native"
    )  # the others take a gap as a category
    return {"encode": encode, "impute": impute, "scale": "preserve"} | asked


def _names_may_clash(chosen: dict[str, Choice]) -> bool:
    """Whether one column's `city_Rome` could be another column's name; then each carries its group's before it."""
    widened = {name for name, choice in chosen.items() if choice["encode"] in ("one_hot", "date_parts")}
    ends = ((name, end) for name in chosen for end, letter in enumerate(name) if letter == "_")
    return any(name[:end] in widened for name, end in ends)


def _refuse_encoding(name: str, asked: Choice, kind: str, valid: tuple[str, ...]) -> None:
    if asked.get("encode", "native") not in valid:
        raise BadData(f"column {name!r} holds {kind}, which are expanded into their parts: leave its encode out")


def _without(choice: Choice, option: str) -> Choice:
    return {name: value for name, value in choice.items() if name != option}


def _steps(task: Task, choice: Choice, columns: int, folds: KFold) -> Any:
    encode, impute = choice["encode"], choice["impute"]
    first = [SimpleImputer(strategy="most_frequent")] if impute == "mode" and encode != "native" else []
    steps = [*first, *_encoder(task, encode, columns, folds)]
    if impute in IMPUTERS and not first:
        steps.append(SimpleImputer(**IMPUTERS[impute]))
    return _joined(steps, choice["scale"])


def _date_steps(choice: Choice) -> Any:
    from skrub import DatetimeEncoder

    steps = [DatetimeEncoder(add_weekday=True)]
    return _joined(
        [*steps, *([SimpleImputer(**IMPUTERS[choice["impute"]])] if choice["impute"] in IMPUTERS else [])],
        choice["scale"],
    )


def _joined(steps: list[Any], scale: str) -> Any:
    steps = [*steps, *([SCALERS[scale]()] if scale in SCALERS else [])]
    if len(steps) > 1:
        return make_pipeline(*steps)
    return steps[0] if steps else "passthrough"


def _encoder(task: Task, encode: Any, columns: int, folds: KFold) -> list[Any]:
    if encode == "one_hot":
        return [
            OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False)
        ]
    if encode == "target":
        return [TargetEncoder(target_type="continuous" if task is Task.REGRESSION else "auto", cv=folds)]
    if encode == "ordinal" or isinstance(encode, dict):
        order = [encode["ordinal"]] * columns if isinstance(encode, dict) else "auto"
        return [OrdinalEncoder(categories=order, handle_unknown="use_encoded_value", unknown_value=-1)]
    return []


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:LISTED]) + (f", … ({len(names)} in all)" if len(names) > LISTED else "")


def _told(value: Any) -> str:
    return value if isinstance(value, str) else "ordinal: " + " < ".join(map(str, value["ordinal"]))

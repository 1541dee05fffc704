"""The rows of a relation, checked: what cannot be trained on is refused in one line before anything is recorded."""

from typing import TYPE_CHECKING, Any

from registry.errors import BadData, UnknownColumn
from registry.vocabulary import Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def checked_rows(
    frame: "pd.DataFrame", relation_name: str, y_column_names: tuple[str, ...], task: Task
) -> "pd.DataFrame":
    """The rows with plain column types: numbers, booleans as 0 and 1, text.

    Raises:
        BadData: they cannot be trained on.
    """
    import pandas as pd

    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadData(f"{relation_name} has two columns named {twice[0]!r}: rename one")
    for name in y_column_names:
        if name not in frame.columns:
            raise UnknownColumn(name, relation_name, frame.columns)
    if len(frame) < 4:
        raise BadData(
            f"{relation_name} has {len(frame)} rows: at least 4 are needed, to fit on some and test on others"
        )
    if len(frame.columns) == len(y_column_names):
        raise BadData(f"{relation_name} has no column beside the target: there is nothing to predict it from")
    target = y_column_names[0]
    plain = {name: _plain(frame[name], name, relation_name) for name in frame.columns if name != target}
    plain[target] = _checked_target(frame[target], target, relation_name, task)
    return pd.DataFrame({name: plain[name] for name in frame.columns})


def check_strata(labels: "np.ndarray[Any, Any]", k: int, task: Task) -> None:
    """A class must be on both sides of a stratified split. Raises: BadData."""
    import numpy as np

    if task is Task.REGRESSION:
        raise BadData("test_sampling 'stratified' is for classification: use random or last")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise BadData(
            f"class {_shown(classes[counts.argmin()])} has one row and cannot be both fitted and tested: use"
            " test_sampling random, or leave it out"
        )
    if min(k, len(labels) - k) < len(classes):
        raise BadData(
            f"{k} test rows cannot hold each of {len(classes)} classes: a larger test_size, or sampling random"
        )


def check_sides(train: "np.ndarray[Any, Any]", test: "np.ndarray[Any, Any]", task: Task, relation_name: str) -> None:
    """Both sides must be able to tell something. Raises: BadData."""
    import numpy as np

    if task is Task.CLASSIFICATION and len(np.unique(train)) < 2:
        raise BadData(
            f"the training rows of {relation_name} have a single class, {_shown(train[0])}: nothing to tell apart"
        )
    if task is Task.REGRESSION and (test == test[0]).all():
        raise BadData(f"every test row of {relation_name} has the target {_shown(test[0])}, so R2 means nothing there")


def _plain(column: "pd.Series[Any]", name: str, relation_name: str) -> "pd.Series[Any]":
    """Numbers as numpy's, a gap as NaN; booleans as 0 and 1; text as text."""
    import numpy as np
    import pandas as pd
    from pandas.api import types

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()  # its categories' type may have no place for a gap
    if types.is_bool_dtype(column.dtype) or types.is_numeric_dtype(column.dtype):
        return _plain_numbers(column, name, relation_name)
    present = column.dropna()
    if present.empty:
        return pd.Series(np.nan, index=column.index)
    if all(isinstance(value, str) for value in present):
        return column.astype("str")
    if all(isinstance(value, bool | np.bool_) for value in present):
        return _plain_numbers(column.astype("boolean"), name, relation_name)
    kind = type(present.iloc[0]).__name__ if column.dtype == object else str(column.dtype)
    raise BadData(
        f"column {name!r} of {relation_name} holds {kind} values: give numbers, booleans or text, or leave it out"
    )


def _plain_numbers(column: "pd.Series[Any]", name: str, relation_name: str) -> "pd.Series[Any]":
    import numpy as np
    from pandas.api import types

    if types.is_complex_dtype(column.dtype):
        raise BadData(f"column {name!r} of {relation_name} holds complex numbers: give their parts as two columns")
    if types.is_extension_array_dtype(column.dtype):
        gaps = bool(column.isna().any())
        column = column.astype(np.float64 if gaps or types.is_float_dtype(column.dtype) else np.int64)
    if types.is_bool_dtype(column.dtype):
        return column.astype(np.int8)
    if types.is_float_dtype(column.dtype) and (np.abs(column) > np.finfo(np.float32).max).any():
        raise BadData(
            f"column {name!r} of {relation_name} has values that are infinite or beyond 3.4e38: mend the rows"
        )
    return column


def _checked_target(column: "pd.Series[Any]", name: str, relation_name: str, task: Task) -> "pd.Series[Any]":
    from pandas.api import types

    gaps = int(column.isna().sum())
    if gaps:
        raise BadData(f"{gaps} of {len(column)} rows of {relation_name} have no {name!r}: leave those rows out")
    booleans = types.is_bool_dtype(column.dtype)
    column = column.astype(bool) if booleans and task is Task.CLASSIFICATION else _plain(column, name, relation_name)
    kind = column.dtype.kind
    if task is Task.REGRESSION and kind not in "iuf":
        raise BadData(
            f"{name!r} of {relation_name} is text, and regression predicts numbers: cast it, or train a classification"
        )
    if task is Task.CLASSIFICATION and kind == "f":
        raise BadData(
            f"{name!r} of {relation_name} holds fractional numbers, and classification predicts labels: cast it to"
            " integers or text, or train a regression"
        )
    return column


def _shown(value: Any) -> str:
    """A label as a person would write it, whether it is numpy's or Python's."""
    return repr(value.item() if hasattr(value, "item") else value)

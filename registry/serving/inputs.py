"""Rows to predict for, in any form that people have them in, converted to the frame that a pipeline was fitted on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from registry.errors import BadRows, MissingColumns
from registry.serving.columns import EXACT_INTEGERS, FLOAT32_MAX, convert_column, one_line
from registry.serving.features import Features


def aligned(rows: Any, features: Features) -> pd.DataFrame:
    """Return the columns that a pipeline uses, with their types: n × d.

    `rows` is a DataFrame, {column: values}, [{column: value}, …], or an n × d array or list of lists in the order of
    training. Columns are found by name; others are left out.

    Raises:
        MissingColumns: some are not there.
        BadRows: they have another form, or values of another type.
    """
    return aligned_with_values(rows, features)[0]


def aligned_with_values(rows: Any, features: Features) -> tuple[pd.DataFrame, np.ndarray[Any, Any] | None]:
    """Return what `aligned` does, and the same as one array, n × d, where all of it was found to be finite numbers."""
    frame = _frame(rows, features)
    if (ready := _plain_numbers(frame, features)) is not None:
        return ready
    if missing := [feature.name for feature in features.used if feature.name not in frame.columns]:
        raise MissingColumns(missing, [str(name) for name in frame.columns])

    columns = [convert_column(frame[feature.name], feature).rename(feature.name) for feature in features.used]
    return (pd.concat(columns, axis="columns") if columns else frame), None


def _plain_numbers(frame: pd.DataFrame, features: Features) -> tuple[pd.DataFrame, np.ndarray[Any, Any]] | None:
    """Return the used columns where all of them are plain numbers, as nearly always; None where there is anything to
    convert or to refuse. They are checked together, since one by one takes as long as a model does.
    """
    if not features.are_numbers or not len(frame):
        return None
    if not frame.columns.equals(features.columns):
        if not set(features.names) <= set(frame.columns):
            return None
        frame = frame[features.names]
    values = frame.to_numpy()
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        return None
    kind = values.dtype.kind
    if (kind in "iu" and kind not in features.integers) or set(frame.dtypes) != {values.dtype}:
        values = values.astype(np.float64, copy=False)
        if not -EXACT_INTEGERS < values.min() <= values.max() < EXACT_INTEGERS:  # nor a missing value
            return None
        frame = pd.DataFrame(values, frame.index, features.columns, copy=False)
    elif kind == "f":
        flat = values.ravel(order="K")
        # The square of any number that is too large is, too. Not by BLAS, whose threads would disturb the model's.
        if not np.einsum("i,i->", flat, flat, dtype=np.float64) <= FLOAT32_MAX**2:  # neither is a missing value
            return None
    return frame, values


def _frame(rows: Any, features: Features) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        frame = rows
    elif isinstance(rows, Mapping):
        frame = _from_columns(dict(rows), features)
    elif isinstance(rows, np.ndarray) or (isinstance(rows, Sequence) and not isinstance(rows, str | bytes)):
        frame = _from_list(rows, features)
    else:
        raise BadRows(
            "rows are a DataFrame, {column: values}, [{column: value}, …] or an array in the order of training, not a"
            f" {type(rows).__name__}"
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise BadRows(f"the rows have two columns named {twice!r}: rename one")
    return frame


def _from_list(rows: Any, features: Features) -> pd.DataFrame:
    names = [feature.name for feature in features]
    if len(rows) == 0:
        return _table([], names)
    if isinstance(rows[0], Mapping):
        if not all(isinstance(row, Mapping) for row in rows):
            raise BadRows("some rows have names for their values and some have not: name all")
        for row in rows:  # a value that was left out would become a missing one
            if missing := [feature.name for feature in features.used if feature.name not in row]:
                raise MissingColumns(missing, list(row))
        return _table([[row[name] for name in features.names] for row in rows], features.columns)
    widths = {len(row) if isinstance(row, Sequence) and not isinstance(row, str) else _width(row) for row in rows}
    if widths != {len(names)}:
        found = " or ".join("no" if width is None else str(width) for width in sorted(widths, key=str))
        raise BadRows(
            f"rows without names have {len(names)} values each, in the order of training"
            f" ({', '.join(names[:5])}{', …' if names[5:] else ''}); these have {found}"
        )
    return _table(rows, features.columns if len(features.used) == len(features) else names)


def _from_columns(columns: dict[Any, Any], features: Features) -> pd.DataFrame:
    """Convert lists of numbers by way of an array: pandas takes as long for each of them as a model does for a row."""
    values = [columns[name] for name in features.names if name in columns]
    if len(values) == len(features) and all(isinstance(each, list) for each in values):
        table = _number_array(values)
        if table is not None:
            return _table(table.T, features.columns)
    return _table(columns, None)


def _number_array(lists: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return lists of one length that hold numbers alone as an array; None if they are anything else, or if the array
    may hold other numbers.
    """
    try:
        table = np.array(lists)
    except (ValueError, OverflowError):  # of several lengths
        return None
    if table.ndim != 2 or table.dtype.kind not in "if":
        return None
    return None if table.size and table.dtype.kind == "f" and np.abs(table).max() >= EXACT_INTEGERS else table


def _width(row: Any) -> int | None:
    return int(row.shape[0]) if getattr(row, "ndim", 0) == 1 else None


def _table(rows: Any, names: "pd.Index[Any] | list[str] | None") -> pd.DataFrame:
    try:
        table = _number_array(rows) if isinstance(rows, list) and rows else None
        return pd.DataFrame(rows if table is None else table, columns=names)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRows(f"the rows do not make a table: {one_line(error)}") from error

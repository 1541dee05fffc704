"""Convert rows to predict for, in any common form, to the frame that a pipeline was fitted on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from registry.errors import BadRows, MissingColumns
from registry.serving.columns import EXACT_INTEGERS, FLOAT32_MAX, convert_column, one_line
from registry.serving.features import Features


def aligned(rows: Any, features: Features) -> pd.DataFrame:
    """Return the n × d columns that a pipeline uses, with their types at training.

    `rows` is a DataFrame, {column: values}, [{column: value}, …], or an n × d array or list of lists in the order of
    training. Columns are found by name; additional ones are ignored.

    Raises:
        MissingColumns: some columns are missing.
        BadRows: the rows have another form, or values of another type.
    """
    return aligned_with_values(rows, features)[0]


def aligned_with_values(rows: Any, features: Features) -> tuple[pd.DataFrame, np.ndarray[Any, Any] | None]:
    """Return the same as `aligned`, and its values as one n × d array if all of them are known to be finite."""
    frame = _frame(rows, features)
    if (ready := _plain_numbers(frame, features)) is not None:
        return ready
    if missing := [feature.name for feature in features.used if feature.name not in frame.columns]:
        raise MissingColumns(missing, [str(name) for name in frame.columns])

    columns = [convert_column(frame[feature.name], feature).rename(feature.name) for feature in features.used]
    return (pd.concat(columns, axis="columns") if columns else frame), None


def _plain_numbers(frame: pd.DataFrame, features: Features) -> tuple[pd.DataFrame, np.ndarray[Any, Any]] | None:
    """Return the used columns if all are plain numbers; None if there is anything to convert or to refuse.

    They are checked together, because one by one takes as long as a prediction.
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
        if not -EXACT_INTEGERS < values.min() <= values.max() < EXACT_INTEGERS:  # also refuses NaN
            return None
        frame = pd.DataFrame(values, frame.index, features.columns, copy=False)
    elif kind == "f":
        flat = values.ravel(order="K")
        # The sum of squares is at least the square of every number. BLAS is avoided: its threads disturb the model's.
        if not np.einsum("i,i->", flat, flat, dtype=np.float64) <= FLOAT32_MAX**2:  # also refuses NaN
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
            "rows must be a DataFrame, {column: values}, [{column: value}, …] or an array in the order of training, not"
            f" a {type(rows).__name__}"
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
            raise BadRows("some rows have names for their values and some have not: give names in all")
        for row in rows:  # an absent value is an error, not a missing value
            if missing := [feature.name for feature in features.used if feature.name not in row]:
                raise MissingColumns(missing, list(row))
        return _table([[row[name] for name in features.names] for row in rows], features.columns)
    widths = {len(row) if isinstance(row, Sequence) and not isinstance(row, str) else _width(row) for row in rows}
    if widths != {len(names)}:
        found = " or ".join("no" if width is None else str(width) for width in sorted(widths, key=str))
        raise BadRows(
            f"rows without names need {len(names)} values each, in the order of training"
            f" ({', '.join(names[:5])}{', …' if names[5:] else ''}); these have {found}"
        )
    return _table(rows, features.columns if len(features.used) == len(features) else names)


def _from_columns(columns: dict[Any, Any], features: Features) -> pd.DataFrame:
    """Make a table of columns. Lists of numbers go through one array, because pandas is slow for each list."""
    values = [columns[name] for name in features.names if name in columns]
    if len(values) == len(features) and all(isinstance(each, list) for each in values):
        table = _number_array(values)
        if table is not None:
            return _table(table.T, features.columns)
    return _table(columns, None)


def _number_array(lists: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return lists of numbers of one length as an array; None for other lists, or if the array may round numbers."""
    try:
        table = np.array(lists)
    except (ValueError, OverflowError):  # lists of several lengths
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

"""Rows to predict for, in any of the forms that people have them in, to the frame that a pipeline was fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from registry.errors import BadRows, MissingColumns
from registry.values import ModelRecord, SnapshotRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LARGEST = 3.4028234663852886e38  # of a float32, which trees compare with
EXACT = 2**53  # below it, every whole number is a float64
FLOATS = ("double", "float", "halffloat")  # as Arrow names them


@dataclass(frozen=True, slots=True)
class Feature:
    """A column as it was at training: `kind` is its Arrow type; no gap is taken where `gaps` is False.

    One that is not `used` had no value then; it may be missing now.
    """

    name: str
    kind: str
    used: bool
    gaps: bool

    @property
    def integers(self) -> str:
        """numpy's kinds of integers that are taken as they are; an imputer of a constant refuses what its own type at
        training does not go into: fractions into whole numbers, signed ones into unsigned.
        """
        if self.kind in FLOATS:
            return ""
        return "iu" if self.kind.startswith("uint") else "i"


class Features(tuple[Feature, ...]):  # noqa: SLOT001  (cached properties want a dictionary)
    """The columns that a model is asked with, in the order of training, and what each request would work out anew."""

    @cached_property
    def used(self) -> list[Feature]:
        return [feature for feature in self if feature.used]

    @cached_property
    def names(self) -> list[str]:
        """Of the columns that are used."""
        return [feature.name for feature in self.used]

    @cached_property
    def are_numbers(self) -> bool:
        return all(_said(feature) == "numbers" for feature in self.used)

    @cached_property
    def integers(self) -> str:
        """What each of them takes."""
        return min((feature.integers for feature in self.used), key=len, default="")

    @cached_property
    def columns(self) -> "pd.Index[Any]":
        """`names` for pandas, which takes five times as long to make a table with a list."""
        import pandas as pd

        columns = pd.Index(self.names)
        assert columns.is_unique  # and pandas, which locks nothing, has found out before threads share it
        return columns


def features(snapshot: SnapshotRecord, model: ModelRecord) -> Features:
    """The columns that a model of this snapshot is asked with."""
    return Features(
        Feature(
            column["name"],
            column["type"],
            used=model.preprocessing[column["name"]]["encode"] != "dropped",
            gaps=model.preprocessing[column["name"]].get("impute") != "error",
        )
        for column in snapshot.columns
        if column["name"] not in snapshot.y_column_names
    )


def aligned(rows: Any, features: Features) -> "pd.DataFrame":
    """The columns that a pipeline uses, with their types: n × d.

    `rows` is a DataFrame, {column: values}, [{column: value}, …], or an n × d array or list of lists in the order of
    training. Columns are found by name; others are left out.

    Raises:
        MissingColumns: some are not there.
        BadRows: they have another form, or values of another type.
    """
    return aligned_with_values(rows, features)[0]


def aligned_with_values(rows: Any, features: Features) -> "tuple[pd.DataFrame, np.ndarray[Any, Any] | None]":
    """`aligned`, and the same as one array, n × d, if it was found that all of it are finite numbers."""
    frame = _frame(rows, features)
    if (ready := _as_it_is(frame, features)) is not None:
        return ready
    if missing := [feature.name for feature in features.used if feature.name not in frame.columns]:
        raise MissingColumns(missing, [str(name) for name in frame.columns])
    import pandas as pd

    columns = [_column(frame[feature.name], feature).rename(feature.name) for feature in features.used]
    return (pd.concat(columns, axis="columns") if columns else frame), None


def _as_it_is(frame: "pd.DataFrame", features: Features) -> "tuple[pd.DataFrame, np.ndarray[Any, Any]] | None":
    """The columns that are used where all of them are plain numbers, as nearly always: looked at at once, since columns
    one by one take as long as a model does. None where there is anything to convert or to refuse.
    """
    import numpy as np
    import pandas as pd

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
        if not -EXACT < values.min() <= values.max() < EXACT:  # nor a gap
            return None
        frame = pd.DataFrame(values, frame.index, features.columns, copy=False)
    elif kind == "f":
        flat = values.ravel(order="K")
        # Of any number that is too large, the square is. Not by BLAS: its threads would be in the way of the model's
        # for a while.
        if not np.einsum("i,i->", flat, flat, dtype=np.float64) <= LARGEST**2:  # a gap is not either
            return None
    return frame, values


def _frame(rows: Any, features: Features) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        frame = rows
    elif isinstance(rows, Mapping):
        frame = _of_columns(dict(rows), features)
    elif isinstance(rows, np.ndarray) or (isinstance(rows, Sequence) and not isinstance(rows, str | bytes)):
        frame = _listed(rows, features)
    else:
        raise BadRows(
            "rows are a DataFrame, {column: values}, [{column: value}, …] or an array in the order of training, not a"
            f" {type(rows).__name__}"
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise BadRows(f"the rows have two columns named {twice!r}: rename one")
    return frame


def _listed(rows: Any, features: Features) -> "pd.DataFrame":
    names = [feature.name for feature in features]
    if len(rows) == 0:
        return _made([], names)
    if isinstance(rows[0], Mapping):
        if not all(isinstance(row, Mapping) for row in rows):
            raise BadRows("some rows have names for their values and some have not: name all")
        for row in rows:  # a value that was left out would become a gap
            if missing := [feature.name for feature in features.used if feature.name not in row]:
                raise MissingColumns(missing, list(row))
        return _made([[row[name] for name in features.names] for row in rows], features.columns)
    widths = {len(row) if isinstance(row, Sequence) and not isinstance(row, str) else _width(row) for row in rows}
    if widths != {len(names)}:
        found = " or ".join("no" if width is None else str(width) for width in sorted(widths, key=str))
        raise BadRows(
            f"rows without names have {len(names)} values each, in the order of training"
            f" ({', '.join(names[:5])}{', …' if names[5:] else ''}); these have {found}"
        )
    return _made(rows, features.columns if len(features.used) == len(features) else names)


def _of_columns(columns: dict[Any, Any], features: Features) -> "pd.DataFrame":
    """Lists of numbers by way of an array: pandas takes as long for each of them as a model does for a row."""
    values = [columns[name] for name in features.names if name in columns]
    if len(values) == len(features) and all(isinstance(each, list) for each in values):
        table = _numbers_alone(values)
        if table is not None:
            return _made(table.T, features.columns)
    return _made(columns, None)


def _numbers_alone(lists: list[Any]) -> "np.ndarray[Any, Any] | None":
    """Lists of one length with nothing but numbers in them as an array; None if they are anything else, or may be other
    numbers in it.
    """
    import numpy as np

    try:
        table = np.array(lists)
    except (ValueError, OverflowError):  # of several lengths
        return None
    if table.ndim != 2 or table.dtype.kind not in "if":
        return None
    return None if table.size and table.dtype.kind == "f" and np.abs(table).max() >= EXACT else table


def _width(row: Any) -> int | None:
    return int(row.shape[0]) if getattr(row, "ndim", 0) == 1 else None


def _made(rows: Any, names: "pd.Index[Any] | list[str] | None") -> "pd.DataFrame":
    import pandas as pd

    try:
        table = _numbers_alone(rows) if isinstance(rows, list) and rows else None
        return pd.DataFrame(rows if table is None else table, columns=names)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRows(f"the rows do not make a table: {_one_line(error)}") from error


def _column(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    import pandas as pd

    try:
        empty = bool(column.isna().all())
        if feature.kind == "string":
            converted = column.astype("str") if empty else _text(column, feature)
        elif feature.kind.startswith("timestamp"):
            converted = _dates(column, feature, empty=empty)
        else:
            converted = column.astype("float64") if empty and len(column) else _numbers(column, feature)
    except (ValueError, TypeError, OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise BadRows(f"column {feature.name!r} cannot be read as {_said(feature)}: {_one_line(error)}") from error
    if not feature.gaps and converted.isna().any():
        raise BadRows(f"column {feature.name!r} has gaps, and the model was trained with its impute set to error")
    return converted


def _numbers(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    import numpy as np
    import pandas as pd
    from pandas.api import types

    if not len(column):
        return column.astype("float64")
    if types.is_object_dtype(column) and not any(isinstance(value, str | bytes) for value in column):
        column = pd.to_numeric(column)
    if types.is_bool_dtype(column) and not types.is_object_dtype(column):
        column = column.astype("float64")
    if not types.is_numeric_dtype(column) or types.is_complex_dtype(column):
        raise _other_type(column, feature)
    if types.is_extension_array_dtype(column):  # with a mask for gaps
        column = pd.Series(column.to_numpy("float64", na_value=np.nan), column.index)
    if types.is_integer_dtype(column) and column.dtype.kind not in feature.integers:
        column = column.astype("float64") if feature.kind in FLOATS or column.max() < EXACT else column
    if types.is_float_dtype(column) and (np.abs(column.to_numpy("float64")) > LARGEST).any():
        raise BadRows(f"column {feature.name!r} has values that are infinite or beyond 3.4e38")
    return column


def _text(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    if not all(isinstance(value, str) for value in column.dropna().unique()):
        raise _other_type(column, feature)
    return column.astype("object").where(column.notna(), None).astype("str")


def _dates(column: "pd.Series[Any]", feature: Feature, *, empty: bool) -> "pd.Series[Any]":
    import pandas as pd
    from pandas.api import types

    zone = feature.kind.partition("tz=")[2].rstrip("]") or None
    if not empty and (types.is_numeric_dtype(column) or types.is_bool_dtype(column)):
        raise _other_type(column, feature)
    # Texts may have different offsets, as on two sides of a change to summer time: each says whether it has one.
    texts = zone is not None and not empty and not types.is_datetime64_any_dtype(column)
    if texts and all(pd.Timestamp(value).tz is not None for value in column.dropna().unique()):
        moments = pd.to_datetime(column, format="ISO8601", utc=True)
    else:
        moments = pd.to_datetime(column.astype("object") if empty else column, format="ISO8601")
    if not empty and (moments.dt.tz is not None) != (zone is not None):
        raise BadRows(f"column {feature.name!r} was trained {'with' if zone else 'without'} a time zone: give it so")
    if zone:
        moments = moments.dt.tz_localize("UTC") if moments.dt.tz is None else moments
        moments = moments.dt.tz_convert(zone)
    return moments.dt.as_unit("us")


def _other_type(column: "pd.Series[Any]", feature: Feature) -> BadRows:
    example = next(iter(column.dropna()), None)
    return BadRows(f"column {feature.name!r} was {_said(feature)} at training; these rows have {str(example)[:40]!r}")


def _said(feature: Feature) -> str:
    if feature.kind == "string":
        return "text"
    return "dates" if feature.kind.startswith("timestamp") else "numbers"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

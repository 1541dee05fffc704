"""Convert a column of rows to predict for to its type at training, or refuse it."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from registry.errors import BadRows
from registry.serving.features import FLOATS, Feature

FLOAT32_MAX = 3.4028234663852886e38  # trees compare float32 numbers
EXACT_INTEGERS = 2**53  # float64 holds every whole number below this exactly


def convert_column(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    """Return the column with its type at training. Raises: BadRows."""
    try:
        empty = bool(column.isna().all())
        if feature.kind == "string":
            converted = column.astype("str") if empty else _text(column, feature)
        elif feature.kind.startswith("timestamp"):
            converted = _dates(column, feature, empty=empty)
        else:
            converted = column.astype("float64") if empty and len(column) else _numbers(column, feature)
    except (ValueError, TypeError, OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise BadRows(f"column {feature.name!r} cannot be read as {feature.description}: {one_line(error)}") from error
    if not feature.nullable and converted.isna().any():
        raise BadRows(
            f"column {feature.name!r} has missing values, and the model was trained with its impute set to error: fill"
            " them"
        )
    return converted


def _numbers(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    if not len(column):
        return column.astype("float64")
    if types.is_object_dtype(column) and not any(isinstance(value, str | bytes) for value in column):
        column = pd.to_numeric(column)
    if types.is_bool_dtype(column) and not types.is_object_dtype(column):
        column = column.astype("float64")
    if not types.is_numeric_dtype(column) or types.is_complex_dtype(column):
        raise _other_type(column, feature)
    if types.is_extension_array_dtype(column):  # with a mask for missing values
        column = pd.Series(column.to_numpy("float64", na_value=np.nan), column.index)
    if types.is_integer_dtype(column) and column.dtype.kind not in feature.integers:
        column = column.astype("float64") if feature.kind in FLOATS or column.max() < EXACT_INTEGERS else column
    if types.is_float_dtype(column) and (np.abs(column.to_numpy("float64")) > FLOAT32_MAX).any():
        raise BadRows(f"column {feature.name!r} has values that are infinite or beyond 3.4e38")
    return column


def _text(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    if not all(isinstance(value, str) for value in column.dropna().unique()):
        raise _other_type(column, feature)
    return column.astype("object").where(column.notna(), None).astype("str")


def _dates(column: "pd.Series[Any]", feature: Feature, *, empty: bool) -> "pd.Series[Any]":
    zone = feature.kind.partition("tz=")[2].rstrip("]") or None
    if not empty and (types.is_numeric_dtype(column) or types.is_bool_dtype(column)):
        raise _other_type(column, feature)
    # Strings may have different offsets, as before and after a change to summer time, so each is checked for one.
    strings = zone is not None and not empty and not types.is_datetime64_any_dtype(column)
    if strings and all(pd.Timestamp(value).tz is not None for value in column.dropna().unique()):
        timestamps = pd.to_datetime(column, format="ISO8601", utc=True)
    else:
        timestamps = pd.to_datetime(column.astype("object") if empty else column, format="ISO8601")
    if not empty and (timestamps.dt.tz is not None) != (zone is not None):
        raise BadRows(f"column {feature.name!r} was trained {'with' if zone else 'without'} a time zone: do the same")
    if zone:
        timestamps = timestamps.dt.tz_localize("UTC") if timestamps.dt.tz is None else timestamps
        timestamps = timestamps.dt.tz_convert(zone)
    return timestamps.dt.as_unit("us")


def _other_type(column: "pd.Series[Any]", feature: Feature) -> BadRows:
    example = next(iter(column.dropna()), None)
    was = f"column {feature.name!r} was {feature.description} at training"
    return BadRows(f"{was}; these rows have {str(example)[:40]!r}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""A column of rows to predict for, converted to the type that it had at training, or refused."""

from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from registry.errors import BadRows
from registry.serving.features import FLOATS, Feature

FLOAT32_MAX = 3.4028234663852886e38  # trees compare with float32 numbers
EXACT_INTEGERS = 2**53  # below it, every whole number is a float64


def convert_column(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    """Raises: BadRows: it has values of another type, or missing values that the model does not take."""

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
    if not feature.gaps and converted.isna().any():
        raise BadRows(f"column {feature.name!r} has gaps, and the model was trained with its impute set to error")
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
    if types.is_extension_array_dtype(column):  # with a mask for gaps
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
    was = f"column {feature.name!r} was {feature.description} at training"
    return BadRows(f"{was}; these rows have {str(example)[:40]!r}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""Refuse rows that cannot be trained on, with an error of one line, before anything is recorded."""

import logging
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, types

from registry.errors import BadData, UnknownColumn
from registry.vocabulary import Task

log = logging.getLogger("frontrunner")

MAX_EXACT_INT = 2**53  # above it, not every whole number is a float


def checked_rows(table: pa.Table, relation_name: str, y_column_names: tuple[str, ...], task: Task) -> pa.Table:
    """Return the rows with plain column types: numbers, booleans as 0 and 1, text and timestamps.

    Likely mistakes that do not prevent a training are logged as warnings.

    Raises:
        BadData: the rows cannot be trained on.
    """
    _check_shape(table, relation_name, y_column_names)
    columns = []
    for name in table.column_names:
        is_target = name in y_column_names
        where = f"column {name!r} of {relation_name}"
        column = _plain(table[name], where, keep_booleans=is_target and task is Task.CLASSIFICATION)
        if is_target:
            _check_target(column, name, relation_name, task)
        columns.append(column)
    plain = pa.table(columns, names=table.column_names)
    _warn_of_likely_mistakes(plain, relation_name, y_column_names)
    return plain


def check_strata(labels: np.ndarray[Any, Any], k: int, task: Task) -> None:
    """Raise BadData if a class cannot be on both sides of a stratified split."""
    if task is Task.REGRESSION:
        raise BadData("test_sampling 'stratified' is for classification: choose random or last")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise BadData(
            f"class {classes[counts.argmin()].item()!r} has one row, and a stratified split needs two: choose"
            " test_sampling random, or leave the row out"
        )
    if min(k, len(labels) - k) < len(classes):
        raise BadData(
            f"{k} test rows cannot hold each of {len(classes)} classes: change test_size, or choose test_sampling"
            " random"
        )


def check_sides(train: np.ndarray[Any, Any], test: np.ndarray[Any, Any], task: Task, where: str) -> None:
    """Raise BadData if the training rows have a single class, or the test rows a constant target."""
    if task is Task.CLASSIFICATION and len(np.unique(train)) < 2:
        raise BadData(
            f"the training rows of {where} have a single class, {train[0].item()!r}: add rows of other classes"
        )
    if task is Task.REGRESSION and (test == test[0]).all():
        raise BadData(
            f"every test row of {where} has the target {test[0].item()!r}, so R2 is undefined: choose other test rows"
        )


def refuse_duplicate_columns(names: list[str], relation_name: str) -> None:
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        raise BadData(f"{relation_name} has two columns named {duplicates[0]!r}: rename one")


def _check_shape(table: pa.Table, relation_name: str, y_column_names: tuple[str, ...]) -> None:
    names = table.column_names
    refuse_duplicate_columns(names, relation_name)
    for name in y_column_names:
        if name not in names:
            raise UnknownColumn(name, relation_name, names)
    if table.num_rows < 4:
        raise BadData(f"{relation_name} has {table.num_rows} rows: at least 4 are needed for training and testing")
    if len(names) == len(y_column_names):
        raise BadData(f"{relation_name} has no column besides the target: add columns to predict it from")


def _plain(column: "pa.ChunkedArray[Any]", where: str, *, keep_booleans: bool = False) -> "pa.ChunkedArray[Any]":
    kind = column.type
    if types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), where, keep_booleans=keep_booleans)
    if types.is_null(kind):
        return column.cast(pa.float64())
    if types.is_boolean(kind):
        return column if keep_booleans else column.cast(pa.int8())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return column.cast(pa.large_string())
    if types.is_date(kind) or types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _plain_numbers(column, where)
    raise BadData(f"{where} holds {kind} values: cast it to numbers, booleans, text or dates, or leave it out")


def _plain_numbers(column: "pa.ChunkedArray[Any]", where: str) -> "pa.ChunkedArray[Any]":
    if types.is_decimal(column.type):
        log.warning("%s holds decimals, which are converted to floats of 15 digits", where)
        column = column.cast(pa.float64())
    if types.is_float16(column.type):
        column = column.cast(pa.float32())
    largest = _largest(column)
    if math.isnan(largest):
        column = compute.if_else(compute.is_nan(column), None, column)
        largest = _largest(column)
    if largest > float(np.finfo(np.float32).max):
        raise BadData(f"{where} has values that are infinite or beyond 3.4e38: fix the rows")
    if types.is_integer(column.type) and largest > MAX_EXACT_INT:
        log.warning("%s holds integers above 2^53, which lose their last digits when converted to floats", where)
    return column.cast(pa.float64(), safe=False) if types.is_uint64(column.type) else column


def _largest(column: "pa.ChunkedArray[Any]") -> float:
    """Return the largest absolute value: 0 without values, NaN if any is NaN. NumPy is faster at this than Arrow."""
    values = column.drop_null() if column.null_count else column
    parts = [chunk.to_numpy() for chunk in values.chunks if len(chunk)]
    ends = [end.item() for part in parts for end in (part.min(), part.max())]
    return next(filter(math.isnan, ends), max(map(abs, ends), default=0))


def _check_target(column: "pa.ChunkedArray[Any]", name: str, relation_name: str, task: Task) -> None:
    if column.null_count:
        raise BadData(
            f"{column.null_count} of {len(column)} rows of {relation_name} have no {name!r}: fill or remove them"
        )
    if types.is_timestamp(column.type):
        raise BadData(f"{name!r} of {relation_name} is a date: predict a number instead, such as the days until then")
    if task is Task.REGRESSION and types.is_large_string(column.type):
        raise BadData(
            f"{name!r} of {relation_name} is text, and regression predicts numbers: cast it, or train a classification"
        )
    if task is Task.CLASSIFICATION and types.is_floating(column.type):
        raise BadData(
            f"{name!r} of {relation_name} holds fractional numbers, and classification predicts labels: cast it to"
            " integers or text, or train a regression"
        )


def _warn_of_likely_mistakes(table: pa.Table, relation_name: str, y_column_names: tuple[str, ...]) -> None:
    empty, constant = [], []
    for name in table.column_names:
        column = table[name]
        if name in y_column_names:
            continue
        if column.null_count == len(column):
            empty.append(name)
        elif not column.null_count and compute.all(compute.equal(column, column[0])).as_py():
            constant.append(name)
        elif any(column.equals(table[target]) for target in y_column_names):
            log.warning("column %r of %s equals the target: leave it out for a meaningful score", name, relation_name)
    for names, problem in (
        (empty, "has no value and is dropped"),
        (constant, "has one value and cannot help to predict"),
    ):
        if names:
            others = f" (also {len(names) - 1} others)" if names[1:] else ""
            log.warning("column %r of %s %s%s", names[0], relation_name, problem, others)

"""Exact statistics of each column of a frozen snapshot.

Numbers are sorted in memory, one column per thread. Texts, which can be far larger than memory, are counted by DuckDB,
which spills to disk.
"""

import math
import os
from collections import ChainMap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet, types

from registry.errors import BadData

THREADS = min(4, os.cpu_count() or 1)
SETTINGS: dict[str, Any] = {"memory_limit": "512MB", "threads": THREADS}  # DuckDB spills beyond this memory
BATCH_CELLS, BATCH_COLUMNS = 1_000_000, 1000  # read or counted at a time
BINS = VENTILES = CATEGORIES = 20
MAX_NUMBER = 3.5e38  # as in a snapshot; the square of a smaller number is finite
TYPES = {"double": "float64", "float": "float32", "halffloat": "float16", "large_string": "string"}

# Columns are named by position, because no user's text belongs into SQL, and DuckDB ignores the case of names.
# The path is escaped because it is a pattern. With hive partitioning, a folder `a=77` in it would become a column.
ROWS = "CREATE TEMP VIEW rows({columns}) AS FROM read_parquet('{path}', hive_partitioning = false)"
COUNTS = """SELECT c, sum(n), count(*), min((-n, v), $categories) FROM (
    SELECT c, v, count(*) AS n FROM (SELECT unnest([{numbers}]) AS c, unnest([{values}]) AS v FROM rows)
    WHERE v IS NOT NULL GROUP BY c, v
) GROUP BY c"""

Array = np.ndarray[Any, Any]
Facts = dict[str, Any]
Described = tuple[int, Facts]  # the number of values that are present, and statistics of them
EMPTY: Described = (0, {"distinct": 0})


def column_statistics(path: Path) -> list[Facts]:
    """Return statistics of each column of a Parquet file, in its order, as JSON values.

    `missing` counts missing values and NaN. Columns of numbers have `min`, `max`, `mean`, `median`, the sample's
    `variance` and `std_dev` (None for a single value), a `histogram` and `ventiles`; quantiles are linear, as NumPy's.
    `distinct`, `mode` (the smallest of equally frequent values) and `mode_count` are None for floating-point columns.
    `categories` holds the most frequent values with their counts, for text and for other columns with few values.
    Booleans are 0 and 1. Timestamps are ISO text, in UTC if they have a time zone.

    Raises:
        BadData: a number is infinite or beyond 3.4e38.
    """
    rows, fields = parquet.read_metadata(path).num_rows, list(parquet.read_schema(path))
    numbers = [number for number, field in enumerate(fields) if _is_numeric(field.type)]
    texts = [number for number, field in enumerate(fields) if not _is_numeric(field.type)]
    described = dict(_describe_texts(path, len(fields), texts, rows)) | _describe_numbers(path, numbers, rows)
    statistics = []
    for number, field in enumerate(fields):
        present, facts = described.get(number, EMPTY)
        kind = TYPES.get(str(field.type), str(field.type))
        statistics.append({"name": field.name, "type": kind, "missing": rows - present} | facts)
    return statistics


def _is_numeric(kind: pa.DataType) -> bool:
    numeric = types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return numeric or _unit(kind) is not None


def _unit(kind: pa.DataType) -> str | None:
    """Return the unit to count timestamps in; None for other types."""
    if not (types.is_timestamp(kind) or types.is_date(kind)):
        return None
    return "ns" if getattr(kind, "unit", None) == "ns" else "us"


def _describe_numbers(path: Path, numbers: list[int], rows: int) -> dict[int, Described]:
    """Describe these columns of numbers and timestamps, by the position of each."""
    batches = _batches(numbers, rows)

    def describe(first: int) -> dict[int, Described]:
        described = {}
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # threads must not share one
            fields = list(file.schema_arrow)
            for batch in batches[first::THREADS]:
                # By position, because a name with dots would be read as a path.
                columns = file.reader.read_all(column_indices=batch, use_threads=False).columns
                for number, column in zip(batch, columns, strict=True):
                    described[number] = _describe(fields[number], column)
        return described

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(ChainMap(*pool.map(describe, range(THREADS))))


def _describe(field: "pa.Field[Any]", column: "pa.ChunkedArray[Any]") -> Described:
    if unit := _unit(field.type):
        zone = getattr(field.type, "tz", None)
        ordered = np.sort(column.cast(pa.timestamp(unit, zone)).cast(pa.int64()).drop_null().to_numpy())
        return (len(ordered), _timestamps(ordered, unit, zone)) if len(ordered) else EMPTY
    floating = types.is_floating(field.type) or types.is_decimal(field.type)
    column = column.cast(pa.int8()) if types.is_boolean(field.type) else column
    ordered = _sorted_floats(column) if floating else np.sort(column.drop_null().to_numpy())
    if not len(ordered):
        return EMPTY
    if max(-ordered[0].item(), ordered[-1].item()) > MAX_NUMBER:
        raise BadData(f"column {field.name!r} has values that are infinite or beyond 3.4e38: fix the rows")
    counted = {"distinct": None, "mode": None, "mode_count": None} if floating else _counts(ordered)
    return len(ordered), counted | _numbers(ordered)


def _sorted_floats(column: "pa.ChunkedArray[Any]") -> Array:
    ordered: Array = column.cast(pa.float64()).to_numpy() + 0.0  # -0.0 becomes 0.0
    ordered.sort()
    return ordered[: np.searchsorted(ordered, np.nan)]  # missing values are NaN, which is last


def _timestamps(ordered: Array, unit: str, zone: str | None) -> Facts:
    counts, last = _counts(ordered), len(ordered) - 1
    low, high = ordered[last // 2].item(), ordered[(last + 1) // 2].item()
    values = {"min": ordered[0], "max": ordered[-1], "median": low + (high - low) // 2, "mode": counts["mode"]}
    texts = {name: pd.Timestamp(value, unit=unit, tz=zone and "UTC").isoformat() for name, value in values.items()}
    return {"distinct": counts["distinct"], "mode_count": counts["mode_count"]} | texts


def _counts(numbers: Array) -> Facts:
    values, counts = np.unique(numbers, return_counts=True)
    most = counts.argmax()
    facts = {"distinct": len(values), "mode": values[most].item(), "mode_count": counts[most].item()}
    if len(values) <= CATEGORIES:
        order = np.argsort(-counts, kind="stable")
        facts["categories"] = {str(values[place]): counts[place].item() for place in order}
    return facts


def _numbers(ordered: Array) -> Facts:
    """Describe numbers in ascending order, at least one."""
    low, high = ordered[0].item(), ordered[-1].item()
    real = ordered.astype(np.float64, copy=False)
    mean = float(np.clip(real.mean(), low, high))  # the mean of a constant may be rounded
    variance = float(np.var(real, ddof=1, mean=mean)) if len(real) > 1 else None
    ventiles = [_quantile(real, i / VENTILES) for i in range(1, VENTILES)]
    pad = 0.5 if low == high else 0  # a constant is in the middle of a range of one, as in NumPy's histograms
    edges = np.linspace(low - pad, high + pad, BINS + 1)  # NumPy's own function refuses a range of very few floats
    counts = np.diff(np.searchsorted(real, edges[:-1]), append=len(real))
    return {
        "min": low,
        "max": high,
        "mean": mean,
        "median": ventiles[VENTILES // 2 - 1],
        "variance": variance,
        "std_dev": None if variance is None else math.sqrt(variance),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "ventiles": ventiles,
    }


def _quantile(ordered: Array, share: float) -> float:
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return float(low + (high - low) * (place % 1))


def _describe_texts(path: Path, columns: int, texts: list[int], rows: int) -> Iterator[tuple[int, Described]]:
    """Yield the position and the description of each of these columns that has a value."""
    if not texts:
        return
    names = ", ".join(f"c{number}" for number in range(columns))
    with (
        TemporaryDirectory(prefix="frontrunner-", dir=path.parent) as folder,  # deleted with the rows in any case
        duckdb.connect(config=SETTINGS | {"temp_directory": folder}) as connection,
    ):
        connection.execute("SET enable_progress_bar = false")  # would be printed to standard output
        connection.execute(ROWS.format(columns=names, path=escape(str(path)).replace("'", "''")))
        for batch in _batches(texts, rows):
            values = ", ".join(f"c{number}::VARCHAR" for number in batch)
            query = COUNTS.format(numbers=", ".join(map(str, batch)), values=values)
            for number, present, distinct, top in connection.execute(query, {"categories": CATEGORIES}).fetchall():
                mode = {"distinct": distinct, "mode": top[0][1], "mode_count": -top[0][0]}
                yield number, (present, mode | {"categories": {value: -less for less, value in top}})


def _batches(numbers: list[int], rows: int) -> list[list[int]]:
    size = min(max(BATCH_CELLS // max(rows, 1), 1), BATCH_COLUMNS)
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]

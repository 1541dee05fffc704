"""Exact statistics of each column of a frozen snapshot.

Numbers are sorted in memory, one column per thread, and described by their order. Texts, which may be far larger than
memory, are counted by DuckDB, which spills to disk.
"""

import math
import os
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
BATCH_CELLS, BATCH_COLUMNS = 1_000_000, 1000  # read or counted at once
BINS = VENTILES = CATEGORIES = 20
LIMIT = 3.5e38  # as for the rows of a snapshot; the square of a smaller number is finite
TYPES = {"double": "float64", "float": "float32", "halffloat": "float16", "large_string": "string"}

# Columns go by position: no user's name gets into SQL, and DuckDB takes `a` and `A` for the same name.
# The path is escaped because it is a pattern, and a folder `a=77` in it would become a column.
ROWS = "CREATE TEMP VIEW rows({columns}) AS FROM read_parquet('{path}', hive_partitioning = false)"
COUNTS = """SELECT c, sum(n), count(*), min((-n, v), $categories) FROM (
    SELECT c, v, count(*) AS n FROM (SELECT unnest([{numbers}]) AS c, unnest([{values}]) AS v FROM rows)
    WHERE v IS NOT NULL GROUP BY c, v
) GROUP BY c"""

Entry = dict[str, Any]
NOTHING: tuple[int, Entry] = (0, {"distinct": 0})  # the facts of a column without a value
Array = np.ndarray[Any, Any]


def column_statistics(path: Path) -> list[Entry]:
    """Return statistics of each column of a Parquet file, in its order, as JSON can hold them.

    `missing` counts missing values and NaN. Columns of numbers have `min`, `max`, `mean`, `median`, the sample's
    `variance` and `std_dev` (None for a single value), a `histogram` and `ventiles`; quantiles are linear, as numpy's.
    `distinct`, `mode` (the smallest of equally frequent values) and `mode_count` are None for floating-point columns.
    `categories` are the most frequent values with their counts: of text, and of other columns with few values.
    Booleans are 0 and 1; timestamps are ISO text, in UTC if they have a time zone.

    Raises:
        BadData: a number is infinite or beyond 3.4e38.
    """
    rows, fields = parquet.read_metadata(path).num_rows, list(parquet.read_schema(path))
    numbers = [number for number, field in enumerate(fields) if _is_numeric(field.type)]
    texts = [number for number, field in enumerate(fields) if not _is_numeric(field.type)]
    found = dict(_of_texts(path, len(fields), texts, rows)) | _of_numbers(path, numbers, rows)
    return [_entry(field, rows, found.get(number, NOTHING)) for number, field in enumerate(fields)]


def _entry(field: "pa.Field[Any]", rows: int, found: tuple[int, Entry]) -> Entry:
    present, facts = found
    return {"name": field.name, "type": TYPES.get(str(field.type), str(field.type)), "missing": rows - present} | facts


def _is_numeric(kind: pa.DataType) -> bool:
    numeric = (types.is_integer, types.is_boolean, types.is_floating, types.is_decimal)
    return _unit(kind) is not None or any(is_one(kind) for is_one in numeric)


def _unit(kind: pa.DataType) -> str | None:
    """Return the unit to count timestamps in; None for other types."""
    if not (types.is_timestamp(kind) or types.is_date(kind)):
        return None
    return "ns" if getattr(kind, "unit", None) == "ns" else "us"


def _of_numbers(path: Path, numbers: list[int], rows: int) -> dict[int, tuple[int, Entry]]:
    """Return how many values are present and their statistics, by the number of a column."""
    batches = _batches(numbers, rows)

    def described(first: int) -> dict[int, tuple[int, Entry]]:
        found = {}
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # threads must not share one
            fields = list(file.schema_arrow)
            for batch in batches[first::THREADS]:
                # By number, so that a name may look like a path.
                columns = file.reader.read_all(column_indices=batch, use_threads=False).columns
                for number, column in zip(batch, columns, strict=True):
                    found[number] = _described(fields[number], column)
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        return {number: facts for found in pool.map(described, range(THREADS)) for number, facts in found.items()}


def _described(field: "pa.Field[Any]", column: "pa.ChunkedArray[Any]") -> tuple[int, Entry]:
    if unit := _unit(field.type):
        zone = getattr(field.type, "tz", None)
        ordered = np.sort(column.cast(pa.timestamp(unit, zone)).cast(pa.int64()).drop_null().to_numpy())
        return (len(ordered), _timestamps(ordered, unit, zone)) if len(ordered) else NOTHING
    floating = types.is_floating(field.type) or types.is_decimal(field.type)
    column = column.cast(pa.int8()) if types.is_boolean(field.type) else column
    ordered = _sorted_floats(column) if floating else np.sort(column.drop_null().to_numpy())
    if not len(ordered):
        return NOTHING
    if max(-ordered[0].item(), ordered[-1].item()) > LIMIT:
        raise BadData(f"column {field.name!r} has values that are infinite or beyond 3.4e38: fix the rows")
    counted = {"distinct": None, "mode": None, "mode_count": None} if floating else _counts(ordered)
    return len(ordered), counted | _numbers(ordered)


def _sorted_floats(column: "pa.ChunkedArray[Any]") -> Array:
    ordered: Array = column.cast(pa.float64()).to_numpy() + 0.0  # -0.0 becomes 0.0
    ordered.sort()
    return ordered[: np.searchsorted(ordered, np.nan)]  # NaN and missing values are last


def _timestamps(ordered: Array, unit: str, zone: str | None) -> Entry:
    counts, last = _counts(ordered), len(ordered) - 1
    low, high = ordered[last // 2].item(), ordered[(last + 1) // 2].item()
    found = {"min": ordered[0], "max": ordered[-1], "median": low + (high - low) // 2, "mode": counts["mode"]}
    texts = {name: pd.Timestamp(value, unit=unit, tz=zone and "UTC").isoformat() for name, value in found.items()}
    return {"distinct": counts["distinct"], "mode_count": counts["mode_count"]} | texts


def _counts(numbers: Array) -> Entry:
    values, counts = np.unique(numbers, return_counts=True)
    most = counts.argmax()
    found = {"distinct": len(values), "mode": values[most].item(), "mode_count": counts[most].item()}
    if len(values) <= CATEGORIES:
        order = np.argsort(-counts, kind="stable")
        found["categories"] = {str(values[each]): counts[each].item() for each in order}
    return found


def _numbers(ordered: Array) -> Entry:
    """Describe numbers (n,) in ascending order, n > 0."""
    low, high = ordered[0].item(), ordered[-1].item()
    real = ordered.astype(np.float64, copy=False)
    mean = float(np.clip(real.mean(), low, high))  # that of a constant may be rounded
    variance = _variance(real, mean)
    ventiles = [_quantile(real, i / VENTILES) for i in range(1, VENTILES)]
    edges = np.histogram_bin_edges([low, high], BINS)
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


def _variance(real: Array, mean: float) -> float | None:
    if len(real) < 2:
        return None
    deviations = real - mean
    return float(np.square(deviations, out=deviations).sum()) / (len(real) - 1)


def _of_texts(path: Path, columns: int, texts: list[int], rows: int) -> Iterator[tuple[int, tuple[int, Entry]]]:
    """Yield as `_of_numbers`, for each column that has a value."""
    if not texts:
        return
    names = ", ".join(f"c{number}" for number in range(columns))
    with (
        TemporaryDirectory(prefix="frontrunner-", dir=path.parent) as folder,  # deleted with the rows in any case
        duckdb.connect(config=SETTINGS | {"temp_directory": folder}) as connection,
    ):
        connection.execute("SET enable_progress_bar = false")  # it would be printed to standard output
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

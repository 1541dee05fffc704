"""What a frozen snapshot holds, column by column: exact statistics by DuckDB, in bounded memory.

Every value of a column is counted once, on disk if need be; all else follows from the values and their counts.
"""

import math
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from glob import escape
from itertools import islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.errors import BadData

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

# Beyond this memory DuckDB spills; each thread wants its share of it.
SETTINGS: dict[str, Any] = {"memory_limit": "512MB", "threads": min(4, os.cpu_count() or 1)}
BATCH_CELLS, BATCH_COLUMNS = 1_000_000, 1000  # of one query; a longer column has one of its own
BINS = VENTILES = CATEGORIES = 20
WIDTH = 32  # of a cell, in characters
LIMIT = 3.5e38  # as for the rows of a snapshot; the square of what is below it is finite
TYPES = {"double": "float64", "float": "float32", "halffloat": "float16", "large_string": "string"}
NOTHING: dict[str, Any] = {"present": 0, "distinct": 0}
HEAD = ("column", "type", "missing", "distinct", "min", "mean", "median", "max", "std_dev", "most frequent")

# Columns go by position: no name of a user's gets into SQL, and DuckDB takes `a` and `A` for the same name.
# Parquet's own least and greatest value leave NaN out, so that DuckDB may infer that there is none and fold our nullif
# away: can_have_nan forbids it. (Inside unnest it does not fold, as it happens.)
# A path is no pattern, and `a=77` in it no column.
ROWS = "CREATE TEMP VIEW rows({columns}) AS FROM read_parquet('{path}', can_have_nan = true, hive_partitioning = false)"
COUNTS = """CREATE OR REPLACE TEMP TABLE counts AS
SELECT c, v, count(*) AS n FROM (SELECT unnest([{numbers}]) AS c, unnest([{values}]) AS v FROM rows)
WHERE v IS NOT NULL GROUP BY c, v"""
SUMMARY = "SELECT c, sum(n), count(*), min(v), max(v), min((-n, v), $categories) FROM counts GROUP BY c"
# The edges of numpy's histogram: a constant is in the middle of a range of one.
BASICS = """CREATE OR REPLACE TEMP TABLE basics AS
SELECT *, low - pad AS start, ((high + pad) - (low - pad)) / $bins AS step
FROM (SELECT c, sum(n) AS present, fsum(v::DOUBLE * n) / sum(n) AS mean, min(v)::DOUBLE AS low, max(v)::DOUBLE AS high,
    if(low = high, 0.5::DOUBLE, 0) AS pad FROM counts GROUP BY c)"""
# A value belongs between the edges that it is between, whatever the division was rounded to.
BINNED = """SELECT c, any_value(mean), guess - (v < start + guess * step)::INT
    + (guess < $bins - 1 AND v >= start + (guess + 1) * step)::INT AS bin, sum(n), fsum(n * (v - mean) ** 2)
FROM (SELECT *, least(coalesce(floor((v - start) / nullif(step, 0)), 0), $bins - 1)::INT AS guess
    FROM (SELECT c, v::DOUBLE AS v, n FROM counts) JOIN basics USING (c))
GROUP BY c, bin"""
# Of the sorted values those at the place of a ventile, i * last / 20 rounded down, and those right after it: i is the
# whole number from 20 * (before - 1) / last up to 20 * until / last, if there is one.
SORTED = """SELECT c, v, until
FROM (SELECT c, v, n, sum(n) OVER (PARTITION BY c ORDER BY v) AS until FROM counts)
JOIN (SELECT c, greatest(present - 1, 1) AS last FROM basics) USING (c)
WHERE ($parts * until + last - 1) // last > ($parts * (until - n - 1) + last - 1) // last
ORDER BY c, v"""


class Column(NamedTuple):
    """`value` is the SQL for what is counted, of the SQL type `counted`: a moment is counted in units since 1970."""

    name: str
    type: "pa.DataType"
    counted: str
    value: str


def column_statistics(path: Path) -> list[dict[str, Any]]:
    """Statistics of each column of a Parquet file, in its order, as JSON can hold them.

    `variance` and `std_dev` are the sample's (n - 1), None for a single value. NaN is missing. Booleans are 0 and 1,
    moments ISO text, with a time zone in UTC. The quantiles are linear, as numpy's; of equally frequent values the mode
    is the smallest. `mode_count` says how often it is there, `categories` are the most frequent values first.

    Raises:
        BadData: a number is infinite or beyond 3.4e38.
    """
    import duckdb
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        columns = [_column(number, field) for number, field in enumerate(file.schema_arrow)]
    found: dict[int, dict[str, Any]] = {}
    names = ", ".join(f"c{number}" for number in range(len(columns)))
    with (
        TemporaryDirectory(prefix="frontrunner-") as folder,
        duckdb.connect(config=SETTINGS | {"temp_directory": folder}) as connection,
    ):
        connection.execute("SET enable_progress_bar = false")  # it would go to our standard output after two seconds
        connection.execute(ROWS.format(columns=names, path=escape(str(path)).replace("'", "''")))
        for batch in _batches(columns, rows):
            found |= _described(connection, columns, batch)
    return [_entry(column, rows, found.get(number, NOTHING)) for number, column in enumerate(columns)]


def _column(number: int, field: "pa.Field[Any]") -> Column:
    from pyarrow import types

    kind, c = field.type, f"c{number}"
    if unit := _unit(kind):
        counted, value = "BIGINT", f"epoch_{unit}({c})"
    elif types.is_integer(kind) or types.is_boolean(kind):
        counted = "HUGEINT" if types.is_uint64(kind) else "BIGINT"
        value = f"{c}::{counted}"
    elif types.is_floating(kind) or types.is_decimal(kind):
        counted, value = "DOUBLE", f"nullif({c}::DOUBLE, 'nan'::DOUBLE)"
    else:
        counted, value = "VARCHAR", f"{c}::VARCHAR"
    return Column(field.name, kind, counted, value)


def _batches(columns: list[Column], rows: int) -> Iterator[list[int]]:
    """Numbers of columns that are counted as the same SQL type."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, column in enumerate(columns):
        alike[column.counted].append(number)
    size = min(max(BATCH_CELLS // max(rows, 1), 1), BATCH_COLUMNS)
    for numbers in map(iter, alike.values()):
        while batch := list(islice(numbers, size)):
            yield batch


def _described(connection: "DuckDBPyConnection", columns: list[Column], batch: list[int]) -> dict[int, dict[str, Any]]:
    """What is known of those columns of a batch that have a value, by number."""
    values = ", ".join(columns[c].value for c in batch)
    connection.execute(COUNTS.format(numbers=", ".join(map(str, batch)), values=values))
    found: dict[int, dict[str, Any]] = {}
    for c, present, distinct, low, high, top in connection.execute(SUMMARY, {"categories": CATEGORIES}).fetchall():
        found[c] = {"present": present, "distinct": distinct, "min": low, "max": high, "bins": [], "sorted": []}
        found[c]["top"] = [(value, -less) for less, value in top]
    if columns[batch[0]].counted != "VARCHAR":
        _check_limits(columns, found)
        connection.execute(BASICS, {"bins": BINS})
        for c, *numbers in connection.execute(BINNED, {"bins": BINS}).fetchall():
            found[c]["bins"].append(numbers)
        for c, *place in connection.execute(SORTED, {"parts": VENTILES}).fetchall():
            found[c]["sorted"].append(place)
    return found


def _check_limits(columns: list[Column], found: dict[int, dict[str, Any]]) -> None:
    for c, facts in found.items():
        if max(-facts["min"], facts["max"]) > LIMIT:
            raise BadData(f"column {columns[c].name!r} has values that are infinite or beyond 3.4e38: mend the rows")


def _entry(column: Column, rows: int, facts: dict[str, Any]) -> dict[str, Any]:
    text = str(column.type)
    entry = {"name": column.name, "type": TYPES.get(text, text), "missing": rows - facts["present"]}
    entry["distinct"] = facts["distinct"]
    if not facts["present"]:
        return entry
    mode, mode_count = facts["top"][0]
    if unit := _unit(column.type):
        return entry | _moments(facts, mode, unit, column.type) | {"mode_count": mode_count}
    entry |= {"mode": mode, "mode_count": mode_count}
    if column.counted != "VARCHAR":
        entry |= _numbers(facts)
    if column.counted == "VARCHAR" or facts["distinct"] <= CATEGORIES:
        entry["categories"] = {str(value): count for value, count in facts["top"]}
    return entry


def _numbers(facts: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    low, high, present = facts["min"], facts["max"], facts["present"]
    means, bins, counts, squares = zip(*facts["bins"], strict=True)
    variance = math.fsum(squares) / (present - 1) if present > 1 else None
    ventiles = [float(_ventile(facts, i)) for i in range(1, VENTILES)]
    pad = 0.5 if low == high else 0
    filled = dict(zip(bins, counts, strict=True))
    return {
        "min": low,
        "max": high,
        "mean": means[0],
        "median": ventiles[VENTILES // 2 - 1],
        "variance": variance,
        "std_dev": None if variance is None else math.sqrt(variance),
        "histogram": {
            "edges": np.linspace(low - pad, high + pad, BINS + 1).tolist(),
            "counts": [filled.get(i, 0) for i in range(BINS)],
        },
        "ventiles": ventiles,
    }


def _moments(facts: dict[str, Any], mode: int, unit: str, kind: Any) -> dict[str, Any]:
    import pandas as pd

    zone = "UTC" if getattr(kind, "tz", None) else None
    found = {"min": facts["min"], "max": facts["max"], "median": int(_ventile(facts, VENTILES // 2)), "mode": mode}
    return {name: pd.Timestamp(value, unit=unit, tz=zone).isoformat() for name, value in found.items()}


def _ventile(facts: dict[str, Any], i: int) -> Any:
    """Exact where the values are whole numbers."""
    last, found = facts["present"] - 1, facts["sorted"]
    at, part = divmod(i * last, VENTILES)
    low, high = (found[bisect_right(found, place, key=itemgetter(1))][0] for place in (at, min(at + 1, last)))
    return low + (high - low) * Fraction(part, VENTILES)


def _unit(kind: "pa.DataType") -> str | None:
    """What a moment is counted in; None: the type is not one of moments."""
    from pyarrow import types

    if not (types.is_timestamp(kind) or types.is_date(kind)):
        return None
    return "ns" if getattr(kind, "unit", None) == "ns" else "us"


def statistics_table(statistics: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Lines of cells, the head first; what a column does not have is an empty cell."""
    names = ("name", *HEAD[1:-1])
    return [list(HEAD), *([_cell(each.get(name)) for name in names] + [_most_frequent(each)] for each in statistics)]


def _most_frequent(entry: Mapping[str, Any]) -> str:
    return f"{_cell(entry['mode'])} ({entry['mode_count']})" if "mode" in entry else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"

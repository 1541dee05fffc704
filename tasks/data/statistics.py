"""What a frozen snapshot holds, column by column: exact statistics.

Numbers are sorted, as many columns at a time as there are threads; everything follows from their order. Texts, which
may be far larger, are counted by DuckDB, on disk if need be.

Many rows are described by a process of its own, whose numpy is without AVX-512: its sort takes up to seven times as
long as that by AVX2 on AMD's Zen 4 (x86-simd-sort's issue 6), and numpy chooses when it is loaded.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from glob import escape
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.errors import BadData
from tasks.training.processes import ProcessLost, end_with, how_it_ended

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

THREADS = min(4, os.cpu_count() or 1)
# Beyond this memory DuckDB spills; each thread wants its share of it.
SETTINGS: dict[str, Any] = {"memory_limit": "512MB", "threads": THREADS}
BATCH_CELLS, BATCH_COLUMNS = 1_000_000, 1000  # of one query, or sorted at once
MANY_CELLS = 10_000_000  # are worth the half of a second that a process takes to begin
DISABLED, ENABLED = "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"
PROCESS = "import sys; sys.path.append(sys.argv[1]); from tasks.data.statistics import tell; tell(sys.argv[2])"
BINS = VENTILES = CATEGORIES = 20
WIDTH = 32  # of a cell, in characters
LIMIT = 3.5e38  # as for the rows of a snapshot; the square of what is below it is finite
TYPES = {"double": "float64", "float": "float32", "halffloat": "float16", "large_string": "string"}
HEAD = ("column", "type", "missing", "distinct", "min", "mean", "median", "max", "std_dev", "most frequent")

# Columns go by position: no name of a user's gets into SQL, and DuckDB takes `a` and `A` for the same name.
# A path is no pattern, and `a=77` in it no column.
ROWS = "CREATE TEMP VIEW rows({columns}) AS FROM read_parquet('{path}', hive_partitioning = false)"
COUNTS = """SELECT c, sum(n), count(*), min((-n, v), $categories) FROM (
    SELECT c, v, count(*) AS n FROM (SELECT unnest([{numbers}]) AS c, unnest([{values}]) AS v FROM rows)
    WHERE v IS NOT NULL GROUP BY c, v
) GROUP BY c"""


class Facts(NamedTuple):
    """Of the values that are present: how many there are and are different, and the most frequent, each with its count;
    of equally frequent ones the smallest first. Numbers have them in order, too.
    """

    present: int
    distinct: int
    top: list[tuple[Any, int]]
    ordered: "np.ndarray[Any, Any] | None" = None


def column_statistics(path: Path) -> list[dict[str, Any]]:
    """Statistics of each column of a Parquet file, in its order, as JSON can hold them.

    `variance` and `std_dev` are the sample's (n - 1), None for a single value. NaN is missing. Booleans are 0 and 1,
    moments ISO text, with a time zone in UTC. The quantiles are linear, as numpy's; of equally frequent values the mode
    is the smallest. `mode_count` says how often it is there, `categories` are the most frequent values first.

    Raises:
        BadData: a number is infinite or beyond 3.4e38.
        ProcessLost: the process that described them ended before it had.
    """
    from pyarrow import parquet

    metadata = parquet.read_metadata(path)
    if metadata.num_rows * metadata.num_columns > MANY_CELLS:
        return _by_process(path)
    return _described(path)


def _by_process(path: Path) -> list[dict[str, Any]]:
    """The same from a process of its own, which ends with this one."""
    command = [sys.executable, "-P", "-c", PROCESS, str(Path(__file__).parents[1]), str(path)]
    done = subprocess.run(command, env=_without_avx512(os.environ), capture_output=True, text=True, check=False)  # noqa: S603  (our own module)
    if done.returncode:
        *_, said = ["", *done.stderr.strip().splitlines()]
        lost = ProcessLost(f"the process that describes the rows {how_it_ended(done.returncode)} {said[:300]}".strip())
        lost.add_note(done.stderr)
        raise lost
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answer:
        raise BadData(answer["refused"])
    found: list[dict[str, Any]] = answer["columns"]
    return found


def _without_avx512(env: Mapping[str, str]) -> dict[str, str]:
    """numpy takes one of two variables; who says what is to be used has said it."""
    import numpy as np

    if ENABLED in env:
        return dict(env)
    loops = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])  # what is empty is left out
    beyond = [name for name in loops if "512" in name or name == "X86_V4"]
    return {**env, DISABLED: " ".join([*env.get(DISABLED, "").replace(",", " ").split(), *beyond])}


def tell(path: str) -> None:
    """What that process does: it prints them as JSON, or why the rows are refused."""
    Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    try:
        print(json.dumps({"columns": _described(Path(path))}))
    except BadData as error:
        print(json.dumps({"refused": str(error)}))


def _described(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows, fields = parquet.read_metadata(path).num_rows, list(parquet.read_schema(path))
    texts = [number for number, field in enumerate(fields) if not _is_numeric(field.type)]
    numbers = [number for number, field in enumerate(fields) if _is_numeric(field.type)]
    found = dict(_of_texts(path, len(fields), texts, rows))
    entries = {number: _entry(fields[number], rows, facts) for number, facts in found.items()}
    entries |= _of_numbers(path, numbers, rows)
    return [entries.get(number) or _entry(field, rows, Facts(0, 0, [])) for number, field in enumerate(fields)]


def _is_numeric(kind: "pa.DataType") -> bool:
    from pyarrow import types

    numeric = (types.is_integer, types.is_boolean, types.is_floating, types.is_decimal)
    return _unit(kind) is not None or any(is_one(kind) for is_one in numeric)


def _of_numbers(path: Path, numbers: list[int], rows: int) -> dict[int, dict[str, Any]]:
    """Entries by the number of a column. Sorting leaves Python's lock to the other threads."""
    from pyarrow import parquet

    batches = list(_batches(numbers, rows))

    def described(first: int) -> dict[int, dict[str, Any]]:
        entries: dict[int, dict[str, Any]] = {}
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # no two threads may share one
            fields = list(file.schema_arrow)
            for batch in batches[first::THREADS]:
                # By number, so that it does not matter what a name looks like.
                columns = file.reader.read_all(column_indices=batch, use_threads=False).columns
                for number, column in zip(batch, columns, strict=True):
                    entries[number] = _entry(fields[number], rows, _sorted(fields[number], column))
        return entries

    with ThreadPoolExecutor(THREADS) as pool:
        return {number: entry for found in pool.map(described, range(THREADS)) for number, entry in found.items()}


def _sorted(field: "pa.Field[Any]", column: "pa.ChunkedArray[Any]") -> Facts:
    import numpy as np
    import pyarrow as pa

    unit = _unit(field.type)
    if unit:
        zone = getattr(field.type, "tz", None)
        column = column.cast(pa.timestamp(unit, zone)).cast(pa.int64())
    elif pa.types.is_boolean(field.type):
        column = column.cast(pa.int64())
    elif not pa.types.is_integer(field.type):
        column = column.cast(pa.float64())
    ordered = (column.drop_null() if column.null_count else column).to_numpy()
    if ordered.dtype.kind == "f":
        ordered = ordered + 0.0  # which makes -0 a 0
        ordered.sort()
        ordered = ordered[: np.searchsorted(ordered, np.nan)]  # NaN are last
    else:
        ordered = np.sort(ordered)
    if not len(ordered):
        return Facts(0, 0, [])
    if not unit and max(-ordered[0].item(), ordered[-1].item()) > LIMIT:
        raise BadData(f"column {field.name!r} has values that are infinite or beyond 3.4e38: mend the rows")
    changes = ordered[1:] != ordered[:-1]
    if changes.all() and len(ordered) > CATEGORIES:  # each is another, as nearly always of many measurements
        return Facts(len(ordered), len(ordered), [(ordered[0].item(), 1)], ordered)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    counts = np.diff(starts, append=len(ordered))
    few = len(starts) <= CATEGORIES
    most = np.argsort(-counts, kind="stable") if few else [np.argmax(counts)]
    top = [(ordered[starts[each]].item(), int(counts[each])) for each in most]
    return Facts(len(ordered), len(starts), top, ordered)


def _of_texts(path: Path, columns: int, texts: list[int], rows: int) -> Iterator[tuple[int, Facts]]:
    """By the number of a column; of those that have a value."""
    if not texts:
        return
    import duckdb

    names = ", ".join(f"c{number}" for number in range(columns))
    with (
        TemporaryDirectory(prefix="frontrunner-", dir=path.parent) as folder,  # it goes with the rows, come what may
        duckdb.connect(config=SETTINGS | {"temp_directory": folder}) as connection,
    ):
        connection.execute("SET enable_progress_bar = false")  # it would go to our standard output after two seconds
        connection.execute(ROWS.format(columns=names, path=escape(str(path)).replace("'", "''")))
        for batch in _batches(texts, rows):
            yield from _counted(connection, batch)


def _counted(connection: "DuckDBPyConnection", batch: list[int]) -> Iterator[tuple[int, Facts]]:
    values = ", ".join(f"c{number}::VARCHAR" for number in batch)
    query = COUNTS.format(numbers=", ".join(map(str, batch)), values=values)
    for number, present, distinct, top in connection.execute(query, {"categories": CATEGORIES}).fetchall():
        yield number, Facts(present, distinct, [(value, -less) for less, value in top])


def _batches(numbers: list[int], rows: int) -> Iterator[list[int]]:
    size = min(max(BATCH_CELLS // max(rows, 1), 1), BATCH_COLUMNS)
    left = iter(numbers)
    while batch := list(islice(left, size)):
        yield batch


def _entry(field: "pa.Field[Any]", rows: int, facts: Facts) -> dict[str, Any]:
    text = str(field.type)
    entry = {"name": field.name, "type": TYPES.get(text, text), "missing": rows - facts.present}
    entry["distinct"] = facts.distinct
    if not facts.present:
        return entry
    mode, mode_count = facts.top[0]
    unit = _unit(field.type)
    if unit and facts.ordered is not None:
        return entry | _moments(facts.ordered, mode, unit, field.type) | {"mode_count": mode_count}
    entry |= {"mode": mode, "mode_count": mode_count}
    if facts.ordered is not None:
        entry |= _numbers(facts.ordered)
    if facts.ordered is None or facts.distinct <= CATEGORIES:
        entry["categories"] = {str(value): count for value, count in facts.top}
    return entry


def _numbers(ordered: "np.ndarray[Any, Any]") -> dict[str, Any]:
    """ordered (n,)."""
    import numpy as np

    low, high = ordered[0].item(), ordered[-1].item()
    real = ordered.astype(np.float64, copy=False)
    mean = float(np.clip(real.mean(), low, high))  # rounded, it may be beside a constant
    squares = real - mean
    squares *= squares
    variance = float(squares.sum()) / (len(real) - 1) if len(real) > 1 else None
    ventiles = [float(_ventile(ordered, i)) for i in range(1, VENTILES)]
    pad = 0.5 if low == high else 0  # numpy's histogram: a constant is in the middle of a range of one
    edges = np.linspace(low - pad, high + pad, BINS + 1)
    places = np.searchsorted(real, edges[:-1]).tolist()
    return {
        "min": low,
        "max": high,
        "mean": mean,
        "median": ventiles[VENTILES // 2 - 1],
        "variance": variance,
        "std_dev": None if variance is None else math.sqrt(variance),
        "histogram": {"edges": edges.tolist(), "counts": np.diff(places, append=len(real)).tolist()},
        "ventiles": ventiles,
    }


def _moments(ordered: "np.ndarray[Any, Any]", mode: int, unit: str, kind: Any) -> dict[str, Any]:
    import pandas as pd

    zone = "UTC" if getattr(kind, "tz", None) else None
    median = int(_ventile(ordered, VENTILES // 2))
    found = {"min": ordered[0].item(), "max": ordered[-1].item(), "median": median, "mode": mode}
    return {name: pd.Timestamp(value, unit=unit, tz=zone).isoformat() for name, value in found.items()}


def _ventile(ordered: "np.ndarray[Any, Any]", i: int) -> Any:
    """Exact where the values are whole numbers."""
    last = len(ordered) - 1
    at, part = divmod(i * last, VENTILES)
    low, high = ordered[at].item(), ordered[min(at + 1, last)].item()
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

"""Statistics of a snapshot's columns: those of pandas and numpy, whatever the file holds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from registry.errors import BadData
from tasks.data.statistics import BATCH_COLUMNS, column_statistics
from tasks.reporting.statistics_table import statistics_table

ROWS = 1003
ODD_NAMES = ['"', "'; DROP TABLE rows; --", "a", "A", "x[0]", "(y)", "🎉", "", "filename", "c0", "{path}", "?", "$bins"]


def write(folder: Path, columns: dict[str, Any]) -> Path:
    """NaN stays NaN, which pandas would write as a gap."""
    path = folder / "rows.parquet"
    parquet.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    return path


def described(folder: Path, values: Any) -> dict[str, Any]:
    return column_statistics(write(folder, {"x": values}))[0]


def mixed() -> dict[str, Any]:
    random = np.random.default_rng(0)
    gaps = random.random(ROWS) < 0.2
    return {
        "whole": random.integers(-50, 50, ROWS),
        "huge": random.integers(-(2**62), 2**62, ROWS),
        "unsigned": pa.array([2**64 - 1, 0, 5] + [7] * (ROWS - 3), pa.uint64()),
        "real": np.where(gaps, np.nan, random.lognormal(size=ROWS)),
        "gaps and NaN": pa.array(np.where(gaps, np.nan, random.normal(size=ROWS)), mask=random.random(ROWS) < 0.1),
        "single": random.normal(size=ROWS).astype(np.float32),
        "tenths": random.integers(-20, 21, ROWS) / 10,
        "far from zero": 1e9 + random.random(ROWS),
        "flag": random.integers(0, 2, ROWS).astype(np.int8),
        "true or false": random.random(ROWS) < 0.3,
        "constant": np.full(ROWS, 0.1),
    }


NUMERIC = mixed()


@pytest.fixture(scope="module")
def of_numeric(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    path = write(tmp_path_factory.mktemp("numeric"), NUMERIC)
    return {each["name"]: each for each in column_statistics(path)}


@pytest.mark.parametrize("name", NUMERIC)
def test_numbers_are_described_as_pandas_and_numpy_would(name: str, of_numeric: dict[str, dict[str, Any]]) -> None:
    found = of_numeric[name]
    series = pa.array(NUMERIC[name]).to_pandas().dropna()
    if series.dtype == bool:
        series = series.astype(np.int8)
    elif series.dtype == np.float32:
        series = series.astype(np.float64)
    assert (found["missing"], found["min"], found["max"]) == (ROWS - len(series), series.min(), series.max())
    mode = series.mode()[0]
    counted = (None, None, None) if found["type"][:5] == "float" else (series.nunique(), mode, (series == mode).sum())
    assert (found["distinct"], found["mode"], found["mode_count"]) == counted
    assert found["mean"] == pytest.approx(float(series.mean()), rel=1e-12, abs=1e-12)
    assert found["median"] == pytest.approx(float(series.median()), rel=1e-12)
    assert found["variance"] == pytest.approx(series.astype(float).var(), rel=1e-9, abs=1e-30)
    assert found["std_dev"] == pytest.approx(series.astype(float).std(), rel=1e-9, abs=1e-15)
    assert found["ventiles"] == pytest.approx(list(np.quantile(series, np.arange(1, 20) / 20)), rel=1e-12, abs=1e-12)
    counts, edges = np.histogram(series.astype(float), bins=20)
    assert found["histogram"] == {"edges": edges.tolist(), "counts": counts.tolist()}


@pytest.mark.parametrize("seed", range(8))
def test_values_on_the_edges_of_bins_fall_where_numpys_do(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    low, high = np.sort(random.normal(size=2) * 10.0 ** random.integers(-5, 6))
    edges = np.linspace(low, high, 21)
    values = np.concatenate([edges, np.nextafter(edges[1:], -np.inf), np.nextafter(edges[:-1], np.inf)])
    assert described(tmp_path, values)["histogram"]["counts"] == np.histogram(values, bins=20)[0].tolist()


@pytest.mark.parametrize("values", [[2**60, 2**60 + 1], [2**60, 2**60 + 400], [1.0, 1.0 + 2**-50]])
def test_a_range_of_fewer_floats_than_bins_has_a_histogram(tmp_path: Path, values: list[float]) -> None:
    assert sum(described(tmp_path, values * 3)["histogram"]["counts"]) == 6


@pytest.mark.parametrize("n", [1, 2, 3, 19, 20, 21, 22, 41, 400])
def test_ventiles_of_few_and_of_repeated_values(tmp_path: Path, n: int) -> None:
    values = np.random.default_rng(n).integers(0, max(n // 3, 2), n)
    wanted = np.quantile(values, np.arange(1, 20) / 20)
    assert described(tmp_path, values)["ventiles"] == pytest.approx(list(wanted), rel=1e-12)


def test_types_are_called_what_pandas_users_call_them(tmp_path: Path) -> None:
    columns = NUMERIC | {"text": pd.Series(["a"] * ROWS, dtype="str"), "day": pd.date_range("2026", periods=ROWS)}
    types = [each["type"] for each in column_statistics(write(tmp_path, columns))]
    assert types[:6] == ["int64", "int64", "uint64", "float64", "float64", "float32"]
    assert types[8:12] == ["int8", "bool", "float64", "string"]
    assert types[12].startswith("timestamp[")


def test_text_has_its_most_frequent_values(tmp_path: Path) -> None:
    few = ["b"] * 3 + ["a"] * 3 + ["", None, "'quoted'"]
    assert described(tmp_path, few) == {
        "name": "x",
        "type": "string",
        "missing": 1,
        "distinct": 4,
        "mode": "a",
        "mode_count": 3,
        "categories": {"a": 3, "b": 3, "": 1, "'quoted'": 1},
    }
    many = described(tmp_path, [f"{i:02}" for i in range(50) for _ in range(1 + i % 25)])
    assert many["distinct"] == 50
    assert list(many["categories"].items())[:3] == [("24", 25), ("49", 25), ("23", 24)]
    assert len(many["categories"]) == 20


def test_numbers_have_categories_up_to_twenty_values(tmp_path: Path) -> None:
    assert described(tmp_path, [2, 1, 1, None])["categories"] == {"1": 2, "2": 1}
    assert len(described(tmp_path, np.arange(20))["categories"]) == 20
    assert "categories" not in described(tmp_path, np.arange(21))
    assert "categories" not in described(tmp_path, [0.5, 0.5])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_moments_are_iso_text(tmp_path: Path, unit: str, zone: str | None) -> None:
    days = pd.to_datetime(["2026-03-01T12", "2024-02-29", None, "2026-03-01T12", "1969-12-31"], format="ISO8601")
    found = described(tmp_path, pa.array(days.to_numpy()).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone)))
    assert (found["missing"], found["distinct"], found["mode_count"]) == (1, 3, 2)
    wanted = {"min": "1969-12-31", "median": "2025-02-28T18:00", "max": "2026-03-01T12:00", "mode": "2026-03-01T12:00"}
    for name, moment in wanted.items():
        assert found[name] == pd.Timestamp(moment, tz="UTC" if zone else None).isoformat()
    assert "variance" not in found


def test_nanoseconds_and_far_years_are_kept(tmp_path: Path) -> None:
    close = pa.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_002], pa.timestamp("ns"))
    assert described(tmp_path, close)["max"].endswith(".000000002")
    far = pa.array([np.datetime64("3026-01-01", "us"), np.datetime64("1026-01-01", "us")])
    assert (described(tmp_path, far)["min"], described(tmp_path, far)["max"]) == (
        "1026-01-01T00:00:00",
        "3026-01-01T00:00:00",
    )


@pytest.mark.parametrize(
    "nothing", [pa.nulls(3), pa.nulls(3, pa.float64()), np.full(3, np.nan), pa.nulls(3, pa.string())]
)
def test_a_column_without_a_value_has_only_its_gaps(tmp_path: Path, nothing: Any) -> None:
    found = described(tmp_path, nothing)
    assert {name: found[name] for name in found if name != "type"} == {"name": "x", "missing": 3, "distinct": 0}


def test_a_single_value_has_no_variance(tmp_path: Path) -> None:
    found = described(tmp_path, [None, 4])
    assert (found["mean"], found["median"], found["variance"], found["std_dev"]) == (4, 4, None, None)


@pytest.mark.parametrize("beyond", [np.inf, -np.inf, 1e39])
def test_what_would_not_be_finite_is_refused(tmp_path: Path, beyond: float) -> None:
    with pytest.raises(BadData, match="column 'x' has values that are infinite or beyond"):
        described(tmp_path, [1.0, beyond])


def test_any_name_of_a_column_and_of_a_file_will_do(tmp_path: Path) -> None:
    folder, matched = (tmp_path / name / "a=77" for name in ("it's [1]", "it's 1"))
    for each in (folder, matched):
        each.mkdir(parents=True)
    write(matched, {"of another file": [0]})
    path = write(folder, {name: [number] for number, name in enumerate(ODD_NAMES)})
    found = column_statistics(path)
    assert [(each["name"], each["mean"]) for each in found] == [(name, i) for i, name in enumerate(ODD_NAMES)]


def test_columns_of_several_batches_and_kinds_stay_in_order(tmp_path: Path) -> None:
    number = 2 * BATCH_COLUMNS + 10
    kinds = [lambda i: [i, None, i + 2], lambda i: [i + 0.5, np.nan, i], lambda i: [f"{i}", "z", "z"]]
    found = column_statistics(write(tmp_path, {f"x{i}": kinds[i % 3](i) for i in range(number)}))
    assert [each["name"] for each in found] == [f"x{i}" for i in range(number)]
    assert [each["missing"] for each in found] == [int(i % 3 < 2) for i in range(number)]
    assert [each["mean"] for each in found[::3]] == [i + 1 for i in range(0, number, 3)]
    assert {each["mode"] for each in found[2::3]} == {"z"}


def test_a_point_in_a_name_is_no_path(tmp_path: Path) -> None:
    found = column_statistics(write(tmp_path, {"a": [1, 3], "a.b": ["x", "y"], "a.b.c": [5.0, 7.0]}))
    assert [(each["name"], each.get("mean"), each["mode"]) for each in found] == [
        ("a", 2, 1), ("a.b", None, "x"), ("a.b.c", 6, None)
    ]  # fmt: skip


def test_a_constant_has_no_deviation(tmp_path: Path) -> None:
    found = described(tmp_path, [123.456] * 1000)
    assert (found["mean"], found["variance"], found["std_dev"]) == (123.456, 0, 0)


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    found = described(tmp_path, [-0.0, 0.0, -0.0])
    assert {str(found[name]) for name in ("min", "median", "max")} == {"0.0"}


def test_everything_is_json(tmp_path: Path) -> None:
    found = column_statistics(write(tmp_path, NUMERIC | {"text": ["a"] * ROWS, "day": [pd.Timestamp("2026")] * ROWS}))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_table_has_a_line_for_each_column(tmp_path: Path) -> None:
    columns = {
        "big": [1234567, 1234567, 1234569],
        "third": [1 / 3, np.nan, 2 / 3],
        "text": ["many\nwords " * 9, None, None],
        "day": [pd.Timestamp("2026-03-01")] * 3,
        "nothing": pa.nulls(3),
    }
    head, *lines = statistics_table(column_statistics(write(tmp_path, columns)))
    assert (
        " | ".join(head) == "column | type | missing | distinct | min | mean | median | max | std_dev | most frequent"
    )
    assert lines[0][4:] == ["1234567", "1.23457e+06", "1.23457e+06", "1234569", "1.1547", "1234567 (2)"]
    assert lines[1] == ["third", "float64", "1", "", "0.333333", "0.5", "0.5", "0.666667", "0.235702", ""]
    assert lines[2][2:] == ["2", "1", "", "", "", "", "", "many words many words many word… (1)"]
    assert lines[3][4:] == [
        "2026-03-01T00:00:00",
        "",
        "2026-03-01T00:00:00",
        "2026-03-01T00:00:00",
        "",
        lines[3][4] + " (3)",
    ]
    assert lines[4] == ["nothing", "null", "3", "0", "", "", "", "", "", ""]


# The kernel's own figures of this process: getrusage's peak starts at that of the process that started it.
MEASURED = """
import sys
from pathlib import Path
import duckdb, numpy, pandas, pyarrow.parquet
from tasks.data.statistics import column_statistics

def megabytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

before = megabytes("VmRSS")
distinct = [each["distinct"] for each in column_statistics(Path(sys.argv[1]))]
print(distinct[2], megabytes("VmHWM") - before)
"""


@pytest.mark.slow
def test_two_million_rows_stay_in_bounded_memory(tmp_path: Path) -> None:
    n = 2_000_000
    random = np.random.default_rng(0)
    text = [f"{i:0400d}" for i in range(n)]  # 800 MB
    path = write(tmp_path, {"real": random.normal(size=n), "whole": random.integers(0, 2**62, n), "text": text})
    command = [sys.executable, "-c", MEASURED, str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    distinct, grown = done.stdout.split()
    assert int(distinct) == n
    assert float(grown) < 700, "556 with the limit of 512, and 1,100 without one, were measured"

"""Rows known by 64 bits: what makes two rows the same, and what does not."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.data import row_hashes as module
from tasks.data.row_hashes import STORED, occur_in, row_hashes


def table(**columns) -> pa.Table:
    return pa.table(columns)


def test_they_are_the_same_for_ever() -> None:
    """What stands in a registry is compared with what is computed years later, elsewhere."""
    when = pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("us"))
    found = row_hashes(table(n=[1.5, None], text=["a", "é"], flag=[True, False], when=when))
    assert found.tolist() == [5794488341766390689, 14144148369185788931]


@pytest.mark.parametrize(
    "other",
    [
        table(b=["x", "y"], a=[1, 2]),
        table(a=[1.0, 2.0], b=["x", "y"]),
        table(a=pa.array([1, 2], pa.int16()), b=pa.array(["x", "y"], pa.large_string())),
        pa.concat_tables([table(a=[1], b=["x"]), table(a=[2], b=["y"])]),
    ],
)
def test_the_same_row(other: pa.Table) -> None:
    assert row_hashes(other).tolist() == row_hashes(table(a=[1, 2], b=["x", "y"])).tolist()


@pytest.mark.parametrize(
    "other",
    [
        table(a=[2], b=["x"]),
        table(a=[None], b=["x"]),
        table(a=[1], b=[None]),
        table(a=[1], b=[""]),
        table(a=[1], c=["x"]),
        table(b=[1], a=["x"]),
        table(a=[1]),
        table(a=["1"], b=["x"]),
    ],
)
def test_another_row(other: pa.Table) -> None:
    assert row_hashes(other) != row_hashes(table(a=[1], b=["x"]))


def test_values_that_are_equal_have_equal_bits() -> None:
    [zero, minus] = row_hashes(table(a=[0.0, -0.0]))
    assert zero == minus
    [gap, nan] = row_hashes(table(a=pa.array([None, float("nan")], from_pandas=False)))
    assert gap == nan
    paris = pa.array([0, 3_600_000_000], pa.timestamp("us", "Europe/Paris"))
    assert row_hashes(table(a=paris)).tolist() == row_hashes(table(a=paris.cast(pa.timestamp("ms", "UTC")))).tolist()


def test_columns_that_swap_their_values_are_another_row() -> None:
    assert row_hashes(table(a=[1], b=[2])) != row_hashes(table(a=[2], b=[1]))


def test_a_million_rows_have_a_million_hashes() -> None:
    numbers = np.arange(1_000_000)
    assert len(np.unique(row_hashes(table(a=numbers % 1000, b=numbers // 1000)))) == 1_000_000


def test_they_are_found_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARED_HASHES", 7)
    stored, path = row_hashes(table(a=list(range(100)))), tmp_path / "rows.hashes"
    path.write_bytes(stored.astype(STORED).tobytes())
    asked = row_hashes(table(a=[0, 6, 7, 59, 60, 99, 100]))
    assert occur_in(asked, path, 60).tolist() == [True, True, True, True, False, False, False]

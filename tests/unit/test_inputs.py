"""Rows to predict for, as people give them: dates with a time zone, and numbers of every width."""

import numpy as np
import pandas as pd
import pytest

from registry.errors import BadRows
from registry.serving.columns import FLOAT32_MAX
from registry.serving.features import Feature, Features
from registry.serving.inputs import aligned

DAY = Feature("day", "timestamp[us, tz=Europe/Zurich]", used=True, nullable=True)


def test_texts_on_two_sides_of_a_change_to_summer_time() -> None:
    given = ["2026-03-28T12:00:00+01:00", "2026-03-30T12:00:00+02:00", None]
    day = aligned({"day": given}, Features([DAY]))["day"]
    assert [moment.isoformat() for moment in day[:2]] == given[:2]
    assert pd.isna(day[2])
    assert str(day.dtype) == "datetime64[us, Europe/Zurich]"


def test_other_offsets_are_the_same_moments() -> None:
    here, there = (
        aligned({"day": [text]}, Features([DAY])) for text in ("2026-03-28T12:00:00+01:00", "2026-03-28T11:00:00Z")
    )
    assert here.equals(there)


@pytest.mark.parametrize("given", [["2026-03-28T12:00:00"], ["2026-03-28T12:00:00+01:00", "2026-03-28T12:00:00"]])
def test_a_moment_without_an_offset_is_refused(given: list[str]) -> None:
    with pytest.raises(BadRows, match=r"column 'day'"):
        aligned({"day": given}, Features([DAY]))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_infinity_is_refused_in_numbers_of_every_width(dtype: str) -> None:
    features = Features(Feature(name, "double", used=True, nullable=True) for name in "ab")
    rows = pd.DataFrame({"a": [1, min(float(np.finfo(dtype).max), FLOAT32_MAX) / 4], "b": [-3, 4]}, dtype=dtype)
    assert aligned(rows, features).equals(rows)
    with pytest.raises(BadRows, match="column 'a' has values that are infinite"):
        aligned(rows.assign(a=np.array([1, np.inf], dtype)), features)


@pytest.mark.parametrize("given", [2**53 - 1, 2**53 + 1])
def test_whole_numbers_become_fractions_only_where_training_had_some(given: int) -> None:
    """An imputer that was fitted on fractions takes nothing else; an id must not become another's."""
    features = Features(
        [Feature("id", "int64", used=True, nullable=True), Feature("x", "double", used=True, nullable=True)]
    )
    for x in (1, 1.5):
        columns = {"id": [given], "x": [x]}
        for rows in ([[given, x]], [{"id": given, "x": x}], columns, pd.DataFrame(columns)):
            table = aligned(rows, features)
            assert int(table["id"][0]) == given
            assert table["x"].dtype == float


def test_unsigned_numbers_become_fractions_where_training_had_none_of_them() -> None:
    features = Features(Feature(name, "int64", used=True, nullable=True) for name in "ab")
    rows = pd.DataFrame({"a": [1, 2], "b": [3, 4]}, dtype="uint8")
    for given in (rows, rows.assign(b=[np.nan, 4])):
        assert aligned(given, features).dtypes.tolist() == [float, float]
    ids = pd.DataFrame({"a": [2**53 + 1], "b": [3]}, dtype="uint64")
    assert int(aligned(ids, features)["a"][0]) == 2**53 + 1, "an id must not become another's"
    unsigned = Features(Feature(name, "uint8", used=True, nullable=True) for name in "ab")
    assert aligned(rows, unsigned).equals(rows)

"""Rows: checked, split, frozen."""

import logging
import platform
import re
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.model_selection import train_test_split

from registry.errors import BadData, UnknownColumn
from registry.serving.artifacts import describe
from registry.vocabulary import Sampling, Task
from tasks.data import frozen_rows, writer
from tasks.data.checks import checked_rows
from tasks.data.row_hashes import STORED, row_hashes
from tasks.data.snapshots import freeze, split
from tests.support.requests import request

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION


def labels(n: int, classes: int = 3) -> np.ndarray:
    return np.arange(n) % classes


class TestSplit:
    @pytest.mark.parametrize(("n", "k"), [(1797, 449), (442, 111)])
    def test_last_takes_the_rows_that_postgresml_takes(self, n: int, k: int) -> None:
        train, test = split(labels(n), CLASSIFICATION, 0.25, Sampling.LAST, 0)
        assert list(train) == list(range(n - k))
        assert list(test) == list(range(n - k, n))

    @pytest.mark.parametrize("size", [0.25, 0.1, 17])
    def test_random_and_stratified_are_scikit_learns_to_the_row(self, size: float) -> None:
        y = labels(101)
        for sampling, stratify in ((Sampling.RANDOM, None), (Sampling.STRATIFIED, y)):
            theirs = train_test_split(np.arange(101), test_size=size, random_state=7, stratify=stratify)
            ours = split(y, CLASSIFICATION, size, sampling, 7)
            for one, other in zip(ours, theirs, strict=True):
                assert list(one) == list(other)

    def test_above_one_is_a_count(self) -> None:
        assert len(split(labels(50), CLASSIFICATION, 7, Sampling.LAST, 0)[1]) == 7

    @pytest.mark.parametrize(("n", "size"), [(4, 0.1), (10, 9), (10, 200)])
    def test_each_side_needs_two_rows(self, n: int, size: float) -> None:
        with pytest.raises(BadData, match=f"{n} rows with test_size {size}"):
            split(labels(n, 1), REGRESSION, size, Sampling.LAST, 0)

    def test_a_class_with_one_member_is_named(self) -> None:
        with pytest.raises(BadData, match="class 'rare' has one row"):
            split(np.array(["a"] * 10 + ["rare"]), CLASSIFICATION, 0.25, Sampling.STRATIFIED, 0)

    def test_a_test_set_smaller_than_the_number_of_classes(self) -> None:
        with pytest.raises(BadData, match="2 test rows cannot hold each of 3 classes"):
            split(labels(30), CLASSIFICATION, 2, Sampling.STRATIFIED, 0)

    def test_stratified_regression(self) -> None:
        with pytest.raises(BadData, match="stratified' is for classification"):
            split(labels(30), REGRESSION, 0.25, Sampling.STRATIFIED, 0)


def frame(**columns) -> pd.DataFrame:
    given = {"x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "y": [0, 1, 0, 1, 0, 1]} | columns
    return pd.DataFrame({name: values for name, values in given.items() if values is not None})


def table(rows: pd.DataFrame) -> pa.Table:
    if len(set(rows.columns)) < len(rows.columns):
        return pa.table([pa.array(rows.iloc[:, at]) for at in range(len(rows.columns))], names=list(rows.columns))
    return pa.Table.from_pandas(rows, preserve_index=False)


REFUSED = {
    "an unknown column": (
        pd.DataFrame({"x": [1] * 6, "z": [1] * 6}),
        CLASSIFICATION,
        "has no column 'y'; it has 'x', 'z'",
    ),
    "an empty table": (frame().head(0), CLASSIFICATION, "has 0 rows"),
    "one row": (frame().head(1), CLASSIFICATION, "has 1 rows"),
    "no feature": (frame(x=None), CLASSIFICATION, "no column besides the target"),
    "an empty target": (frame(y=[None] * 6), CLASSIFICATION, "6 of 6 rows .* have no 'y'"),
    "gaps in the target": (frame(y=[0, 1, None, 1, 0, 1]), CLASSIFICATION, "1 of 6 rows .* have no 'y'"),
    "infinity": (frame(x=[1, 2, 3, 4, 5, np.inf]), CLASSIFICATION, "column 'x' .* infinite or beyond"),
    "beyond float32": (frame(x=[1, 2, 3, 4, 5, 1e39]), CLASSIFICATION, "column 'x' .* infinite or beyond"),
    "text as a regression target": (frame(y=list("123456")), REGRESSION, "'y' of files:t.csv is text"),
    "a fractional classification target": (frame(y=[0.5, 1, 0, 1, 0, 1]), CLASSIFICATION, "fractional numbers"),
    "the same column twice": (
        pd.DataFrame([[1, 2, 0]] * 6, columns=["x", "x", "y"]),
        CLASSIFICATION,
        "two columns named 'x'",
    ),
    "lists": (frame(x=[[1]] * 6), CLASSIFICATION, "column 'x' .* holds list<"),
    "dicts": (frame(x=[{}] * 6), CLASSIFICATION, "column 'x' .* holds struct"),
    "bytes": (frame(x=[b"a"] * 6), CLASSIFICATION, "column 'x' .* holds binary values"),
    "time spans": (frame(x=[timedelta(1)] * 6), CLASSIFICATION, "column 'x' .* holds duration"),
    "times of day": (frame(x=[time(1)] * 6), CLASSIFICATION, "column 'x' .* holds time64"),
    "a date as target": (frame(y=pd.date_range("2026-01-01", periods=6)), REGRESSION, "'y' of files:t.csv is a date"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_one_line(what: str) -> None:
    rows, task, reason = REFUSED[what]
    with pytest.raises(BadData, match=reason) as caught:
        checked_rows(table(rows), "files:t.csv", ("y",), task)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_has_an_error_of_its_own() -> None:
    with pytest.raises(UnknownColumn):
        checked_rows(table(frame()), "files:t.csv", ("z",), CLASSIFICATION)


def test_columns_become_plain_numbers_or_text() -> None:
    rows = frame(
        flag=[True, False] * 3,
        maybe=pd.array([True, None, False] * 2, dtype="boolean"),
        whole=pd.array([1, None, 3] * 2, dtype="Int64"),
        kind=pd.Categorical(["a", "b", "a"] * 2),
        level=pd.Categorical([1, None, 3] * 2),
        self=range(6),
        name=["u", None, "w"] * 2,
        nothing=[None] * 6,
        day=[date(2026, 1, day) for day in range(1, 7)],
        price=[Decimal("1.50"), None] * 3,
    )
    moments = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 6)
    checked = checked_rows(table(rows).append_column("moment", moments), "files:t.csv", ("y",), CLASSIFICATION)
    assert {field.name: str(field.type) for field in checked.schema} == {
        "x": "double",
        "y": "int64",
        "flag": "int8",
        "maybe": "int8",
        "whole": "int64",
        "kind": "large_string",
        "level": "int64",
        "self": "int64",
        "name": "large_string",
        "nothing": "double",
        "day": "timestamp[us]",
        "price": "double",
        "moment": "timestamp[us, tz=UTC]",
    }


def test_booleans_stay_labels_when_they_are_classified() -> None:
    rows = table(frame(y=[True, False] * 3))
    assert checked_rows(rows, "files:t.csv", ("y",), CLASSIFICATION)["y"].to_pylist() == [True, False] * 3


LIKELY_MISTAKES = {
    "decimals": (frame(x=[Decimal("1.5")] * 5 + [Decimal(2)]), "column 'x' .* holds decimals"),
    "large whole numbers": (frame(x=[2**53 + 1, 2, 3, 4, 5, 6]), "above 2\\^53"),
    "an empty column": (frame(z=[None] * 6), "column 'z' .* has no value and is dropped"),
    "a constant": (frame(z=[7] * 6, w=["a"] * 6), "column 'z' .* has one value.* \\(also 1 others\\)"),
    "the target again": (frame(z=[0, 1, 0, 1, 0, 1]), "column 'z' .* equals the target"),
}


@pytest.mark.parametrize("what", LIKELY_MISTAKES)
def test_what_is_likely_a_mistake_is_warned_of(what: str, caplog: pytest.LogCaptureFixture) -> None:
    rows, said = LIKELY_MISTAKES[what]
    with caplog.at_level(logging.WARNING, "frontrunner"):
        checked_rows(table(rows), "files:t.csv", ("y",), CLASSIFICATION)
    assert re.search(said, caplog.text)


def test_nothing_is_warned_of_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    checked_rows(table(frame()), "files:t.csv", ("y",), CLASSIFICATION)
    assert caplog.text == ""


def test_a_frozen_file_has_the_training_rows_first(tmp_path: Path) -> None:
    frozen = freeze(table(frame()), request(CLASSIFICATION, test_sampling=Sampling.LAST), tmp_path)
    assert (frozen.train_rows, frozen.test_rows) == (4, 2)
    assert list(pd.read_parquet(frozen.path)["x"]) == [1, 2, 3, 4, 5, 6]
    assert [column["name"] for column in frozen.columns] == ["x", "y"]


def test_parts_of_a_file_are_in_their_order_with_the_hashes_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART_BYTES", 2_000)
    monkeypatch.setattr(writer, "MIN_PART_ROWS", 1)
    monkeypatch.setattr(writer, "HASHED_ROWS", 17)
    whole = table(pd.DataFrame({"x": np.arange(1003.0), "text": [f"t{i % 7}" for i in range(1003)], "y": labels(1003)}))
    frozen = freeze(whole, request(CLASSIFICATION, test_sampling=Sampling.RANDOM, seed=3), tmp_path)
    assert parquet.read_metadata(frozen.path).num_row_groups > 10
    written = parquet.read_table(frozen.path)
    train, test = split(labels(1003), CLASSIFICATION, 0.34, Sampling.RANDOM, 3)
    assert written["x"].to_pylist() == [*train, *test]
    assert written["text"].to_pylist() == [f"t{i % 7}" for i in [*train, *test]]
    assert np.array_equal(np.fromfile(frozen.hashes, STORED), row_hashes(written))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep nothing, or cannot be told")
def test_free_memory_goes_back_to_the_system() -> None:
    """glibc keeps for each thread what was freed below what is in use."""
    code = """if True:
        from threading import Thread
        import numpy as np, psutil
        from tasks.data.frozen_rows import give_back
        kept = []
        def work():
            blocks = [np.ones(10_000) for _ in range(3_000)]  # 240 MB
            kept.append(blocks[-1])
        thread = Thread(target=work)
        thread.start()
        thread.join()
        give_back()  # which imports Arrow
        before = psutil.Process().memory_info().rss
        thread = Thread(target=work)
        thread.start()
        thread.join()
        freed = psutil.Process().memory_info().rss
        give_back()
        print(freed - before, freed - psutil.Process().memory_info().rss)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, given = map(int, done.stdout.split())
    assert kept > 200e6
    assert given > 200e6


def test_a_large_snapshot_is_read_as_float32_in_the_order_of_its_columns(tmp_path: Path) -> None:
    """Numbers first; a gap in whole numbers is one there, too."""
    random = np.random.default_rng(0)
    columns = {f"x{i}": random.normal(size=97) for i in range(11)}
    columns |= {"text": ["a", None, "b"] + ["c"] * 94, "whole": pa.array([None, *range(96)]), "y": list(range(97))}
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=20)
    read = frozen_rows._read(describe(path, path.as_uri()), ("y",), 70, large=True)
    X = pd.concat([read.X_train, read.X_test])
    assert (len(read.X_train), len(read.X_test)) == (70, 27)
    assert list(X.columns) == [*(f"x{i}" for i in range(11)), "whole", "text"]
    for i in range(11):
        assert X[f"x{i}"].tolist() == columns[f"x{i}"].astype(np.float32).tolist()
    assert X["whole"].isna().tolist() == [True] + [False] * 96
    assert X["whole"].tolist()[1:] == list(range(96))
    assert X["text"].tolist()[0] == "a"
    assert [*read.y_train, *read.y_test] == list(range(97))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, np.nan, np.inf, 2, 3, 4], "infinite or beyond"),
        ([1.0, np.nan, -1e39, 2, 3, 4], "infinite or beyond"),
        (pa.array([None, -(2**63), 1, 2, 3, 4]), None),
        (pa.array([2**64 - 1, None, 1, 2, 3, 4], pa.uint64()), None),
        (pa.chunked_array([[], [np.nan, 1.0], [2.0, 3.0, 4.0, 5.0], []], pa.float64()), None),
        (pa.array([None] * 6, pa.float64()), None),
    ],
)
def test_numbers_are_looked_at_whatever_is_beside_them(values: Any, reason: str | None) -> None:
    rows = pa.table({"x": values, "y": [0, 1] * 3})
    if reason:
        with pytest.raises(BadData, match=reason):
            checked_rows(rows, "files:t.csv", ("y",), CLASSIFICATION)
        return
    checked = checked_rows(rows, "files:t.csv", ("y",), CLASSIFICATION)["x"]
    assert checked.null_count == rows["x"].to_pandas().isna().sum()


@pytest.mark.parametrize(
    ("rows", "task", "reason"),
    [
        (frame(y=["a"] * 6), CLASSIFICATION, "single class, 'a'"),
        (frame(y=[1.0, 2, 3, 4, 9, 9]), REGRESSION, "every test row .* has the target 9.0"),
        (frame(x=[None] * 4 + [1, 2]), CLASSIFICATION, "besides the target has a value in the training rows"),
    ],
)
def test_both_sides_must_be_able_to_tell_something(tmp_path: Path, rows, task: Task, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        freeze(table(rows), request(task, test_sampling=Sampling.LAST), tmp_path)


def test_several_targets_are_frozen_and_split_together(tmp_path: Path) -> None:
    rows = frame(z=[2.0, 3, 5, 7, 11, 13], y=[1.0, 2, 3, 4, 5, 6])
    frozen = freeze(table(rows), request(REGRESSION, y_column_names=("y", "z"), test_sampling=Sampling.LAST), tmp_path)
    assert (frozen.train_rows, frozen.test_rows) == (4, 2)
    same = rows.assign(z=[1.0, 2, 3, 4, 9, 9])
    with pytest.raises(BadData, match="every test row of files:t.csv, 'z', has the target 9.0"):
        freeze(table(same), request(REGRESSION, y_column_names=("y", "z"), test_sampling=Sampling.LAST), tmp_path)


PREPROCESS_REFUSED = {
    "an unknown column": ({"w": {"scale": "standard"}}, frame(), "files:t.csv has no column 'w'"),
    "the target": ({"y": {"scale": "standard"}}, frame(), "has no column 'y'; it has 'x'"),
    "gaps that are an error": ({"x": {"impute": "error"}}, frame(x=[1, None, 3, 4, 5, 6]), "x"),
    "an id": ({}, frame(x=[f"id {n}" for n in range(30)], y=[0, 1] * 15), "x"),
}


@pytest.mark.parametrize("what", PREPROCESS_REFUSED)
def test_what_cannot_be_preprocessed_is_refused_before_anything_is_written(what: str, tmp_path: Path) -> None:
    preprocess, rows, said = PREPROCESS_REFUSED[what]
    with pytest.raises(BadData, match=said):
        freeze(table(rows), request(CLASSIFICATION, preprocess=preprocess), tmp_path)
    assert not list(tmp_path.iterdir())

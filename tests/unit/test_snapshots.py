"""Rows: checked, split, frozen."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from registry.errors import BadData, UnknownColumn
from registry.vocabulary import Sampling, Task
from tasks.checks import checked_rows
from tasks.requests import TrainingRequest
from tasks.snapshots import freeze, split

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


REFUSED = {
    "an unknown column": (
        pd.DataFrame({"x": [1] * 6, "z": [1] * 6}),
        CLASSIFICATION,
        "has no column 'y'; it has 'x', 'z'",
    ),
    "an empty table": (frame().head(0), CLASSIFICATION, "has 0 rows"),
    "one row": (frame().head(1), CLASSIFICATION, "has 1 rows"),
    "no feature": (frame(x=None), CLASSIFICATION, "no column beside the target"),
    "an empty target": (frame(y=[None] * 6), CLASSIFICATION, "6 of 6 rows .* have no 'y'"),
    "gaps in the target": (frame(y=[0, 1, None, 1, 0, 1]), CLASSIFICATION, "1 of 6 rows .* have no 'y'"),
    "infinity": (frame(x=[1, 2, 3, 4, 5, np.inf]), CLASSIFICATION, "column 'x' .* infinite or beyond"),
    "beyond float32": (frame(x=[1, 2, 3, 4, 5, 1e39]), CLASSIFICATION, "column 'x' .* infinite or beyond"),
    "text as a regression target": (frame(y=list("123456")), REGRESSION, "'y' of files:t.csv is text"),
    "a fractional classification target": (frame(y=[0.5, 1, 0, 1, 0, 1]), CLASSIFICATION, "fractional numbers"),
    "labels of mixed types": (frame(y=["a", 1, "a", 1, "a", 1]), CLASSIFICATION, "column 'y' .* holds"),
    "the same column twice": (
        pd.DataFrame([[1, 2, 0]] * 6, columns=["x", "x", "y"]),
        CLASSIFICATION,
        "two columns named 'x'",
    ),
    "lists": (frame(x=[[1]] * 6), CLASSIFICATION, "column 'x' .* holds list values"),
    "dicts": (frame(x=[{}] * 6), CLASSIFICATION, "column 'x' .* holds dict values"),
    "bytes": (frame(x=[b"a"] * 6), CLASSIFICATION, "column 'x' .* holds bytes values"),
    "time spans": (frame(x=[timedelta(1)] * 6), CLASSIFICATION, "column 'x' .* holds timedelta"),
    "dates": (frame(x=pd.date_range("2026-01-01", periods=6)), CLASSIFICATION, "column 'x' .* holds datetime64"),
    "complex numbers": (frame(x=[1j] * 6), CLASSIFICATION, "column 'x' .* complex"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_one_line(what: str) -> None:
    rows, task, reason = REFUSED[what]
    with pytest.raises(BadData, match=reason) as caught:
        checked_rows(rows, "files:t.csv", ("y",), task)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_has_an_error_of_its_own() -> None:
    with pytest.raises(UnknownColumn):
        checked_rows(frame(), "files:t.csv", ("z",), CLASSIFICATION)


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
    )
    checked = checked_rows(rows, "files:t.csv", ("y",), CLASSIFICATION)
    kinds = {name: str(kind) for name, kind in checked.dtypes.items()}
    assert kinds == {
        "x": "float64",
        "y": "int64",
        "flag": "int8",
        "maybe": "float64",
        "whole": "float64",
        "kind": "str",
        "level": "float64",
        "self": "int64",
        "name": "str",
        "nothing": "float64",
    }


def request(sampling: Sampling = Sampling.LAST, task: Task = CLASSIFICATION) -> TrainingRequest:
    return TrainingRequest("p", task, "files:t.csv", ("y",), ("linear",), {}, 0.34, sampling, 0, None)


def test_a_frozen_file_has_the_training_rows_first(tmp_path: Path) -> None:
    frozen = freeze(frame(), request(), tmp_path)
    assert (frozen.train_rows, frozen.test_rows) == (4, 2)
    assert list(pd.read_parquet(frozen.path)["x"]) == [1, 2, 3, 4, 5, 6]
    assert [column["name"] for column in frozen.columns] == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "task", "reason"),
    [
        (frame(y=["a"] * 6), CLASSIFICATION, "single class, 'a'"),
        (frame(y=[1.0, 2, 3, 4, 9, 9]), REGRESSION, "every test row .* has the target 9.0"),
        (frame(x=[None] * 4 + [1, 2]), CLASSIFICATION, "no column of .* beside 'y' has a value in the training rows"),
    ],
)
def test_both_sides_must_be_able_to_tell_something(tmp_path: Path, rows, task: Task, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        freeze(rows, request(task=task), tmp_path)


@pytest.mark.parametrize("value", [Decimal("1.5"), object()])
def test_other_objects_are_named(value: object) -> None:
    with pytest.raises(BadData, match=f"holds {type(value).__name__} values"):
        checked_rows(frame(x=[value] * 6), "files:t.csv", ("y",), CLASSIFICATION)

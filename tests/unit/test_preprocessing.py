"""Each option of preprocessing beside figures worked out by hand; what new rows may bring; what a file keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from registry.errors import BadData, InvalidInput, UnknownColumn, UnknownValue
from registry.serving.artifacts import describe, load_pipeline
from registry.vocabulary import Task
from tasks.estimators.preprocessing import checked_preprocess, preprocessing_lines, preprocessor, resolved

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION
NAN = float("nan")


def prepared(
    X: pd.DataFrame, preprocess: dict[str, Any], new: pd.DataFrame | None = None, *, allow_missing: bool = False
) -> pd.DataFrame:
    """What the estimator sees of `new`, fitted on X and y = 0, 1, 2 ..."""
    chosen = resolved(X, checked_preprocess(preprocess), allow_missing=allow_missing)
    fitted = preprocessor(REGRESSION, X, chosen, seed=0).fit(X, np.arange(len(X), dtype=float))
    rows = fitted.transform(X if new is None else new)
    return pd.DataFrame(rows, columns=fitted.get_feature_names_out())


def one(values: list[Any], choice: dict[str, Any], new: list[Any] | None = None, **options: Any) -> list[float]:
    """The same of a column x that stays one column."""
    frame = prepared(
        pd.DataFrame({"x": values}), {"x": choice}, None if new is None else pd.DataFrame({"x": new}), **options
    )
    return [float(value) for value in frame["x"]]


@pytest.mark.parametrize(
    ("impute", "filled"), [("mean", 4.0), ("median", 2.0), ("mode", 1.0), ("min", 1.0), ("max", 12.0), ("zero", 0.0)]
)
def test_a_gap_is_filled_by_a_figure_of_the_training_rows(impute: str, filled: float) -> None:
    values = [1.0, 1.0, 2.0, 4.0, 12.0, NAN]
    assert one(values, {"impute": impute}) == [1, 1, 2, 4, 12, filled]
    assert one(values, {"impute": impute}, new=[NAN, 100.0]) == [filled, 100.0]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_zero_is_of_every_type_of_number(dtype: str) -> None:
    given = pd.DataFrame({"x": np.array([1, 2, 3], dtype)})
    chosen = resolved(given, {"x": {"impute": "zero"}}, allow_missing=False)
    made = preprocessor(Task.REGRESSION, given, chosen, seed=0).fit_transform(given)
    assert made.tolist() == [[1], [2], [3]]


def test_a_column_without_gaps_fills_those_of_new_rows() -> None:
    assert one([1.0, 2.0, 6.0], {}, new=[NAN]) == [2.0]


def test_an_estimator_that_allow_missing_gets_them() -> None:
    assert np.isnan(one([1.0, NAN], {}, allow_missing=True)[1])
    assert one([1.0, NAN], {"impute": "zero"}, allow_missing=True)[1] == 0


@pytest.mark.parametrize(
    ("scale", "seen"),
    [
        ("preserve", [-2.0, 0.0, 2.0, 4.0, 16.0]),
        ("standard", [(value - 4) / np.sqrt(40) for value in (-2, 0, 2, 4, 16)]),
        ("min_max", [0, 2 / 18, 4 / 18, 6 / 18, 1.0]),
        ("max_abs", [-2 / 16, 0, 2 / 16, 4 / 16, 1.0]),
        ("robust", [-1.0, -0.5, 0.0, 0.5, 3.5]),  # (value - median 2) / (third quartile 4 - first 0)
    ],
)
def test_scales(scale: str, seen: list[float]) -> None:
    assert one([-2.0, 0.0, 2.0, 4.0, 16.0], {"scale": scale}) == pytest.approx(seen)


def test_a_gap_is_filled_before_it_is_scaled() -> None:
    assert one([0.0, 4.0, NAN], {"impute": "max", "scale": "min_max"}) == [0, 1, 1]


class TestText:
    COLORS = pd.DataFrame({"x": ["red", "blue", "red", None]}, dtype="str")

    def test_one_hot_takes_a_gap_as_a_category_and_a_new_one_as_none(self) -> None:
        seen = prepared(self.COLORS, {}, pd.DataFrame({"x": ["blue", "green", None]}))
        assert list(seen) == ["x_blue", "x_red", "x_nan"]
        assert seen.to_numpy().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]

    def test_mode_fills_a_gap_in_text(self) -> None:
        seen = prepared(self.COLORS, {"x": {"impute": "mode"}})
        assert list(seen) == ["x_blue", "x_red"]
        assert seen["x_red"].tolist() == [1, 0, 1, 1]

    def test_ordinal_sorts_or_takes_the_order_and_knows_no_other(self) -> None:
        sizes = ["S", "L", "M", "S"]
        assert one(sizes, {"encode": "ordinal"}) == [2, 0, 1, 2]
        order = {"encode": {"ordinal": ["S", "M", "L", "XL"]}}
        assert one(sizes, order) == [0, 2, 1, 0]
        assert one(sizes, order, new=["XL", "XXL"]) == [3, -1]

    def test_ordinal_has_its_gaps_filled(self) -> None:
        assert one(["a", "b", "c", "c", None], {"encode": "ordinal", "impute": "max"}) == [0, 1, 2, 2, 2]

    def test_target_encoding_of_new_rows_is_a_mean_drawn_to_the_mean_of_all(self) -> None:
        cities = ["Rome"] * 50 + ["Bern"] * 50  # y = 0 .. 99
        seen = one(cities, {"encode": "target"}, new=["Rome", "Bern", "Oslo"])
        assert seen[0] == pytest.approx(24.5, abs=1)
        assert seen[1] == pytest.approx(74.5, abs=1)
        assert seen[2] == pytest.approx(49.5)

    def test_target_encoding_is_cross_fitted_so_that_a_row_never_sees_its_own_target(self) -> None:
        """Two rows of each of 100 names and targets that are noise: what was learnt of the noise must not be there."""
        X = pd.DataFrame({"x": [f"n{number}" for number in range(100)] * 2}, dtype="str")
        y = np.random.default_rng(0).normal(size=200)
        chosen = resolved(X, {}, allow_missing=False)
        assert chosen["x"]["encode"] == "target"
        seen = preprocessor(REGRESSION, X, chosen, seed=0).fit_transform(X, y)[:, 0]
        by_itself = preprocessor(REGRESSION, X, chosen, seed=0).fit(X, y).transform(X)[:, 0]
        assert np.corrcoef(by_itself, y)[0, 1] > 0.5
        assert np.corrcoef(seen, y)[0, 1] < 0.2

    def test_a_class_a_column(self) -> None:
        X = pd.DataFrame({"x": ["a", "b", "c"] * 20}, dtype="str")
        y = np.array(["no", "yes", "perhaps"] * 20)
        chosen = resolved(X, {"x": {"encode": "target"}}, allow_missing=False)
        seen = preprocessor(CLASSIFICATION, X, chosen, seed=0).fit(X, y).transform(X)
        assert seen.shape == (60, 3)
        assert (seen.argmax(axis=1) == np.tile([0, 2, 1], 20)).all()  # no, perhaps, yes

    def test_many_categories_stay_in_bounds(self) -> None:
        X = pd.DataFrame({"x": [f"n{number}" for number in range(5000)] * 2}, dtype="str")
        assert prepared(X, {"x": {"encode": "one_hot"}}).shape == (10_000, 1000)
        assert prepared(X, {}).shape == (10_000, 1)


class TestDates:
    DAYS = pd.to_datetime(["2026-11-23 08:30", "2024-02-29 00:00", None])

    def test_parts_and_never_a_raw_number(self) -> None:
        seen = prepared(pd.DataFrame({"x": self.DAYS}), {"x": {"scale": "preserve"}}).iloc[0]
        assert {name: seen[f"x_{name}"] for name in ("year", "month", "day", "hour", "weekday")} == {
            "year": 2026,
            "month": 11,
            "day": 23,
            "hour": 8,
            "weekday": 1,
        }
        assert seen["x_total_seconds"] == pytest.approx(self.DAYS[0].timestamp())

    def test_a_linear_model_learns_as_much_from_the_other_columns(self) -> None:
        draw = np.random.default_rng(0)
        X = pd.DataFrame({"x": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 800, 300), "D")})
        X["area"] = draw.normal(100, 20, 300)
        y = 3 * X["area"].to_numpy() + draw.normal(0, 5, 300)
        parts = preprocessor(REGRESSION, X, resolved(X, {}, allow_missing=False), seed=0)
        model = Pipeline([("preprocessing", parts), ("model", LinearRegression())]).fit(X[:200], y[:200])
        assert model.score(X[200:], y[200:]) > 0.95

    def test_a_gap_is_filled_and_the_parts_are_scaled_as_asked(self) -> None:
        seen = prepared(pd.DataFrame({"x": self.DAYS}), {"x": {"impute": "min", "scale": "min_max"}})
        assert seen["x_year"].tolist() == [1, 0, 0]

    def test_new_rows_may_have_only_gaps_or_another_precision(self) -> None:
        X = pd.DataFrame({"x": self.DAYS})
        assert prepared(X, {}, pd.DataFrame({"x": [pd.NaT]})).notna().all(axis=None)
        coarse = prepared(X, {}, pd.DataFrame({"x": self.DAYS.astype("datetime64[s]")}))
        assert coarse.equals(prepared(X, {}))


class TestNames:
    def test_rows_are_found_by_name_and_others_are_left_out(self) -> None:
        X = pd.DataFrame({"a": [1.0, 2.0], "self": [3.0, 4.0], "x [m] <": [5.0, 6.0]})
        new = X.iloc[:, ::-1].assign(more="text")
        assert prepared(X, {}, new).equals(prepared(X, {}))

    def test_they_stay_as_they_are_unless_two_would_be_the_same(self) -> None:
        X = pd.DataFrame({"a": pd.Series(["b", "c"], dtype="str"), "d": [1, 2]})
        assert list(prepared(X, {})) == ["a_b", "a_c", "d"]
        clash = prepared(X.assign(a_b=[3, 4]), {})
        assert len(set(clash)) == 4

    def test_ten_thousand_columns_are_a_few_transformers(self) -> None:
        X = pd.DataFrame(np.zeros((4, 10_000)), columns=[f"c_{number}" for number in range(10_000)])
        chosen = resolved(X, {"c_7": {"scale": "standard"}}, allow_missing=False)
        assert len(preprocessor(REGRESSION, X, chosen, seed=0).transformers) == 2


def everything() -> tuple[pd.DataFrame, dict[str, Any]]:
    """200 rows with a column for each option, beside columns that nothing is said of."""
    draw, n = np.random.default_rng(0), 200
    numbers = {
        f"{option} {value}": pd.Series(draw.normal(size=n)).where(draw.random(n) < 0.8)
        for option, values in (("impute", ("mean", "median", "mode", "min", "max", "zero")), ("scale", ("x",)))
        for value in values
    }
    scaled = {f"scale {scale}": draw.normal(size=n) for scale in ("standard", "min_max", "max_abs", "robust")}
    text = {
        f"encode {encode}": pd.Series(draw.choice(["a", "b", "c"], n), dtype="str").where(draw.random(n) < 0.8)
        for encode in ("ordinal", "one_hot", "target", "order")
    }
    others = {"when": pd.Series(pd.date_range("2026-01-01", periods=n)), "nothing": np.full(n, NAN)}
    many = {"many": pd.Series([f"n{number}" for number in draw.integers(0, 50, n)], dtype="str")}
    preprocess = {
        name: dict([name.split(" ")]) for name in {**numbers, **scaled, **text} if not name.endswith((" x", " order"))
    }
    preprocess["encode order"] = {"encode": {"ordinal": ["c", "b", "a"]}, "impute": "mode"}
    preprocess["when"] = {"impute": "max", "scale": "standard"}
    return pd.DataFrame({**numbers, **scaled, **text, **others, **many}), preprocess


@pytest.mark.parametrize("task", Task)
def test_a_file_keeps_all_of_it(task: Task, tmp_path: Path) -> None:
    X, preprocess = everything()
    y = np.arange(200.0) if task is REGRESSION else np.array(["yes", "no"] * 100)
    chosen = resolved(X, checked_preprocess(preprocess), allow_missing=False)
    model = LinearRegression() if task is REGRESSION else LogisticRegression(max_iter=10_000)
    pipeline = Pipeline([("preprocessing", preprocessor(task, X, chosen, seed=0)), ("model", model)]).fit(X, y)
    path = tmp_path / "model.skops"
    skops.io.dump(pipeline, path)
    loaded = load_pipeline(describe(path, path.as_uri()))
    unseen = pd.DataFrame({name: [None, "new" if X[name].dtype == "str" else None] for name in X})
    unseen = unseen.astype(X.dtypes.to_dict())
    for rows in (X, X[::-1], unseen):
        assert np.array_equal(loaded.predict(rows), pipeline.predict(rows))


def test_what_was_chosen_is_shown_by_groups() -> None:
    X, preprocess = everything()
    lines = preprocessing_lines(resolved(X, checked_preprocess(preprocess), allow_missing=False))
    assert lines[0] == ["columns", "impute", "encode", "scale"]
    assert ["nothing", "", "dropped", ""] in lines
    assert ["when", "max", "date_parts", "standard"] in lines
    assert ["encode order", "mode", "ordinal: c < b < a", "preserve"] in lines
    wide = resolved(pd.DataFrame(np.zeros((4, 100))).add_prefix("c"), {}, allow_missing=True)
    assert preprocessing_lines(wide)[1] == ["c0, c1, c2, c3, c4, … (100 in all)", "native", "native", "preserve"]


SHAPES: dict[str, tuple[Any, type[Exception], str]] = {
    "an option without its value": ({"x": "scale"}, InvalidInput, "preprocess of 'x'"),
    "an unknown option": ({"x": {"scaling": "standard"}}, UnknownValue, "scaling.*choose one of impute, encode, scale"),
    "an unknown value": ({"x": {"scale": "big"}}, UnknownValue, "choose one of preserve, standard"),
    "a number": ({"x": {"impute": 0}}, UnknownValue, "choose one of error, mean"),
    "an order with one value twice": ({"x": {"encode": {"ordinal": ["a", "a"]}}}, InvalidInput, "values in order"),
    "an order that is empty": ({"x": {"encode": {"ordinal": []}}}, InvalidInput, "values in order"),
    "an order of something else": ({"x": {"encode": {"target": ["a"]}}}, InvalidInput, "values in order"),
}


@pytest.mark.parametrize("what", SHAPES)
def test_another_shape_is_refused(what: str) -> None:
    preprocess, error, said = SHAPES[what]
    with pytest.raises(error, match=said):
        checked_preprocess(preprocess)


TEXT = ["a", "b", "c", None]
DAY = [pd.Timestamp("2026-11-23")] * 4
MISFITS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "gaps that are an error": (
        [1.0, NAN, 2.0, NAN],
        {"impute": "error"},
        "'x' has 2 missing values, and its impute is error",
    ),
    "text as it is": (TEXT, {"encode": "native"}, "'x' is text, which no algorithm accepts"),
    "the mean of text": (TEXT, {"encode": "one_hot", "impute": "mean"}, "'x' is text, and impute mean is for numbers"),
    "a value without a place": (TEXT, {"encode": {"ordinal": ["a", "b"]}}, "the order of column 'x' lacks 'c'"),
    "dates as categories": (DAY, {"encode": "one_hot"}, "'x' holds dates"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_choice_that_its_column_cannot_have_is_refused(what: str) -> None:
    values, choice, said = MISFITS[what]
    with pytest.raises(BadData, match=said):
        resolved(pd.DataFrame({"x": values}), {"x": choice}, allow_missing=True)


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownColumn, match="'w'.*'x'"):
        resolved(pd.DataFrame({"x": [1]}), {"w": {"scale": "standard"}}, allow_missing=True)

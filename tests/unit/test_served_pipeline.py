"""The model alone is asked only where its preprocessing would have given it the very same numbers."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from xgboost import XGBRegressor

from registry.errors import BadRows
from registry.serving.features import Feature, Features
from registry.serving.inputs import aligned
from registry.serving.proof import served_answers
from registry.serving.served_pipeline import ServedPipeline
from registry.vocabulary import Task
from tasks.estimators.preprocessing import preprocessor, resolved
from tests.support.hostile import examples

NAMES = ["a", "b", "c", "d"]
IMPUTES = ["error", "mean", "median", "mode", "min", "max", "zero"]
TYPES = [
    *("float64", "float32", "float16", "longdouble", "Float32", "Float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "Int64", "bool"),
]
TRAINED = {"float64": "double", "float32": "float", "float16": "halffloat"}  # as Arrow names them; others as numpy


def numbers(n: int = 12, kind: str = "float64") -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(0, 9, (n, 4)).astype(kind), columns=NAMES)


def fitted(
    preprocess: dict[str, Any], given: pd.DataFrame, *, allow_missing: bool = False, model: Any = None
) -> ServedPipeline:
    chosen = resolved(given, preprocess, allow_missing=allow_missing)
    before = preprocessor(Task.REGRESSION, given, chosen, seed=0)
    pipeline = Pipeline([("preprocessing", before), ("model", model or LinearRegression())])
    types = {name: str(given[name].dtype) for name in given}
    kinds = {name: {**TRAINED, "str": "string"}.get(kind, kind) for name, kind in types.items()}
    columns = (
        Feature(name, kinds[name], used=choice["encode"] != "dropped", nullable=choice.get("impute") != "error")
        for name, choice in chosen.items()
    )
    return ServedPipeline(pipeline.fit(given, np.arange(len(given), dtype=float)), Features(columns))


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Any], bool, pd.DataFrame, pd.DataFrame]:
    """What to do with each column, whether the model takes gaps, the rows to fit on, and rows of any types in any order
    of columns, by rows or by columns in memory, next to each other or not.
    """
    imputed = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(IMPUTES)))
    types = draw(st.sampled_from(TYPES).map(lambda kind: [kind] * 4) | st.lists(st.sampled_from(TYPES), min_size=4))
    rows = numbers(draw(st.integers(1, 6))) * draw(st.sampled_from([0.1, 1, 10]))
    whole = [
        abs(rows[name].round()) if kind.startswith(("u", "b")) else rows[name].round()
        for name, kind in zip(NAMES, types, strict=False)
    ]
    rows = pd.DataFrame({
        name: (rows[name] if "loat" in kind or kind == "longdouble" else each).astype(kind)
        for name, kind, each in zip(NAMES, types, whole, strict=False)
    })  # fmt: skip
    if draw(st.booleans()) and len(set(types[:4])) == 1:
        rows = pd.DataFrame(np.ascontiguousarray(rows.to_numpy()), columns=NAMES, copy=False)
    rows = rows[draw(st.permutations(NAMES))].iloc[:: draw(st.sampled_from([1, 2, -1]))]
    preprocess = {name: {"impute": impute} for name, impute in imputed.items()}
    of = st.sampled_from(["float64", "float32", "float16", "int64", "int8", "uint8", "uint64"])
    trained = abs(numbers()).astype({name: draw(of) for name in NAMES})
    return preprocess, draw(st.booleans()), trained, rows


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_they_are_the_numbers_that_the_transformers_make() -> None:
    ways = {"table": 0, "array": 0}

    @examples(200)
    @given(asked())
    def check(case: tuple[dict[str, Any], bool, pd.DataFrame, pd.DataFrame]) -> None:
        preprocess, allow_missing, trained, rows = case
        ours = fitted(preprocess, trained, allow_missing=allow_missing)
        table = aligned(rows, ours.features)
        assert np.array_equal(table.to_numpy(float), rows[NAMES].to_numpy(float))
        X, made = ours.prepare(rows), ours.pipeline[0].transform(table)
        ways["array" if isinstance(X, np.ndarray) else "table"] += 1
        if isinstance(X, np.ndarray):
            assert np.array_equal(X, made)
            assert X.dtype == made.dtype
            assert ours.predict(X) == pytest.approx(ours.pipeline.predict(table), rel=1e-6)

    check()
    assert min(ways.values()) > 20, ways


def test_a_model_of_plain_numbers_is_asked_alone() -> None:
    assert isinstance(fitted({}, numbers()).prepare(numbers()), np.ndarray)
    assert isinstance(
        fitted({"b": {"impute": "zero"}}, numbers(), allow_missing=True).prepare([[1, 2, 3, 4]]), np.ndarray
    )


@pytest.mark.parametrize("scale", ["standard", "min_max", "max_abs", "robust"])
def test_what_is_scaled_goes_the_whole_way(scale: str) -> None:
    ours = fitted({"b": {"scale": scale}}, numbers())
    assert isinstance(ours.prepare(numbers()), pd.DataFrame)


def test_so_does_what_is_encoded() -> None:
    given = numbers()
    for each in (given.assign(b=pd.Series(["x", "y"] * 6, dtype="str")), given):
        ours = fitted({} if each is not given else {"b": {"encode": "one_hot"}}, each)
        assert isinstance(ours.prepare(each), pd.DataFrame)


def test_so_do_gaps_and_wider_numbers_and_infinity_is_refused() -> None:
    ours = fitted({}, numbers())
    assert isinstance(ours.prepare(numbers().astype("longdouble")), pd.DataFrame)  # which imputers make float64
    gap = numbers().assign(b=np.nan)
    assert isinstance(ours.prepare(gap), pd.DataFrame)
    assert np.isfinite(ours.predict(ours.prepare(gap))).all()
    with pytest.raises(BadRows, match="infinite"):
        ours.prepare(numbers().assign(b=np.inf))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_a_column_that_the_imputer_leaves_out_goes_the_whole_way() -> None:
    """It had values, but none among the rows that the model was fitted on."""
    given = numbers()
    ours = fitted({"b": {"impute": "mean"}}, given)
    pipeline = ours.pipeline.fit(given.assign(b=np.nan), np.arange(12.0))
    whole = ServedPipeline(pipeline, ours.features)
    assert isinstance(whole.prepare(given), pd.DataFrame)
    assert np.array_equal(whole.predict(whole.prepare(given)), pipeline.predict(given))


def test_a_dropped_column_is_not_asked_for() -> None:
    given = numbers().assign(b=np.nan)
    ours = fitted({}, given)
    assert np.array_equal(ours.prepare(given.drop(columns="b")), given[["a", "c", "d"]])


class Counting(LinearRegression):
    def predict(self, X: Any) -> Any:
        self.asked_ = [*getattr(self, "asked_", []), len(X)]
        return super().predict(X)


def test_the_proof_before_a_deploy_asks_rows_with_gaps_and_without_in_their_own_ways() -> None:
    """One gap would send all of the golden rows through the whole pipeline."""
    ours = fitted({}, numbers(), model=Counting())
    rows = numbers(5).to_numpy().tolist()
    rows[1][2] = rows[3][0] = None
    found = served_answers(ours, rows)
    assert ours.pipeline[-1].asked_ == [3, 2]
    assert found == pytest.approx(ours.pipeline.predict(aligned(rows, ours.features)).tolist(), rel=1e-9)


def test_another_pipeline_is_asked_as_a_whole() -> None:
    model = DummyRegressor().fit(numbers(), np.arange(12.0))
    ours = ServedPipeline(model, Features(Feature(name, "double", used=True, nullable=True) for name in NAMES))
    assert ours.predict(ours.prepare(numbers())).tolist() == [5.5] * 12


def test_the_callers_rows_are_copied_and_every_model_may_write_to_what_it_gets() -> None:
    given = numbers()
    X = fitted({}, given).prepare(given)
    assert not np.shares_memory(X, given.to_numpy())
    assert X.flags.writeable


@pytest.mark.parametrize("kind", [">f8", ">f4", ">i4"])
def test_numbers_of_another_machine_are_made_its_own(kind: str) -> None:
    """xgboost reads them as they lie."""
    given = numbers()
    ours = fitted({}, given, allow_missing=True, model=XGBRegressor(n_estimators=5))
    rows = given.round().astype(kind)
    assert np.array_equal(ours.predict(ours.prepare(rows)), ours.pipeline.predict(given.round()))


def test_an_imputer_for_which_a_number_is_a_gap_goes_the_whole_way() -> None:
    given = numbers()
    before = ColumnTransformer([("all", SimpleImputer(missing_values=-1), NAMES)])
    pipeline = Pipeline([("preprocessing", before), ("model", LinearRegression())]).fit(given, np.arange(12.0))
    ours = ServedPipeline(pipeline, fitted({}, given).features)
    assert isinstance(ours.prepare(given), pd.DataFrame)

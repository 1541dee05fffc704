"""Whatever rows and wishes come: a typed error in one line, or a recorded model that answers for every row."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from flows.train import train
from registry import queries
from registry.artifacts import load_pipeline
from registry.errors import AllCandidatesFailed, FrontrunnerError
from registry.settings import tracking_uri
from registry.vocabulary import Status
from tests.acceptance.test_bad_inputs import recorded

VALUES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "floats": lambda draw, n: draw.normal(size=n),
    "whole": lambda draw, n: draw.integers(-5, 6, n),
    "bytes": lambda draw, n: draw.integers(0, 256, n).astype(np.uint8),
    "nullable": lambda draw, n: pd.array(draw.integers(0, 9, n), dtype="Int64"),
    "half": lambda draw, n: draw.normal(size=n).astype(np.float16),
    "huge": lambda draw, n: draw.integers(2**53, 2**62, n),
    "infinite": lambda draw, n: np.where(draw.random(n) < 0.1, np.inf, 1.0),
    "beyond": lambda draw, n: draw.normal(size=n) * 1e300,
    "flags": lambda draw, n: draw.random(n) < 0.5,
    "colors": lambda draw, n: draw.choice(["red", "green", "", "été 💶"], n),
    "towns": lambda draw, n: [f"town {number}" for number in draw.integers(0, 30, n)],
    "ids": lambda draw, n: [f"id {number}" for number in range(n)],
    "numerals": lambda draw, n: draw.integers(0, 3, n).astype(str),
    "categories": lambda draw, n: pd.Categorical(draw.choice(["a", "b"], n), categories=["a", "b", "never"]),
    "dates": lambda draw, n: pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 1e6, n), "min"),
    "zoned": lambda draw, n: pd.date_range("2026-03-28", periods=n, freq="7h", tz="Europe/Zurich"),
    "decimals": lambda draw, n: [Decimal(int(number)) / 8 for number in draw.integers(0, 99, n)],
    "constant": lambda draw, n: np.full(n, 7),
    "nothing": lambda draw, n: [None] * n,
    "lists": lambda draw, n: [[1, 2]] * n,
    "spans": lambda draw, n: pd.to_timedelta(np.arange(n), "h"),
    "raw": lambda draw, n: [b"\xff"] * n,
}
ALGORITHMS = [["linear"], ["xgboost"], ["random_forest", "svm"], ["hist_gradient_boosting"]]
NAMES = ["a", "A", "x [m] <", "", " ", "self", "y", "index", "{z}", "'; --", "été", "c" * 300, "a_red", "d_year"]
CHOICES = [
    {},
    {"impute": "mean"},
    {"scale": "robust"},
    {"encode": "target"},
    {"encode": "ordinal"},
    {"impute": "error"},
]


@st.composite
def rows_and_wishes(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A number to learn from, up to four odd columns, and a target that two times of three can be learnt."""
    n = draw(st.sampled_from([60, 60, 25, 8, 4, 3, 0]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    columns = {"number": pd.Series(random.normal(size=n))}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        column = pd.Series(VALUES[draw(st.sampled_from(sorted(VALUES)))](random, n))
        columns[name] = column.where(random.random(n) >= draw(st.sampled_from([0, 0, 0.2])))
    task = draw(st.sampled_from(["regression", "classification"]))
    columns["good"] = pd.Series(np.arange(n) * 1.5 if task == "regression" else np.arange(n) % 2)
    wishes = {
        "task": task,
        "y_column_name": draw(st.sampled_from(["good", "good", list(columns)[1]])),
        "algorithms": draw(st.sampled_from(ALGORITHMS)),
        "test_size": draw(st.sampled_from([0.25, 0.5, 2, 3])),
        "test_sampling": draw(st.sampled_from([None, "random", "last"])),
        "preprocess": draw(
            st.sampled_from([{}, {draw(st.sampled_from(list(columns))): draw(st.sampled_from(CHOICES))}])
        ),
    }
    return pd.DataFrame(columns), wishes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the libraries say of odd rows
def test_a_typed_error_or_a_model_that_answers(prefect: str, mlflow_store: Path, workspace: Path) -> None:
    (workspace / "data").mkdir()
    client = MlflowClient(tracking_uri(), tracking_uri())
    outcomes = {"trained": 0, "refused": 0}

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(rows_and_wishes())
    def check(example: tuple[pd.DataFrame, dict[str, Any]]) -> None:
        rows, wishes = example
        rows.to_parquet(workspace / "data" / "rows.parquet")
        before, project = recorded(), f"p{sum(outcomes.values())}"
        refused = None
        try:
            train(project, relation_name="files:rows.parquet", **wishes)
        except FrontrunnerError as error:
            refused = error
        outcomes["refused" if refused else "trained"] += 1
        assert "\n" not in str(refused)
        if refused and not isinstance(refused, AllCandidatesFailed):
            assert recorded() == before
            return
        models = queries.models(project)
        assert {model.status for model in models} <= {Status.TRAINED, Status.FAILED}
        assert {client.get_run(model.mlflow_run_id).info.status for model in models} <= {"FINISHED", "FAILED"}
        features = rows.drop(columns=wishes["y_column_name"])
        for model in models:
            if model.status is Status.TRAINED:
                frozen = pd.read_parquet(queries.snapshot(model.snapshot_id).artifact.uri.removeprefix("file://"))
                answers = load_pipeline(model.artifact).predict(frozen[list(features)])
                assert len(answers) == len(rows)

    check()
    assert min(outcomes.values()) >= 10, outcomes

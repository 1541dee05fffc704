"""Whatever rows and wishes come: a typed error in one line, or a recorded model that answers for every row."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.train import train
from registry import queries
from registry.errors import AllCandidatesFailed, FrontrunnerError
from registry.serving.artifacts import load_pipeline
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


def rows_and_wishes(seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A number to learn from, up to three odd columns, and a target that two times of three can be learnt.

    All of it is drawn from the seed, evenly: hypothesis's own choices heap up at the ends of lists, and depend on what
    constants the code has that is imported.
    """
    draw = np.random.default_rng(seed)

    def one(values: list[Any]) -> Any:
        return values[draw.integers(len(values))]

    n = one([60, 60, 60, 60, 60, 25, 25, 25, 8, 4, 3, 0])
    columns = {"number": pd.Series(draw.normal(size=n))}
    for name in draw.permutation(NAMES)[: draw.integers(1, 4)]:
        column = pd.Series(VALUES[one(sorted(VALUES))](draw, n))
        columns[str(name)] = column.where(draw.random(n) >= one([0, 0, 0.2]))
    task = one(["regression", "classification"])
    columns["good"] = pd.Series(np.arange(n) * 1.5 if task == "regression" else np.arange(n) % 2)
    wishes = {
        "task": task,
        "y_column_name": one(["good", "good", list(columns)[1]]),
        "algorithms": one(ALGORITHMS),
        "test_size": one([0.25, 0.5, 2, 3]),
        "test_sampling": one([None, "random", "last"]),
        "preprocess": one([{}, {one(list(columns)): one(CHOICES)}]),
    }
    return pd.DataFrame(columns), wishes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the libraries say of odd rows
def test_a_typed_error_or_a_model_that_answers(prefect: str, mlflow_store: Path, workspace: Path) -> None:
    (workspace / "data").mkdir()
    client = MlflowClient(tracking_uri(), tracking_uri())
    outcomes = {"trained": 0, "refused": 0}
    for seed in range(40):
        rows, wishes = rows_and_wishes(seed)
        rows.to_parquet(workspace / "data" / "rows.parquet")
        before, project = recorded(), f"seed {seed}"
        refused = None
        try:
            train(project, relation_name="files:rows.parquet", **wishes)
        except FrontrunnerError as error:
            refused = error
        outcomes["refused" if refused else "trained"] += 1
        assert "\n" not in str(refused)
        if refused and not isinstance(refused, AllCandidatesFailed):
            assert recorded() == before, project
            continue
        models = queries.models(project)
        assert {model.status for model in models} <= {Status.TRAINED, Status.FAILED}, project
        runs = {client.get_run(model.mlflow_run_id).info.status for model in models}
        assert runs <= {"FINISHED", "FAILED"}, project
        features = rows.drop(columns=wishes["y_column_name"])
        for model in models:
            if model.status is Status.TRAINED:
                frozen = pd.read_parquet(queries.snapshot(model.snapshot_id).artifact.uri.removeprefix("file://"))
                answers = load_pipeline(model.artifact).predict(frozen[list(features)])
                assert len(answers) == len(rows), project
    assert min(outcomes.values()) >= 10, outcomes

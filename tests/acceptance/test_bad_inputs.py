"""What a person can give that is wrong, by number: one clear line and nothing recorded, or it works as it should."""

import logging
import os
import subprocess
import sys
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, func, select, text

from flows.deploy import best_score, deploy, most_recent, rollback
from flows.train import train
from registry import queries, settings
from registry.errors import FrontrunnerError, InvalidInput, NoCandidate, TaskMismatch, UnknownModel, UnknownValue
from registry.schema import Base
from registry.session import exists, transaction, upgrade
from tests.support.story import Story

pytestmark = pytest.mark.slow

ROOT = str(Path(__file__).parents[2])
N = 40
GOOD = pd.DataFrame({"x": np.arange(N) % 7 + 0.5, "z": np.arange(N) % 3, "y": np.arange(N) % 2})
RELATION = {"relation_name": "files:t.parquet", "y_column_name": "y"}
CLASSIFY = {"task": "classification", "algorithms": ["linear"], **RELATION}
REGRESS = {"task": "regression", "algorithms": ["linear"], **RELATION}


@pytest.fixture
def data(prefect: str, mlflow_store: Path, workspace: Path) -> Path:
    (workspace / "data").mkdir()
    GOOD.to_parquet(workspace / "data" / "t.parquet")
    return workspace / "data"


def with_y(values) -> pd.DataFrame:
    return GOOD.assign(y=values)


def with_x(values) -> pd.DataFrame:
    return GOOD.assign(x=values)


def recorded() -> dict[str, int]:
    """How many rows each table has, and how many experiments and runs MLflow."""
    client = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    tables = dict.fromkeys(Base.metadata.tables, 0)
    if exists():
        with transaction() as session:
            for name, table in Base.metadata.tables.items():
                tables[name] = session.scalar(select(func.count()).select_from(table))
    return tables | {"experiments": len(experiments), "runs": len(client.search_runs(experiments))}


# number and name: (rows of t.parquet, what differs from a good training, the error, what it says)
REFUSED_DATA = {
    "1 an unknown relation": (GOOD, {"relation_name": "files:u.parquet"}, "there are t.parquet"),
    "2 an unknown column": (GOOD, {"y_column_name": "w"}, "has no column 'w'; it has 'x', 'z', 'y'"),
    "3 an empty table": (GOOD.head(0), {}, "has 0 rows: at least 4"),
    "4 one row": (GOOD.head(1), {}, "has 1 rows: at least 4"),
    "5 no feature columns": (GOOD[["y"]], {}, "no column besides the target"),
    "6 a target of nulls": (with_y([None] * N), {}, f"{N} of {N} rows of files:t.parquet have no 'y'"),
    "7 a target with some nulls": (with_y([None, 0, 1, 1] * 10), {}, f"10 of {N} rows of files:t.parquet have no 'y'"),
    "8 a single class": (with_y(["a"] * N), {}, "a single class, 'a'"),
    "9 a class with one member": (with_y(["a", "b"] * 19 + ["a", "rare"]), {}, "class 'rare' has one row"),
    "10 fewer test rows than classes": (
        with_y(np.arange(N) % 10), {"test_size": 5}, "5 test rows cannot hold each of 10"
    ),
    "11 infinity": (with_x([np.inf] + [1.0] * (N - 1)), {}, "column 'x' .* infinite or beyond"),
    "11 beyond float32": (with_x([1e39] + [1.0] * (N - 1)), {}, "column 'x' .* infinite or beyond"),
    "12 gaps that are said to be an error": (
        with_x([None, 1.0] * 20), {"preprocess": {"x": {"impute": "error"}}}, "'x'.*20"
    ),
    "13 numeric strings as a regression target": (with_y([str(n) for n in range(N)]), REGRESS, "'y' .* is text"),
    "14 a float target for classification": (with_y(np.arange(N) / 2), {}, "fractional numbers"),
    "20 lists": (with_x([[1]] * N), {}, "column 'x' .* holds list"),
    "20 dicts": (with_x([{"a": 1}] * N), {}, "column 'x' .* holds struct"),
    "20 bytes": (with_x([b"a"] * N), {}, "column 'x' .* holds binary"),
    "20 spans of time": (with_x(pd.to_timedelta(np.arange(N), "h")), {}, "column 'x' .* holds duration"),
    "24 a text column with as many values as rows": (with_x([f"id {n}" for n in range(N)]), {}, "'x'"),
    "26 a constant test target": (
        with_y([1.0] * 30 + [2.0] * 10), REGRESS | {"test_sampling": "last"}, "R2 is undefined"
    ),
    "27 a test set of one row": (GOOD, {"test_size": 0.02, "test_sampling": "random"}, "leave 39 to fit and 1 to test"),
    "31 test_size 0": (GOOD, {"test_size": 0}, "test_size is a share"),
    "31 test_size 1.0": (GOOD, {"test_size": 1.0}, "test_size is a share"),
    "31 test_size -1": (GOOD, {"test_size": -1}, "test_size is a share"),
    "31 test_size 1.5": (GOOD, {"test_size": 1.5}, "test_size is a share"),
    "31 test_size NaN": (GOOD, {"test_size": float("nan")}, "test_size is a share"),
    "31 test_size as text": (GOOD, {"test_size": "0.2"}, "test_size is a share"),
    "32 test_size 1": (GOOD, {"test_size": 1}, "test_size is a share"),
    "33 an unknown task": (GOOD, {"task": "clustering"}, "choose one of regression, classification"),
    "33 an unknown algorithm": (
        GOOD, {"algorithms": ["forest"]}, "unknown classification algorithm 'forest': .*random_forest"
    ),
    "33 an unknown sampling": (GOOD, {"test_sampling": "first"}, "choose one of random, stratified, last"),
    "34 an unknown hyperparameter": (GOOD, {"hyperparams": {"linear": {"c": 1}}}, "linear has no hyperparameter 'c'"),
    "34 an unknown hyperparameter of xgboost": (
        GOOD,
        {"algorithms": ["xgboost"], "hyperparams": {"xgboost": {"depth": 1}}},
        "xgboost has no hyperparameter 'depth'",
    ),
    "35 a value of a wrong type": (GOOD, {"hyperparams": {"linear": {"C": "big"}}}, "The 'C' parameter"),
    "35 automatic_deploy as text": (GOOD, {"automatic_deploy": "false"}, "automatic_deploy is true or false"),
    "36 SQL in a relation name": (
        GOOD, {"relation_name": "files:t.parquet; DROP TABLE models"}, "there is no CSV or Parquet file"
    ),
    "38 a blank name": (GOOD, {"project_name": "  "}, "a name that is not blank"),
    "39 NUL in a name": (GOOD, {"project_name": "a\0b"}, "no database can store"),
    "41 a name that is too long": (GOOD, {"project_name": "n" * 201}, "at most 200 characters"),
    "an unknown column in preprocess": (GOOD, {"preprocess": {"w": {"scale": "standard"}}}, "has no column 'w'"),
    "a key in hyperparams and in search_params": (
        GOOD, {"hyperparams": {"linear": {"C": 1}}, "search": "grid", "search_params": {"linear": {"C": [1, 2]}}}, "'C'"
    ),
    "a file outside of DATA_ROOT": (GOOD, {"relation_name": "files:../t.parquet"}, "outside DATA_ROOT"),
    "an absolute file": (GOOD, {"relation_name": "files:/etc/t.parquet"}, "outside DATA_ROOT"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED_DATA)
def test_it_is_refused_in_one_line_and_nothing_is_recorded(data: Path, what: str) -> None:
    rows, changes, said = REFUSED_DATA[what]
    rows.to_parquet(data / "t.parquet")
    before = recorded()
    with pytest.raises(InvalidInput, match=said) as caught:
        train(**({"project_name": "p"} | CLASSIFY | changes))
    assert "\n" not in str(caught.value)
    assert recorded() == before


def test_labels_of_mixed_types(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_SHOP_URL", f"sqlite:///{data / 'shop.db'}")
    engine = create_engine(os.environ["SOURCE_SHOP_URL"])
    with engine.begin() as connection:  # a column without a type keeps each value as it is
        connection.execute(text("CREATE TABLE t (x REAL, y)"))
        connection.execute(text("INSERT INTO t VALUES (1, 1), (2, 'a')"))
    engine.dispose()
    before = recorded()
    with pytest.raises(InvalidInput, match="column 'y' holds values of several types"):
        train("p", **(CLASSIFY | {"relation_name": "shop:t"}))
    assert recorded() == before


def test_two_columns_of_one_name(data: Path) -> None:
    (data / "t.csv").write_text("x,x,y\n" + "1,2,0\n" * 20)
    before = recorded()
    with pytest.raises(InvalidInput, match="two columns named 'x'"):
        train("p", **(CLASSIFY | {"relation_name": "files:t.csv"}))
    assert recorded() == before


def test_a_link_out_of_the_data_root(data: Path) -> None:
    GOOD.to_parquet(data.parent / "secret.parquet")
    (data / "link.parquet").symlink_to(data.parent / "secret.parquet")
    with pytest.raises(InvalidInput, match="outside DATA_ROOT"):
        train("p", **(CLASSIFY | {"relation_name": "files:link.parquet"}))


def test_an_unknown_strategy(data: Path) -> None:
    train("p", **CLASSIFY)
    before = recorded()
    with pytest.raises(UnknownValue, match="choose one of best_score, most_recent, rollback, specific"):
        deploy("p", "newest")
    assert recorded() == before


def test_another_task_for_a_project(data: Path) -> None:
    train("p", **CLASSIFY)
    before = recorded()
    with pytest.raises(TaskMismatch, match="'p' is a classification project, not regression"):
        train("p", **REGRESS)
    assert recorded() == before


def test_half_a_surrogate_pair_in_a_name(workspace: Path) -> None:
    """A terminal's bytes that are no text; inside of Python, Prefect cannot send such a name either."""
    command = [Path(sys.executable).parent / "frontrunner", "train", b"a\xff", "--task", "regression"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no database can store" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_id_above_64_bits() -> None:
    upgrade()
    for model_id in (2**63, 2**70, -1):
        with pytest.raises(UnknownModel, match=f"there is no model {model_id}"):
            queries.model(model_id)


# number and name: (rows, what differs from a good training, what is warned of)
WORKING = {
    "12 gaps": (with_x([None, 1.0, 2.0, 3.0] * 10), {}, None),
    "16 text labels with xgboost": (with_y(["no", "yes"] * 20), {"algorithms": ["xgboost"]}, None),
    "16 labels 1 and 2 with xgboost": (with_y([1, 2] * 20), {"algorithms": ["xgboost"]}, None),
    "18 odd column names with xgboost": (
        GOOD.rename(columns={"x": "x [m] <", "z": "{z}\"'"}), {"algorithms": ["xgboost"]}, None
    ),
    "19 dates": (with_x(pd.date_range("2026-01-01", periods=N)), {}, None),
    "21 decimals": (with_x([Decimal(n) / 4 for n in range(N)]), {}, "holds decimals"),
    "21 whole numbers above 2^53": (with_x(np.arange(N) + 2**60), {}, r"above 2\^53"),
    "22 booleans": (with_x([True, False] * 20), {}, None),
    "22 a boolean target": (with_y([True, False] * 20), {}, None),
    "23 a column of nulls": (GOOD.assign(w=[None] * N), {}, "'w' .* has no value and is dropped"),
    "25 a constant": (GOOD.assign(w=7), {}, "'w' .* has one value"),
    "29 a feature equal to the target": (GOOD.assign(w=GOOD.y), {}, "'w' .* equals the target"),
    "37 SQL in a project name": (GOOD, {"project_name": "'; DROP TABLE projects; --"}, None),
    "42 emoji in a project name": (GOOD, {"project_name": "prix 💶 é"}, None),
    "43 a path as a project name": (GOOD, {"project_name": "../a:b/c"}, None),
}  # fmt: skip


@pytest.mark.parametrize("what", WORKING)
def test_it_works_and_what_is_odd_is_warned_of(data: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    rows, changes, warned = WORKING[what]
    rows.to_parquet(data / "t.parquet")
    asked = {"project_name": "p"} | CLASSIFY | changes
    with caplog.at_level(logging.WARNING, "frontrunner"):
        result = train(**asked)
    assert [row.status for row in result.leaderboard] == ["trained"]
    assert [project.project_name for project in queries.projects()] == [
        unicodedata.normalize("NFC", asked["project_name"])
    ]
    warnings = [record.getMessage() for record in caplog.records if record.name == "frontrunner"]
    if warned:
        assert any(pd.Series(warnings).str.contains(warned))
    else:
        assert warnings == []
    outside = {path.name for path in data.parent.iterdir()} - {"data", ".frontrunner", "mlruns"}
    assert outside == set(), "a name never reaches a path"


def test_ten_thousand_columns_in_bounded_memory(data: Path, prefect: str) -> None:
    draw = np.random.default_rng(0)
    wide = pd.DataFrame(draw.normal(size=(200, 10_000)), columns=[f"c{n}" for n in range(10_000)])
    wide.assign(y=wide["c0"] * 2 + draw.normal(size=200)).to_parquet(data / "t.parquet")
    code = """if True:
        import resource
        from flows.train import train
        import sklearn.linear_model, mlflow.sklearn, duckdb, pandas
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = train("wide", "regression", "files:t.parquet", "y", algorithms=["ridge"])
        assert result.leaderboard[0].status == "trained"
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": ROOT, "PREFECT_API_URL": prefect},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 1000, "megabytes, for rows of 16"


class TestMetricsAndDeploys:
    def test_a_score_that_is_no_number_never_deploys(self, data: Path) -> None:
        with_y(np.where(np.arange(N) % 2, 1e200, -1e200)).to_parquet(data / "t.parquet")
        before = recorded()
        with pytest.raises(FrontrunnerError, match="beyond 3.4e38|not a finite number"):
            train("p", **REGRESS)
        assert recorded()["deployments"] == before["deployments"]

    def test_a_negative_r2_may_be_the_first_with_a_warning(self, data: Path) -> None:
        with_y(np.random.default_rng(0).normal(size=N)).to_parquet(data / "t.parquet")
        result = train("p", **(REGRESS | {"algorithms": ["gradient_boosting_trees"]}))
        assert result.leaderboard[0].score < 0
        assert result.deployed
        assert "worse than predicting the mean" in result.reason

    def test_a_tie_keeps_the_live_model_and_other_rows_are_reported(self, data: Path) -> None:
        first = train("p", **CLASSIFY)
        assert "ties with" in train("p", algorithms=["linear"]).reason
        again = train("p", **CLASSIFY, seed=1, compare="recorded", min_improvement=1.0)
        assert again.live_model_id == first.live_model_id
        assert "different rows: snapshots 2 and 1" in again.reason

    def test_what_has_no_candidate_or_is_live_already_changes_nothing(self, data: Path) -> None:
        train("p", **(CLASSIFY | {"automatic_deploy": False}))
        with pytest.raises(NoCandidate, match="nothing deployed"):
            rollback("p")
        assert best_score("p").changed
        before = recorded()
        with pytest.raises(NoCandidate, match="only ever had one model live"):
            rollback("p")
        with pytest.raises(NoCandidate, match="of algorithm 'svm'"):
            most_recent("p", "svm")
        assert not most_recent("p").changed
        assert recorded() == before


def test_equal_times_or_a_clock_that_goes_back_have_no_effect() -> None:
    """Order is that of ids and seq: no strategy's statement reads a time."""
    from registry import strategies

    Story()
    narrowed = (strategies.best_score, strategies.most_recent, strategies.rollback)
    for statement in (strategies.live(1), strategies.live_at(1, 1), *(choose(1, "svm") for choose in narrowed)):
        where_and_order = str(statement.with_only_columns(func.count()).compile())
        assert "created_at" not in where_and_order
        assert "deployed_at" not in where_and_order

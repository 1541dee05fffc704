"""Scoring a relation with the live model: into files and tables, all of it or nothing, once."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from flows.predict import predict
from flows.train import train
from registry import Predictor, history
from registry.choices import DeployRequest
from registry.errors import BadData, BadRows, FrontrunnerError, InvalidInput, NothingDeployed, UnknownProject
from registry.vocabulary import Strategy
from tasks import predictions
from tasks.data import databases, files, outputs
from tasks.predictions import score_relation
from tests.support.story import Story

pytestmark = pytest.mark.slow
FEATURES = ["number", "color", "day"]


def stones(n: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame({
        "number": np.where(draw.random(n) < 0.1, np.nan, draw.normal(size=n)),
        "color": pd.Series(draw.choice(["red", "green", "it's \"blue\", yes\n"], n), dtype="str"),
        "day": pd.date_range("2026-01-01", periods=n).astype("datetime64[us]"),
        "note": [None] * (n // 2) + [f"note {number}" for number in range(n - n // 2)],  # no feature, and gaps first
        "kept": draw.random(n) < 0.5,
    })  # fmt: skip


@pytest.fixture
def data(prefect: str, mlflow_store: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project `stones` whose live model was trained on three of the columns; parts of 16 rows."""
    folder = workspace / "data"
    folder.mkdir()
    rows = stones()
    rows.to_parquet(folder / "stones.parquet")
    rows[FEATURES].assign(kind=np.where(rows.kept, "gem", "pebble")).to_parquet(folder / "training.parquet")
    train("stones", "classification", "files:training.parquet", "kind", algorithms=["random_forest", "knn"])
    monkeypatch.setattr(files, "PART_ROWS", 16)
    monkeypatch.setattr(databases, "READ_ROWS", 16)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the table `stones`, on each kind in turn."""
    url = f"sqlite:///{data / 'shop.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    monkeypatch.setenv("SOURCE_SHOP_URL", url)
    engine = create_engine(url)
    stones().to_sql("stones", engine, index=False)
    engine.dispose()
    return url


def score(relation_name: str, output: str, if_exists: str = "replace", key: str = "a key") -> predictions.PredictResult:
    return score_relation("stones", relation_name, output, if_exists, key)


def table(url: str, name: str = "scored") -> pd.DataFrame:
    engine = create_engine(url)
    try:
        return pd.read_sql_table(name, engine)
    finally:
        engine.dispose()


def check(scored: pd.DataFrame, rows: pd.DataFrame) -> None:
    predictor = Predictor("stones")
    assert scored["prediction"].tolist() == predictor.predict(rows).tolist()
    assert set(scored["model_id"]) == {predictor.model.id}
    assert len(set(scored["scored_at"])) == 1
    assert list(scored)[:5] == list(rows)
    assert scored["color"].tolist() == rows["color"].tolist()
    assert scored["note"].isna().tolist() == rows["note"].isna().tolist()
    assert scored["number"].to_numpy() == pytest.approx(rows["number"].to_numpy(), nan_ok=True, rel=1e-12)
    assert pd.to_datetime(scored["day"]).tolist() == rows["day"].tolist()
    assert scored["kept"].astype(bool).tolist() == rows["kept"].tolist()


class TestFiles:
    @pytest.mark.parametrize("name", ["scored.parquet", "deep/er/scored.csv"])
    def test_every_column_and_the_answers(self, data: Path, name: str) -> None:
        result = score("files:stones.parquet", f"files:{name}")
        assert (result.rows, result.project_name, result.output) == (60, "stones", f"files:{name}")
        read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
        check(read(data / name), stones())
        assert [path.name for path in (data / name).parent.iterdir() if path.name.startswith(".")] == []

    def test_from_csv_whose_first_rows_do_not_tell_the_types(self, data: Path) -> None:
        rows = stones().assign(number=[1.0] * 30 + [0.5] * 30)
        rows.to_csv(data / "stones.csv", index=False)
        score("files:stones.csv", "files:scored.parquet")
        check(pd.read_parquet(data / "scored.parquet"), rows)

    def test_again_replaces_and_the_live_model_of_the_moment_answers(self, data: Path) -> None:
        first = score("files:stones.parquet", "files:scored.parquet")
        history.deploy(DeployRequest("stones", Strategy.MOST_RECENT, "knn"), request_key="knn", deployed_by="a test")
        history.deploy(
            DeployRequest("stones", Strategy.MOST_RECENT, "random_forest"), request_key="rf", deployed_by="a test"
        )
        history.deploy(DeployRequest("stones", Strategy.ROLLBACK), request_key="back", deployed_by="a test")
        again = score("files:stones.parquet", "files:scored.parquet")
        assert {first.algorithm_name, again.algorithm_name} <= {"knn", "random_forest"}
        assert set(pd.read_parquet(data / "scored.parquet")["model_id"]) == {again.model_id}

    def test_no_rows(self, data: Path) -> None:
        stones().head(0).to_parquet(data / "none.parquet")
        assert score("files:none.parquet", "files:scored.parquet").rows == 0
        assert list(pd.read_parquet(data / "scored.parquet"))[-3:] == ["prediction", "model_id", "scored_at"]

    def test_a_bad_row_in_the_last_part_leaves_what_was_there(self, data: Path) -> None:
        score("files:stones.parquet", "files:scored.parquet")
        before = (data / "scored.parquet").read_bytes()
        rows = stones()
        rows.loc[59, "number"] = np.inf
        rows.to_parquet(data / "bad.parquet")
        with pytest.raises(BadRows, match="'number' has values that are infinite"):
            score("files:bad.parquet", "files:scored.parquet")
        assert (data / "scored.parquet").read_bytes() == before

    def test_an_output_may_be_its_own_relation(self, data: Path) -> None:
        score("files:stones.parquet", "files:stones.parquet")
        check(pd.read_parquet(data / "stones.parquet"), stones())

    def test_joint_targets(self, data: Path) -> None:
        train("body", "regression", "sklearn:linnerud", ["Weight", "Waist"], algorithms=["linear"])
        score_relation("body", "sklearn:linnerud", "files:body.parquet", "replace", "key")
        scored = pd.read_parquet(data / "body.parquet")
        answers = Predictor("body").predict(scored)
        assert np.array_equal(scored[["prediction_Weight", "prediction_Waist"]].to_numpy(), answers)


class TestTables:
    def test_from_a_table_to_a_table(self, shop: str) -> None:
        assert score("shop:stones", "shop:scored").rows == 60
        check(table(shop), stones())

    def test_replace_keeps_the_table_and_makes_another_where_the_columns_differ(self, shop: str) -> None:
        score("shop:stones", "shop:scored")
        engine = create_engine(shop)
        with engine.begin() as connection:
            connection.execute(text("CREATE VIEW answers AS SELECT prediction FROM scored"))
        score("shop:stones", "shop:scored", key="another")
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT count(*) FROM answers")) == 60
            connection.execute(text("DROP VIEW answers"))
            connection.execute(text("ALTER TABLE scored RENAME COLUMN note TO remark"))
        engine.dispose()
        score("shop:stones", "shop:scored")
        check(table(shop), stones())

    def test_append_adds_once_for_each_request(self, shop: str) -> None:
        for key in ("monday", "monday", "tuesday"):
            score("shop:stones", "shop:scored", "append", key)
        assert table(shop).groupby("request_key").size().to_dict() == {"monday": 60, "tuesday": 60}

    def test_append_to_other_columns_is_refused(self, shop: str) -> None:
        with pytest.raises(InvalidInput, match="stones has other columns"):
            score("shop:stones", "shop:stones", "append")
        assert len(table(shop, "stones")) == 60

    def test_a_failure_in_the_middle_of_the_writing_leaves_what_was_there(
        self, shop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        score("shop:stones", "shop:scored", key="before")
        parts = outputs.Scored.parts

        def torn(scored):
            yield next(parts(scored))
            yield next(parts(scored))
            raise OSError("the disk is gone")

        monkeypatch.setattr(outputs.Scored, "parts", torn)
        with pytest.raises(OSError, match="the disk is gone"):
            score("shop:stones", "shop:scored", key="after")
        assert set(table(shop)["request_key"]) == {"before"}
        assert len(table(shop)) == 60

    def test_names_are_quoted(self, shop: str) -> None:
        score("shop:stones", 'shop:od"d; DROP TABLE stones; --')
        check(table(shop, 'od"d; DROP TABLE stones; --'), stones())

    def test_a_view_is_refused(self, shop: str) -> None:
        engine = create_engine(shop)
        with engine.begin() as connection:
            connection.execute(text("CREATE VIEW seen AS SELECT * FROM stones"))
        engine.dispose()
        with pytest.raises(InvalidInput, match="seen is a view"):
            score("shop:stones", "shop:seen")

    def test_from_duckdb(self, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("SOURCE_LAKE_URL", f"duckdb:///{data / 'lake.db'}")
        with duckdb.connect(str(data / "lake.db")) as connection:
            connection.register("rows", stones())
            connection.execute("CREATE TABLE stones AS SELECT * FROM rows")
        score("lake:stones", "files:scored.parquet")
        check(pd.read_parquet(data / "scored.parquet"), stones())
        assert capfd.readouterr().out == ""
        with pytest.raises(InvalidInput, match="is read only"):
            score("lake:stones", "lake:scored")


REFUSED: dict[str, tuple[tuple[str, str, str], type[FrontrunnerError], str]] = {
    "an unknown relation": (("files:no.parquet", "files:a.csv", "replace"), BadData, "there are named.parquet"),
    "an unknown source": (("files:stones.parquet", "stock:a", "replace"), BadData, "there is no source 'stock'"),
    "no source": (("files:stones.parquet", "a.csv", "replace"), BadData, "is not SOURCE:NAME"),
    "outside": (("files:stones.parquet", "files:../a.csv", "replace"), BadData, "outside DATA_ROOT"),
    "another kind of file": (("files:stones.parquet", "files:a.txt", "replace"), InvalidInput, "not files:a.txt"),
    "a folder": (("files:stones.parquet", "files:folder.csv", "replace"), InvalidInput, "not files:folder.csv"),
    "append to a file": (("files:stones.parquet", "files:a.csv", "append"), InvalidInput, "append to a table"),
    "a toy set": (("files:stones.parquet", "sklearn:iris", "replace"), InvalidInput, "is read only"),
    "an unknown mode": (("files:stones.parquet", "files:a.csv", "upsert"), InvalidInput, "replace, append"),
    "a missing feature": (("sklearn:iris", "files:a.csv", "replace"), BadRows, "lack 'number', 'color', 'day'"),
    "a name that the scoring adds": (("files:named.parquet", "files:a.csv", "replace"), BadData, "'prediction'"),
}  # fmt: skip


def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(data: Path) -> None:
    (data / "folder.csv").mkdir()
    stones().assign(prediction=1).to_parquet(data / "named.parquet")
    before = sorted(data.rglob("*"))
    for what, (arguments, error, said) in REFUSED.items():
        with pytest.raises(error, match=said) as caught:
            score(*arguments)
        assert "\n" not in str(caught.value), what
        assert sorted(data.rglob("*")) == before, what


def test_without_a_live_model(story: Story) -> None:
    with pytest.raises(NothingDeployed):
        score_relation("churn", "sklearn:iris", "files:a.csv", "replace", "key")
    with pytest.raises(UnknownProject):
        score_relation("chrun", "sklearn:iris", "files:a.csv", "replace", "key")


def test_the_flow(data: Path, shop: str) -> None:
    result = predict("stones", "shop:stones", "shop:scored", if_exists="append")
    assert (result.rows, len(table(shop))) == (60, 60)
    predict("stones", "shop:stones", "shop:scored", if_exists="append")
    assert len(table(shop)) == 120

"""What rows, columns, tables and other writers can be like when a relation is scored."""

import datetime as dt
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, suppress
from decimal import Decimal
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import create_engine, text

from flows.train import train
from registry import session
from registry.errors import BadData, FrontrunnerError, InvalidInput
from tasks.data import databases, files, outputs, sources
from tasks.predictions import PredictResult, score_relation

pytestmark = pytest.mark.slow
WHOLE, HALVES = pa.array(range(60)), pa.array([number + 0.5 for number in range(60)])


def stones() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame({
        "number": draw.normal(size=60),
        "count": np.arange(60),
        "flag": draw.random(60) < 0.5,
        "code": draw.choice(["7", "x"], 60),
        "kind": draw.choice(["gem", "pebble"], 60),
    })  # fmt: skip


@pytest.fixture(scope="module")
def trained(prefect: str, made_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the project `stones`, made once."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(made_mlflow_store, folder / ".frontrunner")
    (folder / "data").mkdir()
    with chdir(folder):
        stones().to_csv("data/stones.csv", index=False)
        train("stones", "classification", "files:stones.csv", "kind", algorithms=["random_forest"])
        session.close()
    return folder


@pytest.fixture
def data(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This test's files, beside that project; parts of 16 rows."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(files, "PART_ROWS", 16)
    monkeypatch.setattr(databases, "READ_ROWS", 16)
    stones().to_csv(tmp_path / "stones.csv", index=False)
    yield tmp_path
    session.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, of each kind in turn."""
    url = f"sqlite:///{data / 'shop.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    (data / "shop.db").touch()
    monkeypatch.setenv("SOURCE_SHOP_URL", url)
    return url


def score(relation_name: str, output: str, if_exists: str = "replace", key: str = "key") -> PredictResult:
    return score_relation("stones", relation_name, output, if_exists, key)


def score_with(data: Path, more: pa.Array, output: str, if_exists: str = "replace", key: str = "key") -> None:
    """Scores 60 rows that have a column `more` beside the features."""
    table = pa.Table.from_pandas(stones(), preserve_index=False).append_column("more", more)
    parquet.write_table(table, data / "rows.parquet")
    score("files:rows.parquet", output, if_exists, key)


def rows(url: str, statement: str = "SELECT more FROM scored") -> list:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [row[0] for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


class TestTables:
    def test_replace_makes_another_table_where_a_columns_type_has_no_room(self, data: Path, shop: str) -> None:
        score_with(data, pa.nulls(60), "shop:scored")
        score_with(data, WHOLE, "shop:scored")
        assert rows(shop) == WHOLE.to_pylist()
        score_with(data, HALVES, "shop:scored")
        assert rows(shop) == HALVES.to_pylist(), "they were rounded"

    def test_append_refuses_what_it_would_round_and_takes_what_fits(self, data: Path, shop: str) -> None:
        score_with(data, WHOLE, "shop:scored", "append", "a")
        with pytest.raises(InvalidInput, match=r"more is BIGINT, not DOUBLE.*replace it"):
            score_with(data, HALVES, "shop:scored", "append", "b")
        assert rows(shop) == WHOLE.to_pylist()
        score_with(data, pa.nulls(60), "shop:scored", "append", "c")
        score_with(data, HALVES, "shop:halves", "append", "a")
        score_with(data, WHOLE, "shop:halves", "append", "b")
        assert rows(shop, "SELECT more FROM halves")[60:] == WHOLE.to_pylist()
        assert rows(shop)[60:] == [None] * 60

    @pytest.mark.parametrize(("if_exists", "keys"), [("replace", "ab"), ("append", "aa")])
    def test_of_two_writers_at_once_the_last_one_wins(
        self, data: Path, shop: str, monkeypatch: pytest.MonkeyPatch, if_exists: str, keys: str
    ) -> None:
        score_with(data, WHOLE, "shop:scored", if_exists, keys[0])
        both, parts = Barrier(2, timeout=1), outputs.Scored.parts

        def together(scored: outputs.Scored) -> Iterator[pa.Table]:
            with suppress(BrokenBarrierError):  # one waits for the other to commit: both are never here
                both.wait()
            yield from parts(scored)

        monkeypatch.setattr(outputs.Scored, "parts", together)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda key: score("files:rows.parquet", "shop:scored", if_exists, key), keys))
        assert len(rows(shop)) == 60
        assert len(set(rows(shop, "SELECT request_key FROM scored"))) == 1

    def test_a_reader_sees_the_old_rows_until_the_end(
        self, data: Path, shop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        score_with(data, WHOLE, "shop:scored")
        seen, parts = [], outputs.Scored.parts

        def watched(scored: outputs.Scored) -> Iterator[pa.Table]:
            for part in parts(scored):
                yield part
                seen.append(rows(shop, "SELECT DISTINCT request_key FROM scored"))

        monkeypatch.setattr(outputs.Scored, "parts", watched)
        score("files:rows.parquet", "shop:scored", key="new")
        assert len(seen) >= 4
        assert all(keys == ["key"] for keys in seen)
        assert rows(shop, "SELECT DISTINCT request_key FROM scored") == ["new"]

    def test_the_name_of_a_table_that_was_renamed_is_free(self, data: Path, shop: str) -> None:
        score_with(data, WHOLE, "shop:scored")
        rows(shop, "ALTER TABLE scored RENAME TO before")
        score_with(data, HALVES, "shop:scored")
        assert rows(shop) == HALVES.to_pylist()

    KINDS = {
        "a category": pa.array(["a", None] * 30).dictionary_encode(),
        "decimals": pa.array([Decimal("1.50"), None] * 30),
        "points in time": pa.array([1767243600 * 10**9, None] * 30, pa.timestamp("ns")),
        "days": pa.array([dt.date(2026, 1, 1), None] * 30),
        "hours": pa.array([dt.time(1, 2), None] * 30),
        "bytes": pa.array([b"a", None] * 30),
        "no sign": pa.array([1, None] * 30, pa.uint64()),
        "booleans": pa.array([True, None] * 30),
        "nothing": pa.nulls(60),
        "views": pa.array(["a", None] * 30, pa.string_view()),
    }

    def test_every_kind_of_value_survives(self, data: Path, shop: str) -> None:
        for what, values in self.KINDS.items():
            score_with(data, values, "shop:scored")
            found = sources.read("shop:scored")["more"].to_pylist()
            given = values.to_pylist()
            if shop.startswith("sqlite"):  # has no such types
                as_text = {dt.datetime: str, dt.date: str, dt.time: str, pd.Timestamp: str, Decimal: float}
                given = [as_text.get(type(value), lambda it: it)(value) for value in given]
                found = [value.removesuffix(".000000") if isinstance(value, str) else value for value in found]
            assert found == given, what

    def test_a_time_zone_is_not_lost(self, data: Path, shop: str) -> None:
        moment = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
        score_with(data, pa.array([moment] * 60, pa.timestamp("us", "Europe/Berlin")), "shop:scored")
        found = pd.to_datetime(pd.Series(sources.read("shop:scored")["more"].to_pylist()), utc=True)
        assert set(found) == {moment}

    REFUSED = {
        "lists": (pa.array([[1]] * 60), "hold the list<.*> values of column 'more'"),
        "beyond 64 bits": (pa.array([2**64 - 1] * 60, pa.uint64()), "18446744073709551615"),
    }

    def test_what_no_table_holds_is_refused_in_one_line(self, data: Path, shop: str) -> None:
        for values, said in self.REFUSED.values():
            with pytest.raises(BadData, match=said):
                score_with(data, values, "shop:scored")
        table = pa.Table.from_pandas(stones()).append_column("request_key", WHOLE)
        parquet.write_table(table, data / "rows.parquet")
        with pytest.raises(BadData, match="'request_key' already"):
            score("files:rows.parquet", "shop:scored")
        with pytest.raises(FrontrunnerError, match="has no table"):
            sources.read("shop:scored")

    def test_a_database_that_cannot_be_written_is_told_before_anything_is_read(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOURCE_SHOP_URL", "postgresql+psycopg://me:secret@127.0.0.1:1/db")
        with pytest.raises(BadData, match="shop:scored cannot be written") as caught:
            score("files:there is none.csv", "shop:scored")
        assert "secret" not in str(caught.value)

    def test_a_database_for_reading_alone(self, data: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOURCE_SHOP_URL", f"{postgres_url}&options=-c%20default_transaction_read_only%3Don")
        with pytest.raises(BadData, match=r"shop:scored cannot be written: .*read-only transaction"):
            score("files:stones.csv", "shop:scored")

    def test_identifiers_of_postgresql_are_carried(
        self, data: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOURCE_SHOP_URL", postgres_url)
        engine = create_engine(postgres_url)
        stones().to_sql("stones", engine, index=False)
        engine.dispose()
        rows(postgres_url, "ALTER TABLE stones ADD id uuid DEFAULT gen_random_uuid()")
        score("shop:stones", "shop:scored")
        ids = [rows(postgres_url, f"SELECT id FROM {name} ORDER BY 1") for name in ("scored", "stones")]
        assert ids[0] == ids[1]


class TestCsv:
    def test_the_rows_that_it_was_trained_on_keep_their_types(self, data: Path) -> None:
        score("files:stones.csv", "files:out.parquet")
        scored = pd.read_parquet(data / "out.parquet")
        pd.testing.assert_frame_equal(scored[list(stones())], stones(), check_dtype=True)

    def test_a_type_is_that_of_all_values_also_in_a_large_file(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "CSV_PART_BYTES", 400)
        late = stones().assign(
            gaps=[None] * 50 + ["1"] * 10,
            note=[None] * 50 + ["a\n\"b\", 'c'"] * 10,
            ids=["01"] * 30 + ["A1"] * 30,
            halves=["1"] * 30 + ["1.5"] * 30,
            days=["2026-01-01"] * 30 + ["2026-01-01 10:00:00"] * 30,
            code="7",  # text at training
        )
        late.to_csv(data / "late.csv", index=False)
        score("files:late.csv", "files:out.parquet")
        scored = parquet.read_table(data / "out.parquet")
        kinds = ["int64", "string", "string", "double", "timestamp[ms]", "string"]  # Parquet has no seconds
        names = ["gaps", "note", "ids", "halves", "days", "code"]
        assert [str(scored.schema.field(name).type) for name in names] == kinds
        assert scored["ids"].to_pylist() == late["ids"].tolist()
        assert scored["note"].to_pylist() == late["note"].astype(object).where(late["note"].notna(), None).tolist()
        assert scored["flag"].to_pylist() == late["flag"].tolist()

    @pytest.mark.parametrize("twice", ["number", "more"])
    def test_two_columns_of_one_name(self, data: Path, twice: str) -> None:
        head, *lines = (data / "stones.csv").read_text().splitlines()
        (data / "twice.csv").write_text("\n".join([f"{head},more,{twice}", *[f"{line},1,1" for line in lines]]))
        with pytest.raises(BadData, match=f"two columns named '{twice}'"):
            score("files:twice.csv", "files:out.csv")

    def test_what_it_cannot_hold_is_refused_in_one_line(self, data: Path) -> None:
        with pytest.raises(BadData, match=r"out\.csv cannot be written: Unsupported Type:list"):
            score_with(data, pa.array([[1]] * 60), "files:out.csv")
        assert not (data / "out.csv").exists()

    def test_a_name_that_no_file_can_have(self, data: Path) -> None:
        with pytest.raises(BadData, match="cannot be the name of a file"):
            score("files:stones.csv", f"files:{'long' * 100}.csv")

"""A relation name to rows: files below DATA_ROOT, scikit-learn's sets, tables and views of databases."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import duckdb
import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from registry.errors import BadData, UnknownRelation
from tasks.data import databases, sources
from tasks.data.outputs import writer
from tasks.data.sources import SKLEARN, read
from tests.support.story import Story

ROWS = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})


@pytest.mark.parametrize("name", SKLEARN)
def test_every_toy_set_that_scikit_learn_ships(name: str) -> None:
    assert len(read(f"sklearn:{name}")) >= 20


@pytest.fixture
def data(workspace: Path) -> Path:
    folder = workspace / "data"
    (folder / "deep").mkdir(parents=True)
    ROWS.to_csv(folder / "rows.csv", index=False)
    ROWS.to_parquet(folder / "deep" / "rows.parquet")
    return folder


def test_files_below_the_data_root(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read("files:rows.csv")["a"].to_pylist() == [1, 2, 3]
    assert read("files:deep/rows.parquet")["a"].to_pylist() == [1, 2, 3]
    monkeypatch.setenv("DATA_ROOT", str(data / "deep"))
    assert read("files:rows.parquet")["a"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "link.csv", "deep/../../secret.csv"])
def test_nothing_outside_of_it(data: Path, name: str) -> None:
    ROWS.to_csv(data.parent / "secret.csv", index=False)
    (data / "link.csv").symlink_to(data.parent / "secret.csv")
    with pytest.raises(UnknownRelation, match="is outside DATA_ROOT"):
        read(f"files:{name}")


@pytest.mark.parametrize("name", ["missing.csv", "deep", "rows.txt"])
def test_an_unknown_file_lists_what_there_is(data: Path, name: str) -> None:
    with pytest.raises(UnknownRelation, match=r"there are deep/rows.parquet, rows.csv"):
        read(f"files:{name}")


@pytest.mark.parametrize("name", ["nul\0.csv", "half\ud800.csv", "long" * 100 + ".csv"])
def test_a_name_that_no_file_can_have(data: Path, name: str) -> None:
    with pytest.raises(UnknownRelation, match="cannot be the name of a file"):
        read(f"files:{name}")


def test_a_driver_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_WAREHOUSE_URL", "mysql+pymysql://me@host/db")
    with pytest.raises(BadData, match="needs the package of its driver, pymysql"):
        read("warehouse:orders")


def test_a_file_that_is_broken(data: Path) -> None:
    (data / "broken.parquet").write_bytes(b"PAR1 it is not")
    with pytest.raises(BadData, match="files:broken.parquet cannot be read"):
        read("files:broken.parquet")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("digits", "is not SOURCE:NAME; sources are sklearn, files$"),
        ("data/stones.csv", "is not SOURCE:NAME; sources are sklearn, files; a file is files:PATH, relative to data"),
        ("sklearn:mnist", "scikit-learn has no data set 'mnist'; it has breast_cancer, diabetes"),
        ("lake:orders", "there is no source 'lake'.*SOURCE_LAKE_URL"),
        ("sklearn:", "is not SOURCE:NAME"),
        (":digits", "there is no source ''"),
    ],
)
def test_an_unknown_relation_says_what_there_is(name: str, reason: str) -> None:
    with pytest.raises(UnknownRelation, match=reason):
        read(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def warehouse(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with a table, a view and an odd name; the source `warehouse` names it."""
    url = f"sqlite:///{workspace / 'w.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        ROWS.to_sql("orders", connection, index=False)
        ROWS.to_sql('odd "name; --', connection, index=False)
        connection.execute(text("CREATE VIEW recent AS SELECT * FROM orders WHERE a > 1"))
        if request.param == "postgresql":
            connection.execute(text("CREATE MATERIALIZED VIEW kept AS SELECT * FROM orders"))
    engine.dispose()
    monkeypatch.setenv("SOURCE_WAREHOUSE_URL", url)
    return request.param


def test_tables_and_views_of_a_database(warehouse: str) -> None:
    assert read("warehouse:orders")["a"].to_pylist() == [1, 2, 3]
    assert read("warehouse:recent")["a"].to_pylist() == [2, 3]
    assert read('warehouse:odd "name; --')["a"].to_pylist() == [1, 2, 3]
    schema = "main" if warehouse == "sqlite" else "public"
    assert read(f"warehouse:{schema}.orders")["b"].to_pylist()[:2] == ["x", "y"]
    if warehouse == "postgresql":
        assert len(read("warehouse:public.kept")) == 3


def test_a_columns_type_is_that_of_all_its_values(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "READ_ROWS", 2)
    engine = create_engine(os.environ["SOURCE_WAREHOUSE_URL"])
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE late (a INTEGER, b TEXT, c FLOAT, d BOOLEAN)"))
        connection.execute(text("INSERT INTO late VALUES (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL)"))
        connection.execute(
            text("INSERT INTO late VALUES (7, 'x', 1.5, NULL), (NULL, NULL, 2, NULL), (8, 'y', 3, NULL)")
        )
    engine.dispose()
    table = read("warehouse:late")
    assert [str(field.type) for field in table.schema] == ["int64", "string", "double", "null"]
    assert table["a"].to_pylist() == [None, None, 7, None, 8]


def test_the_rows_are_those_of_one_moment(warehouse: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has the same number, which another connection raises in all rows while they are read, in parts."""
    monkeypatch.setattr(databases, "READ_ROWS", 100)
    engine, stop = create_engine(os.environ["SOURCE_WAREHOUSE_URL"]), Event()
    with engine.begin() as connection:
        if warehouse == "sqlite":  # else a writer waits for the reader
            connection.execute(text("PRAGMA journal_mode = wal"))
        pd.DataFrame({"moment": [0] * 20_000}).to_sql("ticks", connection, index=False)

    def tick() -> None:
        while not stop.is_set():
            with engine.begin() as connection:
                connection.execute(text("UPDATE ticks SET moment = moment + 1"))

    with ThreadPoolExecutor(1) as pool:
        ticking = pool.submit(tick)
        try:
            seen = [set(read("warehouse:ticks")["moment"].to_pylist()) for _ in range(5)]
        finally:
            stop.set()
        ticking.result()
    engine.dispose()
    assert all(len(moments) == 1 for moments in seen)
    assert len(set.union(*seen)) > 1, "nothing was written meanwhile"


def test_an_empty_table_has_its_columns(warehouse: str) -> None:
    engine = create_engine(os.environ["SOURCE_WAREHOUSE_URL"])
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE vacant (a INTEGER, b TEXT)"))
    engine.dispose()
    assert (read("warehouse:vacant").num_rows, read("warehouse:vacant").column_names) == (0, ["a", "b"])


def test_values_of_two_types_in_a_column_name_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_WAREHOUSE_URL", f"sqlite:///{workspace / 'w.db'}")
    engine = create_engine(f"sqlite:///{workspace / 'w.db'}")
    with engine.begin() as connection:  # a column without a type keeps each value as it is
        connection.execute(text("CREATE TABLE odd (a)"))
        connection.execute(text("INSERT INTO odd VALUES (1), ('one')"))
    engine.dispose()
    with pytest.raises(BadData, match="column 'a' holds values of several types"):
        read("warehouse:odd")


def test_tables_and_views_of_a_duckdb_file(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_LAKE_URL", f"duckdb:///{workspace / 'lake.db'}")
    with duckdb.connect(str(workspace / "lake.db")) as connection:
        connection.register("rows", ROWS)
        connection.execute('CREATE TABLE "odd ""name; --" AS SELECT * FROM rows')
        connection.execute("CREATE SCHEMA deep")
        connection.execute('CREATE VIEW deep.recent AS SELECT * FROM main."odd ""name; --" WHERE a > 1')
    assert read('lake:odd "name; --')["a"].to_pylist() == [1, 2, 3]
    assert read("lake:deep.recent")["b"].to_pylist() == ["y", None]
    with pytest.raises(UnknownRelation, match="lake has no table or view 'orders'; it has odd"):
        read("lake:orders")


def test_a_csv_file_has_the_types_of_its_values(data: Path) -> None:
    lines = [
        "n,when,flag,word,gap",
        *[f'1,2026-01-0{day},true,"a\nb",' for day in range(1, 9)],
        "x1,2026-02-01,,NA,3",
    ]
    (data / "typed.csv").write_text("\n".join(lines))
    kinds = {field.name: str(field.type) for field in read("files:typed.csv").schema}
    assert kinds == {"n": "string", "when": "date32[day]", "flag": "bool", "word": "string", "gap": "int64"}


def test_a_frames_index_is_no_column(data: Path) -> None:
    ROWS.set_index("a").to_parquet(data / "indexed.parquet")
    assert read("files:indexed.parquet").column_names == ["b"]


@pytest.mark.parametrize("name", ["missing", "orders; DROP TABLE orders", "(SELECT 1)", "nowhere.orders"])
def test_an_unknown_table_is_one_clear_line(warehouse: str, name: str) -> None:
    with pytest.raises(BadData, match=r"has no table or view|cannot be read") as caught:
        read(f"warehouse:{name}")
    assert "\n" not in str(caught.value)
    assert len(read("warehouse:orders")) == 3


def test_a_database_file_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOURCE_WAREHOUSE_URL", f"sqlite:///{tmp_path / 'typo.db'}")
    with pytest.raises(BadData, match="database file of source 'warehouse' does not exist"):
        read("warehouse:orders")
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize("password", ["secret", "pass@secret"])
def test_a_database_that_is_away_does_not_tell_the_password(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("SOURCE_WAREHOUSE_URL", f"postgresql+psycopg://me:{password}@127.0.0.1:1/db")
    with pytest.raises(BadData, match=r"cannot be read|write one in a name or password as %40") as caught:
        read("warehouse:orders")
    assert "secret" not in str(caught.value)


class TestWhatARelationMayBe:
    """Whoever starts a flow names relations and outputs; neither may lead anywhere else."""

    @pytest.mark.parametrize(
        "name",
        [
            "pg_catalog.pg_authid",
            "PG_CATALOG.pg_shadow",
            "information_schema.tables",
            "pg_toast.x",
            "mysql.user",
            "x.sys.y",
        ],
    )
    def test_no_schema_of_the_databases_own(self, warehouse: str, name: str) -> None:
        for use in (read, lambda relation: writer(relation, "replace", "key")):
            with pytest.raises(UnknownRelation, match="is in the system schema"):
                use(f"warehouse:{name}")

    @pytest.mark.parametrize("name", ["sqlite_master", "main.sqlite_schema", "pg_authid", "pg_class"])
    def test_no_table_of_the_databases_own(self, warehouse: str, name: str) -> None:
        with pytest.raises(UnknownRelation, match="has no table or view"):
            read(f"warehouse:{name}")

    def test_a_name_that_the_database_has_too_is_that_of_the_table(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(postgres_url, "CREATE TABLE pg_class AS SELECT 7 AS a")
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", postgres_url)
        assert read("warehouse:pg_class").to_pylist() == [{"a": 7}]

    @pytest.mark.parametrize("name", ["deployments", "overview", "orders", "{schema}.models"])
    def test_nothing_of_a_registry(self, registry_url: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        story = Story()
        story.trained_and_promoted(0.5)
        run(registry_url, "CREATE TABLE orders (a INTEGER)")
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", registry_url)
        name = name.format(schema="main" if registry_url.startswith("sqlite") else "public")
        for use in (read, lambda relation: writer(relation, "replace", "key")):
            with pytest.raises(UnknownRelation, match="SOURCE_WAREHOUSE_URL names a registry of Frontrunner's"):
                use(f"warehouse:{name}")
        assert len(story.history) == 1

    def test_a_schema_beside_the_registry_is_fine(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REGISTRY_URL", postgres_url)
        Story()
        run(postgres_url, "CREATE SCHEMA sales", "CREATE TABLE sales.orders AS SELECT 1 AS a")
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", postgres_url)
        assert read("warehouse:sales.orders").num_rows == 1

    def test_a_view_that_would_write(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        run(
            postgres_url,
            "CREATE TABLE seen (a INTEGER)",
            "CREATE FUNCTION look() RETURNS integer LANGUAGE sql AS 'INSERT INTO seen VALUES (1) RETURNING a'",
            "CREATE VIEW watched AS SELECT look() AS a",
        )
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", postgres_url)
        with pytest.raises(BadData, match=r"cannot execute INSERT in a read-only transaction; reading it would write"):
            read("warehouse:watched")
        assert read("warehouse:seen").num_rows == 0

    def test_a_connection_that_reads_cannot_write(self, warehouse: str) -> None:
        url = os.environ["SOURCE_WAREHOUSE_URL"]
        with (
            pytest.raises(BadData, match="reading it would write"),
            databases.database("warehouse", url, "orders") as engine,
            engine.begin() as connection,
        ):
            connection.execute(text("DELETE FROM orders"))
        assert read("warehouse:orders").num_rows == 3

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells where an open file is")
    def test_a_link_that_is_changed_after_it_was_judged(self, data: Path) -> None:
        ROWS.to_csv(data.parent / "secret.csv", index=False)
        judged = sources.file_path("rows.csv")
        judged.unlink()
        judged.symlink_to(data.parent / "secret.csv")
        with pytest.raises(UnknownRelation, match="outside DATA_ROOT by now"), sources.open_inside_root(judged):
            pass
        judged = sources.file_path("deep")
        with sources.open_inside_root(judged) as folder:
            judged.rename(data / "moved")
            judged.symlink_to(data.parent)
            assert sorted(path.name for path in folder.iterdir()) == ["rows.parquet"]

    def test_an_output_is_below_the_data_root(self, data: Path) -> None:
        (data / "out").symlink_to(data.parent)
        for name in ("../scored.csv", "/tmp/scored.csv", "out/scored.csv"):
            with pytest.raises(UnknownRelation, match="is outside DATA_ROOT"):
                writer(f"files:{name}", "replace", "key")


def run(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()

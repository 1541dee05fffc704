"""A relation name to rows: files below DATA_ROOT, scikit-learn's sets, tables and views of databases."""

from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from registry.errors import BadData, UnknownRelation
from tasks.sources import SKLEARN, read

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
    assert list(read("files:rows.csv")["a"]) == [1, 2, 3]
    assert list(read("files:deep/rows.parquet")["a"]) == [1, 2, 3]
    monkeypatch.setenv("DATA_ROOT", str(data / "deep"))
    assert list(read("files:rows.parquet")["a"]) == [1, 2, 3]


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
        ("digits", "is not SOURCE:NAME; sources are sklearn, files"),
        ("sklearn:mnist", "scikit-learn ships no set 'mnist'; it has breast_cancer, diabetes"),
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
    assert read("warehouse:orders")["a"].tolist() == [1, 2, 3]
    assert read("warehouse:recent")["a"].tolist() == [2, 3]
    assert read('warehouse:odd "name; --')["a"].tolist() == [1, 2, 3]
    schema = "main" if warehouse == "sqlite" else "public"
    assert read(f"warehouse:{schema}.orders")["b"].tolist()[:2] == ["x", "y"]
    if warehouse == "postgresql":
        assert len(read("warehouse:public.kept")) == 3


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
    with pytest.raises(BadData, match=r"cannot be read|is written %40") as caught:
        read("warehouse:orders")
    assert "secret" not in str(caught.value)

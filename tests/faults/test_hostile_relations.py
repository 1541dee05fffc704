"""Names of relations and of outputs that want to be SQL: no such relation, or the relation of that very name.

A canary stands where no name leads: in a schema that the source's role may not use, and in the registry's database.
"""

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet
from sqlalchemy import create_engine, text

from registry import queries, session
from tasks.data import sources
from tasks.data.outputs import Scored, writer
from tests.support.hostile import TEXT, examples, refused_or
from tests.support.story import Story

CANARY = "k4n4ry"
PIECES = [
    "orders",
    "canary",
    "secret",
    "public",
    "main",
    "temp",
    "pg_catalog",
    "information_schema",
    "projects",
    ".",
    '"',
    "'",
    "`",
    "]",
    ";",
    " ",
    "--",
    "/*",
    "(SELECT note FROM secret.canary)",
    " UNION SELECT note FROM secret.canary",
    "; DROP TABLE orders",
    "'; ATTACH 'registry.db' AS r; --",
    "read_csv('../canary.csv')",
    "'registry.db'",
    "%s",
    ":x",
    "\0",
]
NAMES = st.lists(st.sampled_from(PIECES) | TEXT, min_size=1, max_size=5).map("".join)
STATEMENTS = (
    "CREATE SCHEMA secret",
    "CREATE TABLE secret.canary (note TEXT)",
    f"INSERT INTO secret.canary VALUES ('{CANARY}')",
    "CREATE ROLE reader LOGIN",
    "GRANT ALL ON SCHEMA public TO reader",
)
ORDERS = ("CREATE TABLE orders (n INTEGER)", "INSERT INTO orders VALUES (1), (2)")


@pytest.fixture(params=["sqlite", "postgresql", "duckdb"])
def canary(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What it is now; the source `warehouse` is a database beside the registry's."""
    monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{workspace / 'registry.db'}")
    Story(CANARY).trained_and_promoted(0.5)
    session.close()
    (workspace / "canary.csv").write_text(f"note\n{CANARY}\n")

    def beside() -> list[str]:
        return [queries.projects()[0].project_name, (workspace / "canary.csv").read_text()]

    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        engine = create_engine(url)
        with engine.begin() as connection:
            reader = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"))
            for statement in [*STATEMENTS[: 3 if reader else 4], STATEMENTS[4], *ORDERS]:
                connection.execute(text(statement))
            connection.execute(text("ALTER TABLE orders OWNER TO reader"))
        engine.dispose()
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", url.replace("://frontrunner@", "://reader@"))

        def now() -> list[str]:
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                scans = connection.scalar(
                    text("SELECT seq_scan FROM pg_stat_all_tables WHERE schemaname = 'secret' AND relname = 'canary'")
                )
                tables = connection.scalars(text("SELECT note FROM secret.canary")).all()
            engine.dispose()
            assert scans <= 1, "it was read by somebody else than this function"
            return [*tables, *beside()]

        return now
    if request.param == "sqlite":
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", f"sqlite:///{workspace / 'w.db'}")
        engine = create_engine(f"sqlite:///{workspace / 'w.db'}")
        with engine.begin() as connection:
            for statement in ORDERS:
                connection.execute(text(statement))
        engine.dispose()
    else:
        monkeypatch.setenv("SOURCE_WAREHOUSE_URL", f"duckdb:///{workspace / 'lake.db'}")
        with duckdb.connect(str(workspace / "lake.db")) as connection:
            for statement in ORDERS:
                connection.execute(statement)
    return beside


def test_no_name_reads_anything_else(canary: Callable[[], list[str]]) -> None:
    before, seen = canary(), []

    @examples(80)
    @given(NAMES)
    @example("orders")
    @example("secret.canary")
    def check(name: str) -> None:
        for read in (lambda name: [sources.read(name)], lambda name: list(sources.parts(name, {}))):
            tables = refused_or(lambda read=read: read(f"warehouse:{name}")) or []
            seen.extend(str(table.slice(0, 1000).to_pydict()) for table in tables)
        refused_or(lambda: sources.read(name))

    check()
    assert "{'n': [1, 2]}" in seen
    assert CANARY not in "".join(seen)
    assert canary() == before
    assert sources.read("warehouse:orders")["n"].to_pylist() == [1, 2]


def test_no_output_writes_anything_else(canary: Callable[[], list[str]], tmp_path: Path) -> None:
    before, files = canary(), set(tmp_path.iterdir())
    rows = pa.table({"prediction": [1.0]})
    parquet.write_table(rows, tmp_path / "part")
    written = []

    @examples(40)
    @given(NAMES.filter(lambda name: not name.endswith("orders")))
    @example("public.scored" if "postgresql" in os.environ["SOURCE_WAREHOUSE_URL"] else "scored")
    @example("secret.canary")
    def check(name: str) -> None:
        def write() -> bool:
            writer(f"warehouse:{name}", "replace", "key")(Scored([tmp_path / "part"], rows.schema, 1))
            return True

        if refused_or(write):
            written.append(name)

    check()
    assert written or os.environ["SOURCE_WAREHOUSE_URL"].startswith("duckdb")
    assert canary() == before
    assert sources.read("warehouse:orders")["n"].to_pylist() == [1, 2]
    assert {path.name for path in set(tmp_path.iterdir()) - files} <= {"part", "w.db-journal"}

"""How the registry's database comes to be, and what is said when it is not as it should be."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

import registry
from registry import queries, session
from registry.errors import NoRegistry, RegistryOutdated, RegistryUnavailable
from registry.schema import REVISION, VERSION_TABLE, Base
from tests.support.story import Story


def test_the_default_database_is_made_by_who_writes_first(workspace: Path) -> None:
    assert queries.projects() == []
    assert session.version() is None
    with pytest.raises(NoRegistry, match="there is no registry at .*/.frontrunner/registry.db yet"):
        queries.history("churn")
    assert not (workspace / ".frontrunner").exists()
    with session.transaction(write=True):
        pass
    assert (workspace / ".frontrunner" / "registry.db").is_file()
    assert session.version() == REVISION


def test_an_empty_database_makes_itself_and_stays(registry_url: str) -> None:
    with session.transaction(write=True):
        pass
    session.close()
    assert session.upgrade() == (REVISION, REVISION)


def test_migrations_make_the_schema(registry_url: str, tmp_path: Path) -> None:
    """Tables and columns by alembic's own comparison; constraints and indexes as the database itself tells them."""
    session.upgrade()
    engine = create_engine(registry_url)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": lambda _o, name, *_: name != VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
        migrated = _constraints(connection)
        for statement in ("DROP VIEW overview", "DROP VIEW trained_models", "DROP VIEW deployed_models"):
            connection.execute(text(statement))
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        assert _constraints(connection) == migrated
        connection.rollback()
    engine.dispose()


def _constraints(connection):
    inspector = inspect(connection)
    if connection.dialect.name == "postgresql":
        keys = (
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        )
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        told = [*connection.execute(text(keys)), *connection.execute(text(indexes))]
        return sorted(tuple(row) for row in told if VERSION_TABLE not in row[0])
    indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    told = {name: " ".join(sql.replace('"', "").split()) for name, sql in connection.execute(text(indexes))}
    return told, {
        table: (
            sorted((check["name"], check["sqltext"]) for check in inspector.get_check_constraints(table)),
            sorted((unique["name"], unique["column_names"]) for unique in inspector.get_unique_constraints(table)),
            sorted(
                (key["name"], key["constrained_columns"], key["referred_table"], key["referred_columns"])
                for key in inspector.get_foreign_keys(table)
            ),
        )
        for table in Base.metadata.tables
    }


def test_the_newest_migration_is_the_version_that_is_asked_for() -> None:
    scripts = ScriptDirectory(str(Path(registry.__file__).parent / "migrations"))
    assert scripts.get_current_head() == REVISION


def test_migrations_import_nothing_from_the_application() -> None:
    for file in (Path(registry.__file__).parent / "migrations" / "versions").glob("r*.py"):
        source = file.read_text()
        assert not [
            word for word in ("registry", "tasks", "flows") if f"import {word}" in source or f"from {word}" in source
        ]


@pytest.mark.parametrize(("version", "mend"), [("0000", "run `frontrunner upgrade`"), ("9999", "upgrade Frontrunner")])
def test_another_version_is_told_what_to_do(registry_url: str, version: str, mend: str) -> None:
    session.upgrade()
    _execute(registry_url, f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")
    with pytest.raises(RegistryOutdated, match=mend):
        queries.projects()


@pytest.mark.parametrize(
    ("version", "said"), [("0000", "is unknown, so it cannot be upgraded"), ("9999", "upgrade Frontrunner itself")]
)
def test_a_version_that_cannot_be_upgraded_is_said(registry_url: str, version: str, said: str) -> None:
    session.upgrade()
    _execute(registry_url, f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")
    with pytest.raises(RegistryOutdated, match=said):
        session.upgrade()


def test_a_database_of_somebody_elses_is_left_alone(registry_url: str) -> None:
    _execute(registry_url, "CREATE TABLE projects (title TEXT)")
    with pytest.raises(RegistryUnavailable, match="has other tables named projects"):
        queries.projects()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "REGISTRY_URL is not a database URL"),
        ("mysql://me@host/db", "must be a SQLite file or a PostgreSQL database"),
        ("sqlite://", "must be a SQLite file"),
        ("sqlite:////proc/nowhere/registry.db", "cannot be used"),
        (
            "postgresql+psycopg://me:secret@127.0.0.1:1/db",
            r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db cannot be used",
        ),
        ("postgresql://127.0.0.1:1/db?user=me&password=secret", "postgresql\\+psycopg://127.0.0.1:1/db cannot be used"),
        ("postgresql://me:pass@secret@127.0.0.1:1/db", "is written %40"),
        ("postgresql://me@127.0.0.1:1/db?connect_timeout=soon", "connect_timeout"),
    ],
)
def test_a_registry_that_cannot_be_used_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("REGISTRY_URL", url)
    with pytest.raises(RegistryUnavailable, match=said) as caught, session.transaction(write=True):
        pass
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_writer_does_not_wait_for_ever(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_URL", postgres_url)
    monkeypatch.setattr(session, "BUSY_SECONDS", 1)
    Story()
    engine = create_engine(postgres_url)
    with engine.connect() as other, other.begin():
        other.execute(text("UPDATE projects SET revision = revision"))
        with pytest.raises(RegistryUnavailable, match="lock timeout"), session.transaction(write=True) as mine:
            mine.execute(text("UPDATE projects SET revision = revision"))
    engine.dispose()


def test_importing_the_registry_is_light() -> None:
    code = (
        "import sys, registry.queries, registry.history, registry.serving.artifacts\n"
        "heavy = {'prefect', 'sklearn', 'mlflow', 'pandas', 'xgboost', 'skops', 'alembic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _execute(url: str, statement: str) -> None:
    session.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()

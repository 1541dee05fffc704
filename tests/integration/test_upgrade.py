"""A registry of an earlier version, full of rows, is brought to this one, and used."""

import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

import registry
from registry import lifecycle, queries, session
from registry.errors import RegistryConflict, RegistryOutdated
from registry.schema import REVISION
from tests.support.golden import ROWS, golden_registry
from tests.support.story import Story

VIEWS = ("overview", "trained_models", "deployed_models")


@pytest.fixture
def golden(registry_url: str) -> str:
    golden_registry(registry_url)
    return registry_url


def everything(url: str) -> dict[str, object]:
    """The rows of every table and view, without the columns that are new."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = {table: ", ".join(rows[0]) for table, rows in ROWS.items()} | dict.fromkeys(VIEWS, "*")
        found = {
            table: sorted(map(str, connection.execute(text(f"SELECT {columns} FROM {table}"))))
            for table, columns in names.items()
        }
    engine.dispose()
    return found


def guards(url: str) -> list[str]:
    """Triggers, views and indexes, as the database has them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            told = connection.execute(text("SELECT type, name, sql FROM sqlite_master WHERE type <> 'table'"))
            found = sorted(
                f"{kind} {name} {' '.join((sql or '').replace(chr(34), '').split())}" for kind, name, sql in told
            )
        else:
            triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
            indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
            views = "SELECT viewname || definition FROM pg_views WHERE schemaname = 'public'"
            found = sorted(connection.scalars(text(f"{triggers} UNION ALL {indexes} UNION ALL {views}")))
    engine.dispose()
    return found


def test_every_row_trigger_view_and_index_is_as_it_was(golden: str) -> None:
    rows, guarded = everything(golden), guards(golden)
    assert session.upgrade() == ("0001", REVISION)
    assert everything(golden) == rows
    [added] = set(guards(golden)) - set(guarded)
    assert "ix_deployments_of_algorithm" in added
    assert set(guarded) <= set(guards(golden))
    assert len([name for name in guarded if "_no_" in name]) >= 6


def test_it_is_used_afterwards(golden: str) -> None:
    session.upgrade()
    story = Story()
    assert story.live == 2
    assert story.deploys("rollback").model_id == 1
    better = story.trained_and_promoted(0.9)
    assert better == 5, "ids go on where they were"
    assert story.live == better
    assert queries.model(4).status == "running"
    assert queries.model(3).reason == "it does not converge"
    lifecycle.cancel_models("first:", "Ctrl-C")
    assert queries.model(4).status == "cancelled"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE deployments SET model_id = 1",
        "DELETE FROM deployments",
        "DELETE FROM decisions",
        "UPDATE decisions SET deployed = deployed",
        "DELETE FROM quarantines",
        "UPDATE quarantines SET reason = 'another'",
        "UPDATE models SET status = 'lost' WHERE id = 1",
        "UPDATE models SET status = 'cancelled', score = NULL WHERE id = 1",
        "UPDATE models SET score = 0.5 WHERE id = 3",
        "UPDATE models SET snapshot_id = 99 WHERE id = 1",
    ],
)
def test_what_may_not_be_is_refused_as_before(golden: str, statement: str) -> None:
    session.upgrade()
    with pytest.raises(RegistryConflict), session.transaction(write=True) as writing:
        writing.execute(text(statement))


def test_what_others_have_made_in_it_stays(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workspace / "registry.db"
    monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{path}")
    golden_registry(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("CREATE INDEX mine ON deployments(deployed_at)")
        connection.exec_driver_sql("CREATE VIEW \"top models\" AS SELECT *, ':x' AS said FROM trained_models")
    engine.dispose()
    before = guards(f"sqlite:///{path}")
    assert session.upgrade() == ("0002", REVISION)
    assert set(before) < set(guards(f"sqlite:///{path}"))


def test_the_deployments_name_their_models_algorithms(golden: str) -> None:
    session.upgrade()
    with session.transaction() as reading:
        assert reading.execute(text("SELECT seq, algorithm FROM deployments ORDER BY seq")).all() == [
            (1, "linear"), (2, "linear")
        ]  # fmt: skip
    assert Story().deploys("rollback", "linear").model_id == 1


def test_a_model_that_is_deployed_cannot_be_deleted(golden: str) -> None:
    session.upgrade()
    with pytest.raises(RegistryConflict), session.transaction(write=True) as writing:
        writing.execute(text("DELETE FROM models WHERE id = 2"))


def test_a_registry_whose_references_are_broken_is_left_as_it_was(workspace: Path, monkeypatch) -> None:
    path = workspace / "registry.db"
    monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{path}")
    golden_registry(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:  # as a hand without foreign keys would do it
        connection.execute("UPDATE models SET snapshot_id = 99 WHERE id = 3")
    connection.close()
    with pytest.raises(RegistryConflict, match="a row of models refers to one of snapshots that is not there"):
        session.upgrade()
    assert session.version() == "0001"
    columns = {column["name"] for column in inspect(create_engine(f"sqlite:///{path}")).get_columns("models")}
    assert "heartbeat_at" not in columns


def test_an_older_registry_is_not_used_by_mistake(golden: str) -> None:
    with pytest.raises(RegistryOutdated, match="at version 0001, this is 0003: run `frontrunner upgrade`"):
        queries.projects()


def test_there_is_no_way_back_but_a_backup(golden: str) -> None:
    session.upgrade()
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    engine = create_engine(golden)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(NotImplementedError, match="restore a backup"):
            command.downgrade(config, "0001")
    engine.dispose()
    assert session.version() == REVISION


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("r0001_first.py", "e1aebfcee6b08fff473641b008b8783f07f0d89cc078fc0babb31b95f056c07b"),
        ("r0002_life_cycle.py", "5d3b91b6a19961442891160f657f986d8b1a10f52fab2bff664a07b3994d37b8"),
    ],
)
def test_an_earlier_migration_stays_as_it_was_released(name: str, digest: str) -> None:
    file = Path(registry.__file__).parent / "migrations" / "versions" / name
    assert sha256(file.read_bytes()).hexdigest() == digest


def test_the_new_statuses_are_complete(golden: str) -> None:
    session.upgrade()
    engine = create_engine(golden)
    with engine.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(text("UPDATE models SET status = 'cancelled' WHERE id = 4"))
    engine.dispose()

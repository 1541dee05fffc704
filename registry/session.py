"""Transactions on the registry. The first transaction opens it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import URL, Connection, Engine, column, create_engine, event, inspect, make_url, select, table, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from registry import settings
from registry.errors import MissingExtra, NoRegistry, RegistryConflict, RegistryOutdated, RegistryUnavailable
from registry.schema import REVISION, VERSION_TABLE, Base

BUSY_SECONDS = 30
CONNECT_SECONDS = 5
UPGRADE_LOCK = 0x46524F4E54  # key of PostgreSQL's advisory lock while tables are created or upgraded

_opening = Lock()
_engines: dict[tuple[URL, int], Engine] = {}


def registry_url() -> URL:
    """Return the URL of the registry; a SQLite path is made absolute. Raises: RegistryUnavailable."""
    try:
        url = make_url(settings.registry_url())
    except ArgumentError:
        raise RegistryUnavailable("REGISTRY_URL is not a database URL, such as postgresql://user@host/name") from None
    if "@" in (url.host or ""):
        raise RegistryUnavailable("REGISTRY_URL has more than one @: an @ in a name or password is written %40")
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(database=str(Path(str(url.database)).absolute()))
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg") if url.drivername == backend else url
    raise RegistryUnavailable(f"REGISTRY_URL must be a SQLite file or a PostgreSQL database, not {_shown(url)}")


@contextmanager
def transaction(*, write: bool = False, repeatable_read: bool = False) -> Iterator[Session]:
    """Run one transaction on a registry with current tables; commit at the end, or not at all.

    Missing tables are created first; only a writer creates a SQLite file. With `repeatable_read` every query sees the
    registry as it was when reading began, as is always so in SQLite.

    Raises:
        NoRegistry: there is no SQLite file to read.
        RegistryUnavailable: the registry cannot be reached, read or written.
        RegistryOutdated: its tables are of another version.
        RegistryConflict: a constraint refused a row.
    """
    url = registry_url()
    if not write and not exists():
        raise NoRegistry(str(url.database))
    with _translated(url):
        engine = _ready_engine(url)
        bound = engine.execution_options(write=write, repeatable_read=repeatable_read)
        with Session(bound, expire_on_commit=False) as session, session.begin():
            yield session


def upgrade() -> tuple[str | None, str]:
    """Upgrade the registry's tables, or create them, and return the versions before and after."""
    url = registry_url()
    with _temporary_engine(url) as engine:
        return _migrate(engine, url), REVISION


def exists() -> bool:
    """Return False if the registry is a SQLite file that does not exist yet: its first write would create it."""
    url = registry_url()
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()


def version() -> str | None:
    """Return the version of the registry's tables; None if there are none yet. Raises: RegistryUnavailable."""
    if not exists():
        return None
    with _temporary_engine(registry_url()) as engine, engine.connect() as connection:
        return _version(connection)


def close() -> None:
    """Close every connection of this process; the next transaction opens a new one."""
    with _opening:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


def _ready_engine(url: URL) -> Engine:
    """Return this process's engine, its tables checked. After a fork, parent and child must not share connections."""
    key = url, os.getpid()
    with _opening:
        if key not in _engines:
            engine = _new_engine(url)
            try:
                _check_version(engine, url)
            except BaseException:
                engine.dispose()
                raise
            _engines[key] = engine
        return _engines[key]


def _check_version(engine: Engine, url: URL) -> None:
    with engine.connect() as connection:
        version = _version(connection)
    if version is None:
        _migrate(engine, url)
    elif version != REVISION:
        raise _wrong_version(version)


@contextmanager
def _temporary_engine(url: URL) -> Iterator[Engine]:
    with _translated(url):
        engine = _new_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()


def _new_engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url)
        return _postgresql_engine(url)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"REGISTRY_URL with {url.drivername}", "postgres") from error
    except NoSuchModuleError as error:
        raise RegistryUnavailable(f"REGISTRY_URL names an unknown driver: {url.drivername}") from error


def _sqlite_engine(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("migrating"):  # SQLite ignores this inside a transaction
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        # A deferred writer fails at once if another has written since it began; an immediate one waits its turn.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})
    engine = create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("repeatable_read"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if options.get("write"):  # wait as long as SQLite does, not for ever
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")

    return engine


def _shown(url: URL) -> str:
    """Return the URL without its password, which may also be in the query."""
    return url.set(query={}).render_as_string()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return version


def _migrate(engine: Engine, url: URL) -> str | None:
    """Create or upgrade the tables while other processes that would do so wait; return the version before."""
    # SQLite recreates a table to change it, so its foreign keys are off while `migrating`.
    with engine.execution_options(write=True, migrating=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
        version = _version(connection)
        if version is None:
            _refuse_foreign_tables(connection, url)
        elif version > REVISION:
            raise _wrong_version(version)
        if version != REVISION:  # another process may have been quicker
            _run_migrations(connection, version)
    return version


def _run_migrations(connection: Connection, version: str | None) -> None:
    from alembic import command  # alembic is not loaded unless tables change
    from alembic.config import Config  # as above
    from alembic.util import CommandError  # as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RegistryOutdated(
            f"the registry's version {version} is unknown, so it cannot be upgraded to {REVISION}: check REGISTRY_URL,"
            " or restore a backup"
        ) from error
    if connection.dialect.name == "sqlite" and (row := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
        raise RegistryConflict(f"a row of {row[0]} refers to one of {row[2]} that is not there: nothing was upgraded")


def _refuse_foreign_tables(connection: Connection, url: URL) -> None:
    taken = sorted(set(Base.metadata.tables) & set(inspect(connection).get_table_names()))
    if taken:
        raise RegistryUnavailable(
            f"{_shown(url)} has other tables named {', '.join(taken)}: give the registry its own database or schema"
        )


def _wrong_version(version: str) -> RegistryOutdated:
    if version < REVISION:
        return RegistryOutdated(f"the registry is at version {version}, this is {REVISION}: run `frontrunner upgrade`")
    return RegistryOutdated(f"the registry is at version {version}, newer than {REVISION}: upgrade Frontrunner itself")


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    where = _shown(url)
    try:
        yield
    except IntegrityError as error:
        raise RegistryConflict(f"the registry refused the row: {_first_line(error)}") from error
    except DBAPIError as error:
        raise RegistryUnavailable(f"the registry {where} cannot be used: {_first_line(error)}") from error
    except OSError as error:
        raise RegistryUnavailable(f"the registry {where} cannot be used: {error}") from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n", 1)[0]

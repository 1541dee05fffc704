"""Read tables and views of databases: of DuckDB with its own package, of others with SQLAlchemy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import Engine, create_engine, event, inspect, select, table, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from registry.errors import BadData, MissingExtra, SourceUnavailable, UnknownRelation
from registry.schema import VERSION_TABLE
from tasks.data import files
from tasks.data.messages import listed, one_line, readable

READ_ROWS = 10_000  # fetched at a time, because Python objects take many times the memory of Arrow's columns
DUCKDB = "duckdb:///"  # the prefix of URLs that need no SQLAlchemy driver


def read_table(source: str, url: str, name: str) -> pa.Table:
    if url.startswith(DUCKDB):
        with _duckdb_table(source, url, name) as relation:
            return relation.to_arrow_table()
    return pa.concat_tables(list(_sql_parts(source, url, name)), promote_options="permissive")


def table_parts(source: str, url: str, name: str) -> Iterator[pa.Table]:
    if url.startswith(DUCKDB):
        with _duckdb_table(source, url, name) as relation:
            yield from files.batches_as_tables(relation.to_arrow_reader(files.PART_ROWS))
    else:
        yield from _sql_parts(source, url, name)


@contextmanager
def database(source: str, url: str, name: str, *, write: bool = False) -> Iterator[Engine]:
    """Open the engine of a source, and translate the database's errors into one line without the address.

    Without `write`, SQLite and PostgreSQL refuse every change, including one by a function that a view calls.
    """
    engine = _engine(source, url)
    if not write and engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only = ON"))
    failed = f"{source}:{name} cannot be {'written' if write else 'read'}"
    try:
        yield engine if write else engine.execution_options(postgresql_readonly=True)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
        if not write and ("read-only transaction" in reason or "readonly database" in reason):
            reason += "; reading it would write, which a source must not"
        kind = SourceUnavailable if isinstance(error, OperationalError) else BadData
        raise kind(f"{failed}: {reason}") from error
    except UnicodeEncodeError as error:
        raise BadData(f"{failed}: it has a character that no database can store") from error
    finally:
        engine.dispose()


def _engine(source: str, url: str) -> Engine:
    # Transactions of SQLite are begun explicitly, because its driver begins none before a CREATE.
    options = {"connect_args": {"isolation_level": None}} if url.startswith("sqlite") else {}
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise MissingExtra(f"the source {source!r}", "postgres") from error
        raise BadData(f"the source {source!r} needs the package of its driver, {error.name}: install it") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadData(f"SOURCE_{source.upper()}_URL is not the URL of a database whose driver is installed") from error
    if "@" in (engine.url.host or ""):  # part of the password, which the driver's error would show
        raise BadData(f"SOURCE_{source.upper()}_URL has more than one @: write one in a name or password as %40")
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file and not Path(file).is_file():  # SQLite would create an empty one
        raise BadData(f"the database file of source {source!r} does not exist")
    return engine


def default_schema(engine: Engine) -> str | None:
    """Return the schema for a name without one. The other schemas of the search path are not searched."""
    return inspect(engine).default_schema_name


def refuse_registry(engine: Engine, source: str, schema: str | None) -> None:
    """Refuse a source that is a registry, so that no relation can read or replace its decisions."""
    if inspect(engine).has_table(VERSION_TABLE, schema):
        raise UnknownRelation(
            f"SOURCE_{source.upper()}_URL names a registry of Frontrunner's, whose tables cannot be read or written:"
            " use another database or schema"
        )


def _relations(engine: Engine, schema: str | None) -> list[str]:
    inspector = inspect(engine)
    names = {*inspector.get_table_names(schema), *inspector.get_view_names(schema)}
    with suppress(NotImplementedError):  # not every database has materialized views
        names |= set(inspector.get_materialized_view_names(schema))
    return sorted(names)


def _refuse_unknown(source: str, name: str, bare: str, there: list[str]) -> None:
    if bare not in there:
        raise UnknownRelation(f"{source} has no table or view {name!r}; it has {listed(there)}")


def _sql_parts(source: str, url: str, name: str) -> Iterator[pa.Table]:
    """Yield the rows in tables, the first of which is empty."""
    schema, _, bare = name.rpartition(".")
    with database(source, url, name) as engine:
        where = schema or default_schema(engine)
        refuse_registry(engine, source, where)
        _refuse_unknown(source, name, bare, _relations(engine, where))
        # A single statement reads a consistent set of rows.
        statement = select(text("*")).select_from(table(bare, schema=where))
        streaming = {"stream_results": True, "max_row_buffer": READ_ROWS}
        with engine.connect().execution_options(**streaming) as connection, readable(f"{source}:{name}"):
            result = connection.execute(statement)
            names = list(result.keys())
            yield pa.table([pa.nulls(0)] * len(names), names=names)
            for rows in result.partitions(READ_ROWS):
                columns = zip(*rows, strict=True)
                yield pa.table([_column(*named) for named in zip(names, columns, strict=True)], names=names)


def _column(name: str, values: Sequence[Any]) -> "pa.Array[Any]":
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise BadData(f"column {name!r} holds values of several types: cast it to one ({one_line(error)})") from error


@contextmanager
def _duckdb_table(source: str, url: str, name: str) -> Iterator[duckdb.DuckDBPyRelation]:
    file, (schema, _, bare) = url.removeprefix(DUCKDB), name.rpartition(".")
    if not Path(file).is_file():
        raise BadData(f"the database file of source {source!r} does not exist")
    known = "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1"
    with readable(f"{source}:{name}"), duckdb.connect(file, read_only=True) as connection:
        connection.execute("SET enable_progress_bar = false")  # would be printed to standard output
        there = [row[0] for row in connection.execute(known, [schema or "main"]).fetchall()]
        _refuse_unknown(source, name, bare, there)
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema or "main", bare))
        yield connection.table(quoted)

"""Where scored rows go: a file that is swapped in whole, or a table that is written in one transaction."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from registry.errors import BadData, InvalidInput, UnknownValue
from tasks.data import sources

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy
    from sqlalchemy import Connection, Engine

IF_EXISTS = ("replace", "append")
SUFFIXES = (".parquet", ".csv")
REQUEST = "request_key"  # of a table's rows: those of an earlier try are replaced


@dataclass(frozen=True, slots=True)
class Scored:
    """Parts on disk, cast to one schema when they are read again: one may have nothing but gaps in a column."""

    files: list[Path]
    schema: "pa.Schema"
    rows: int

    def parts(self) -> "Iterator[pa.Table]":
        """Raises: BadData: a value has no room in the schema."""
        import pyarrow as pa
        from pyarrow import parquet

        for file in self.files:
            try:
                yield parquet.read_table(file).cast(self.schema)
            except pa.ArrowException as error:
                raise BadData(f"the rows cannot be written: {' '.join(str(error).split())}") from error


def writer(output: str, if_exists: str, key: str) -> Callable[[Scored], None]:
    """What writes to this output: `files:NAME.parquet`, `files:NAME.csv` or `SOURCE:SCHEMA.TABLE`.

    Raises:
        InvalidInput: it cannot be written; said before anything is read.
    """
    if if_exists not in IF_EXISTS:
        raise UnknownValue("if_exists", if_exists, IF_EXISTS)
    source, name, url = sources.parse_relation(output)
    if source == "sklearn" or url.startswith(sources.DUCKDB):
        raise InvalidInput(f"{output} is read only: write to files:NAME.parquet, or to a table of SQLite or PostgreSQL")
    if source == "files":
        path = sources.file_path(name)
        if path.suffix not in SUFFIXES or path.is_dir():
            raise InvalidInput(f"an output file is files:NAME.parquet or files:NAME.csv, not {output}")
        if if_exists == "append":
            raise InvalidInput(f"{output} is a file, which is replaced as a whole: append to a table")
        return lambda scored: _write_file(scored, path)
    with sources.database(source, url, name, write=True) as engine:
        sources.refuse_registry(engine, source, name.rpartition(".")[0] or sources.default_schema(engine))
        _refuse_view(engine, name)

    def write(scored: Scored) -> None:
        with sources.database(source, url, name, write=True) as engine:
            _write_table(engine, name, scored, if_exists, key)

    return write


def _write_file(scored: Scored, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    kind = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            sources.open_inside_root(path.parent) as folder,
            TemporaryDirectory(dir=folder, prefix=".frontrunner-") as beside,
        ):
            whole = Path(beside) / path.name
            with kind(whole, scored.schema) as file:
                for part in scored.parts():
                    file.write_table(part)
            whole.replace(folder / path.name)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from error
    except pa.ArrowException as error:  # CSV has no lists
        raise BadData(f"{path} cannot be written: {' '.join(str(error).split())}") from error


def _write_table(engine: "Engine", name: str, scored: Scored, if_exists: str, key: str) -> None:
    from sqlalchemy import func, select

    scored = replace(scored, schema=_storable(scored.schema))
    with engine.begin() as connection:
        # One writer at a time: of two that replace, neither would see the other's rows to delete them.
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif engine.dialect.name == "postgresql":
            bare = name.rpartition(".")[2]
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(bare, 0))))
        table = _table(connection, name, scored.schema, if_exists)
        # A table that stays keeps its grants, and the views on it.
        earlier = table.delete()
        connection.execute(earlier if if_exists == "replace" else earlier.where(table.c[REQUEST] == key))
        for part in scored.parts():
            for start in range(0, part.num_rows, sources.READ_ROWS):
                rows = part.slice(start, sources.READ_ROWS).to_pylist()
                connection.execute(table.insert(), [row | {REQUEST: key} for row in rows])


def _table(connection: "Connection", name: str, schema: "pa.Schema", if_exists: str) -> "sqlalchemy.Table":
    """The table that is there, if its columns hold the rows; else one that is made, in its place when it is replaced.

    Raises:
        InvalidInput: rows cannot be appended to what is there.
        BadData: no table can hold the rows.
    """
    from sqlalchemy import Column, Index, MetaData, Table, Text, inspect

    if REQUEST in schema.names:
        raise BadData(f"the rows have a column {REQUEST!r} already: rename it, a table gets one")
    folder, _, bare = name.rpartition(".")
    inspector, there = inspect(connection), {}
    if inspector.has_table(bare, folder or None):
        there = {column["name"]: column["type"] for column in inspector.get_columns(bare, folder or None)}
    other = _difference(there, schema, connection)
    kinds = [(field.name, _sql_type(field) if other else there[field.name]) for field in schema]
    columns = [Column(*named) for named in [*kinds, (REQUEST, Text())]]
    table = Table(bare, MetaData(), *columns, schema=folder or None)
    if not other:
        return table
    if there and if_exists == "append":
        raise InvalidInput(f"{name} has other columns than the scored rows ({other}): replace it, or name another")
    table.drop(connection, checkfirst=True)
    Index(f"frontrunner_{uuid4().hex}", table.c[REQUEST])  # its name is the schema's: a renamed table keeps its own
    table.create(connection)
    return table


def _difference(there: dict[str, Any], schema: "pa.Schema", connection: "Connection") -> str:
    """The first column that does not hold its values as they are; a wrong type would round them. Empty if all do."""
    from pyarrow import types
    from sqlalchemy import Double

    if list(there) != [*schema.names, REQUEST]:
        return ", ".join(sorted({*there} ^ {*schema.names, REQUEST})[:5]) or "in another order"
    for field in schema:
        theirs, ours = there[field.name], _sql_type(field)
        fits = types.is_null(field.type) or (types.is_integer(field.type) and isinstance(theirs, Double))
        if not fits and theirs.compile(connection.dialect) != ours.compile(connection.dialect):
            return f"{field.name} is {theirs}, not {ours}"
    return ""


def _refuse_view(engine: "Engine", name: str) -> None:
    """Also tells that the database is away before rows are scored for it."""
    from sqlalchemy import inspect

    folder, _, bare = name.rpartition(".")
    if bare in inspect(engine).get_view_names(folder or None):
        raise InvalidInput(f"{name} is a view: name a table")


def _storable(schema: "pa.Schema") -> "pa.Schema":
    """With types that tables have: integers of 64 bits with a sign, and UTC, since SQLite keeps no zone."""
    import pyarrow as pa
    from pyarrow import types

    def kind(given: "pa.DataType") -> "pa.DataType":
        given = given.value_type if types.is_dictionary(given) else given
        if types.is_uint64(given):
            return pa.int64()
        return pa.timestamp(given.unit, "UTC") if types.is_timestamp(given) and given.tz else given

    return pa.schema([pa.field(field.name, kind(field.type)) for field in schema])


def _sql_type(field: "pa.Field[Any]") -> Any:
    import pyarrow as pa
    from pyarrow import types
    from sqlalchemy import BigInteger, Boolean, Date, DateTime, Double, LargeBinary, Numeric, Text, Time, Uuid

    kind = field.type
    if types.is_timestamp(kind):
        return DateTime(timezone=kind.tz is not None)
    known: Sequence[tuple[Any, Any]] = (
        (types.is_boolean, Boolean),
        (types.is_integer, BigInteger),
        (types.is_floating, Double),
        (types.is_decimal, Numeric),
        (types.is_date, Date),
        (types.is_time, Time),
        (types.is_binary, LargeBinary),
        (types.is_string, Text),
        (types.is_large_string, Text),
        (types.is_string_view, Text),
        (types.is_null, Text),
        (pa.uuid().equals, Uuid),
    )
    for is_kind, sql in known:
        if is_kind(kind):
            return sql()
    raise BadData(f"column {field.name!r} holds {kind} values, which a table cannot: leave it out of the relation")

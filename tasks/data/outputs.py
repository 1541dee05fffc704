"""Write scored rows to a file, which is replaced as a whole, or to a table in one transaction."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv, parquet, types

from registry.errors import BadData, InvalidInput, UnknownValue
from tasks.data import databases
from tasks.data.databases import DUCKDB, database, default_schema, refuse_registry
from tasks.data.files import SUFFIXES
from tasks.data.messages import one_line
from tasks.data.sources import file_path, open_inside_root, parse_relation

IF_EXISTS = ("replace", "append")
REQUEST = "request_key"  # the column by which the rows of an earlier attempt are replaced


@dataclass(frozen=True, slots=True)
class Scored:
    """Parts on disk, which are cast to a common schema when read: a column of one part may lack any value."""

    files: list[Path]
    schema: pa.Schema
    rows: int

    def parts(self) -> Iterator[pa.Table]:
        """Yield the parts; raise BadData if a value does not fit the schema."""
        for file in self.files:
            try:
                yield parquet.read_table(file).cast(self.schema)
            except pa.ArrowException as error:
                raise BadData(f"the rows cannot be written: {one_line(error)}") from error


def writer(output: str, if_exists: str, key: str) -> Callable[[Scored], None]:
    """Return a function that writes to this output: `files:NAME.parquet`, `files:NAME.csv` or `SOURCE:SCHEMA.TABLE`.

    Raises:
        InvalidInput: the output cannot be written. The check comes before rows are scored for it.
    """
    if if_exists not in IF_EXISTS:
        raise UnknownValue("if_exists", if_exists, IF_EXISTS)
    source, name, url = parse_relation(output)
    if source == "sklearn" or url.startswith(DUCKDB):
        raise InvalidInput(f"{output} is read only: write to files:NAME.parquet, or to a table of SQLite or PostgreSQL")
    if source == "files":
        return _file_writer(output, name, if_exists)
    with database(source, url, name, write=True) as engine:
        refuse_registry(engine, source, name.rpartition(".")[0] or default_schema(engine))
        folder, _, bare = name.rpartition(".")
        if bare in sa.inspect(engine).get_view_names(folder or None):
            raise InvalidInput(f"{name} is a view: choose a table")

    def write(scored: Scored) -> None:
        with database(source, url, name, write=True) as engine:
            _write_table(engine, name, scored, if_exists, key)

    return write


def _file_writer(output: str, name: str, if_exists: str) -> Callable[[Scored], None]:
    path = file_path(name)
    if path.suffix not in SUFFIXES or path.is_dir():
        raise InvalidInput(f"an output file is files:NAME.parquet or files:NAME.csv, not {output}")
    if if_exists == "append":
        raise InvalidInput(f"{output} is a file and can only be replaced: append to a table instead")
    return lambda scored: _write_file(scored, path)


def _write_file(scored: Scored, path: Path) -> None:
    kind = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            open_inside_root(path.parent) as folder,
            TemporaryDirectory(dir=folder, prefix=".frontrunner-") as temporary,
        ):
            complete = Path(temporary) / path.name
            with kind(complete, scored.schema) as file:
                for part in scored.parts():
                    file.write_table(part)
            complete.replace(folder / path.name)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from error
    except pa.ArrowException as error:  # CSV has no lists
        raise BadData(f"{path} cannot be written: {one_line(error)}") from error


def _write_table(engine: sa.Engine, name: str, scored: Scored, if_exists: str, key: str) -> None:
    scored = replace(scored, schema=_storable(scored.schema))
    with engine.begin() as connection:
        _lock(connection, name)
        table = _table(connection, name, scored.schema, if_exists)
        # The rows are replaced, and the table keeps its grants and the views on it.
        earlier = table.delete()
        connection.execute(earlier if if_exists == "replace" else earlier.where(table.c[REQUEST] == key))
        for part in scored.parts():
            for start in range(0, part.num_rows, databases.READ_ROWS):
                rows = part.slice(start, databases.READ_ROWS).to_pylist()
                connection.execute(table.insert(), [row | {REQUEST: key} for row in rows])


def _lock(connection: sa.Connection, name: str) -> None:
    """Allow one writer at a time: two concurrent replacements would not see, nor delete, each other's rows."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        bare = name.rpartition(".")[2]
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(bare, 0))))


def _table(connection: sa.Connection, name: str, schema: pa.Schema, if_exists: str) -> sa.Table:
    """Return the existing table if its columns can hold the rows. Otherwise create the table, or replace it.

    Raises:
        InvalidInput: rows cannot be appended to the existing table.
        BadData: no table can hold the rows.
    """
    if REQUEST in schema.names:
        raise BadData(f"the rows have a column {REQUEST!r} already, which scoring adds to a table: rename it")
    folder, _, bare = name.rpartition(".")
    inspector, existing = sa.inspect(connection), {}
    if inspector.has_table(bare, folder or None):
        existing = {column["name"]: column["type"] for column in inspector.get_columns(bare, folder or None)}
    difference = _difference(existing, schema, connection)
    columns = [sa.Column(field.name, _sql_type(field) if difference else existing[field.name]) for field in schema]
    table = sa.Table(bare, sa.MetaData(), *columns, sa.Column(REQUEST, sa.Text()), schema=folder or None)
    if not difference:
        return table
    if existing and if_exists == "append":
        raise InvalidInput(
            f"{name} has other columns than the scored rows ({difference}): replace it, or choose another table"
        )
    table.drop(connection, checkfirst=True)
    # An index name is unique in its schema, and a renamed table keeps its index.
    sa.Index(f"frontrunner_{uuid4().hex}", table.c[REQUEST])
    table.create(connection)
    return table


def _difference(existing: dict[str, Any], schema: pa.Schema, connection: sa.Connection) -> str:
    """Describe how the existing columns could not hold the rows unchanged; empty if they could."""
    if list(existing) != [*schema.names, REQUEST]:
        return ", ".join(sorted({*existing} ^ {*schema.names, REQUEST})[:5]) or "in another order"
    for field in schema:
        theirs, ours = existing[field.name], _sql_type(field)
        fits = types.is_null(field.type) or (types.is_integer(field.type) and isinstance(theirs, sa.Double))
        if not fits and theirs.compile(connection.dialect) != ours.compile(connection.dialect):
            return f"{field.name} is {theirs}, not {ours}"
    return ""


def _storable(schema: pa.Schema) -> pa.Schema:
    """Return the schema in types that tables have: signed 64-bit integers, and UTC, as SQLite stores no time zone."""

    def kind(given: pa.DataType) -> pa.DataType:
        given = given.value_type if types.is_dictionary(given) else given
        if types.is_uint64(given):
            return pa.int64()
        return pa.timestamp(given.unit, "UTC") if types.is_timestamp(given) and given.tz else given

    return pa.schema([pa.field(field.name, kind(field.type)) for field in schema])


SQL_TYPES: Sequence[tuple[Callable[[Any], bool], Callable[[], Any]]] = (
    (types.is_boolean, sa.Boolean),
    (types.is_integer, sa.BigInteger),
    (types.is_floating, sa.Double),
    (types.is_decimal, sa.Numeric),
    (types.is_date, sa.Date),
    (types.is_time, sa.Time),
    (types.is_binary, sa.LargeBinary),
    (types.is_string, sa.Text),
    (types.is_large_string, sa.Text),
    (types.is_string_view, sa.Text),
    (types.is_null, sa.Text),
    (pa.uuid().equals, sa.Uuid),
)


def _sql_type(field: "pa.Field[Any]") -> Any:
    if types.is_timestamp(field.type):
        return sa.DateTime(timezone=field.type.tz is not None)
    for is_kind, sql_type in SQL_TYPES:
        if is_kind(field.type):
            return sql_type()
    raise BadData(f"a table cannot hold the {field.type} values of column {field.name!r}: leave it out of the relation")

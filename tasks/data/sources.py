"""A relation name, `SOURCE:NAME`, to a table of rows. A name never carries a credential, an address or SQL."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import settings
from registry.errors import BadData, MissingExtra, SourceUnavailable, UnknownRelation
from registry.schema import VERSION_TABLE

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyarrow import csv
    from sqlalchemy import Engine

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
READ_ROWS = 10_000  # fetched from a database at a time: as Python objects they take many times their size
DUCKDB = "duckdb:///"  # read by its own package, which needs no driver of SQLAlchemy's
CSV_BLOCK = 2**31 - 1  # bytes; a column's type is told from the first block
CSV_PART = 2**22  # bytes; Arrow reads some thirty of them ahead
PART_ROWS = 50_000
# What a database knows of itself, its users among it: no rows to train on. PostgreSQL's own begin with pg_.
SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
NUMBER_BYTES = 8


def read(relation_name: str) -> "pa.Table":
    """The rows of a relation, in its own order: `sklearn:digits`, `files:flights.parquet`, `warehouse:public.orders`.

    They are there once, as Arrow's typed columns; a column's type is that of all its values, wherever its gaps are.

    Raises:
        UnknownRelation: there is no such source, file, table or view; the message lists what there is.
        BadData: it is there but cannot be read.
    """
    source, name, url = parse_relation(relation_name)
    if source == "sklearn":
        return _read_sklearn(name)
    if source == "files":
        path = _readable_file(name)
        with _readable(relation_name), open_inside_root(path) as there:
            return _read_csv(there) if path.suffix == ".csv" else _read_parquet(there)
    if url.startswith(DUCKDB):
        with _duckdb_table(source, url, name) as table:
            return table.to_arrow_table()
    import pyarrow as pa

    # The chunks stay where they are.
    return pa.concat_tables(list(_table_parts(source, url, name)), promote_options="permissive")


def parts(relation_name: str, types: "dict[str, pa.DataType]") -> "Iterator[pa.Table]":
    """The same rows part by part, at least one of them; `types` of columns of a CSV file that are not to be guessed.

    A column's type is that of all its values, in a table of a database that of its values in the part.

    Raises:
        UnknownRelation, BadData: as `read`; the latter also after some parts.
    """
    source, name, url = parse_relation(relation_name)
    if source == "sklearn":
        yield from _slices(_read_sklearn(name))
    elif source == "files":
        path = _readable_file(name)
        with _readable(relation_name), open_inside_root(path) as there:
            yield from _csv_parts(there, types) if path.suffix == ".csv" else _parquet_parts(there)
    elif url.startswith(DUCKDB):
        with _duckdb_table(source, url, name) as table:
            yield from _filled(table.to_arrow_reader(PART_ROWS))
    else:
        yield from _table_parts(source, url, name)


def parse_relation(relation_name: str) -> tuple[str, str, str]:
    """Source, name in it, and its database's address (empty for scikit-learn's sets and files).

    Raises:
        UnknownRelation: it has another form, there is no such source, or it is in a database's own schema.
    """
    source, colon, name = str(relation_name).partition(":")
    if not colon or not name:
        is_file = str(relation_name).endswith((".csv", ".parquet"))
        hint = f"; a file is files:PATH, from {settings.data_root()} on" if is_file else ""
        raise UnknownRelation(f"relation {relation_name!r} is not SOURCE:NAME; sources are {_listed(_sources())}{hint}")
    if source in ("sklearn", "files"):
        return source, name, ""
    url = settings.source_url(source)
    if url is None:
        raise UnknownRelation(
            f"there is no source {source!r}: sources are {_listed(_sources())}; SOURCE_{source.upper()}_URL would name"
            " a database"
        )
    for schema in name.lower().split(".")[:-1]:
        if schema in SYSTEM_SCHEMAS or schema.startswith("pg_"):
            raise UnknownRelation(f"{source}:{name} is in {schema}, where the database keeps its own: name a table")
    return source, name, url


def file_path(name: str) -> Path:
    """A path below DATA_ROOT, whether a file is there or not. Raises: UnknownRelation: it would be elsewhere."""
    root = settings.data_root().resolve()
    try:
        path = (root / name).resolve()  # a link is followed before it is judged
        path.is_file()  # raises where the name is too long
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have, or a link to itself
        raise UnknownRelation(f"files:{name!r} cannot be the name of a file: {error}") from error
    if not path.is_relative_to(root):
        raise UnknownRelation(f"files:{name} is outside DATA_ROOT, {root}")
    return path


@contextmanager
def open_inside_root(path: Path) -> Iterator[Path]:
    """A file or folder below DATA_ROOT, opened; a path to use it by, wherever the links of its name lead from now on.

    That path is the open file's own on Linux. Elsewhere it is the same again: a link could still be changed.

    Raises:
        UnknownRelation: what was opened is elsewhere: a link was changed since its name was judged.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        own = Path(f"/proc/self/fd/{handle}")
        there = own if own.exists() else path
        if not there.resolve().is_relative_to(settings.data_root().resolve()):
            raise UnknownRelation(f"{path} is outside DATA_ROOT by now: a link was changed while it was opened")
        yield there
    finally:
        os.close(handle)


def _sources() -> list[str]:
    return ["sklearn", "files", *settings.sources()]


def _read_sklearn(name: str) -> "pa.Table":
    if name not in SKLEARN:
        raise UnknownRelation(f"scikit-learn ships no set {name!r}; it has {_listed(SKLEARN)}")
    import pyarrow as pa
    from sklearn import datasets

    return pa.Table.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame, preserve_index=False)


def _readable_file(name: str) -> Path:
    path, root = file_path(name), settings.data_root().resolve()
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise UnknownRelation(
            f"there is no CSV or Parquet file {name!r} below {root}; there are {_listed(_files(root))}"
        )
    return path


def _read_csv(path: Path) -> "pa.Table":
    from pyarrow import csv

    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=min(max(path.stat().st_size, 1), CSV_BLOCK)),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )


def _read_parquet(path: Path) -> "pa.Table":
    from pyarrow import parquet

    # Else the file's bytes would stay beside the table that they become.
    file = parquet.ParquetFile(path, pre_buffer=False)
    _refuse_beyond_memory(path.name, file.metadata.num_rows * file.metadata.num_columns * NUMBER_BYTES)
    table = file.read()
    table.validate(full=True)  # else text that is no UTF-8 is noticed by whoever reads it first
    index = _index_columns(table.schema)
    return table.drop_columns([name for name in table.column_names if name in index])


def _index_columns(schema: "pa.Schema") -> list[Any]:
    """Those that pandas wrote beside the columns of a frame; what others wrote in its place says nothing."""
    try:
        said = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return []
    listed = said.get("index_columns") if isinstance(said, dict) else None
    return listed if isinstance(listed, list) else []


def _refuse_beyond_memory(name: str, needed: int) -> None:
    """A file of some kilobytes can hold rows for terabytes. Raises: BadData."""
    import psutil

    there = psutil.virtual_memory().total
    if needed > there:
        raise BadData(
            f"the rows of {name} take {needed / 1e9:,.0f} GB or more, and this machine has {there / 1e9:,.0f}:"
            " take fewer"
        )


def _files(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*.*")
        if path.suffix in (".csv", ".parquet") and path.is_file()
    )


def _slices(table: "pa.Table") -> "Iterator[pa.Table]":
    for start in range(0, max(table.num_rows, 1), PART_ROWS):
        yield table.slice(start, PART_ROWS)


def _filled(reader: "pa.RecordBatchReader") -> "Iterator[pa.Table]":
    """Its batches as tables; an empty one if there is none."""
    import pyarrow as pa

    yield reader.schema.empty_table()
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _csv_parts(path: Path, types: "dict[str, pa.DataType]") -> "Iterator[pa.Table]":
    if path.stat().st_size > CSV_PART:  # else the first part, which tells the types, is all there is
        types = _csv_types(path) | types
    with _csv_reader(path, types) as reader:
        yield from _filled(reader)


def _csv_reader(path: Path, types: "dict[str, pa.DataType]") -> "csv.CSVStreamingReader":
    from pyarrow import csv

    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=CSV_PART),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, column_types=types),
    )


def _csv_types(path: Path) -> "dict[str, pa.DataType]":
    """A column's type by all its values: every part is read as text, and told the types of by itself."""
    import pyarrow as pa
    from pyarrow import csv

    with _csv_reader(path, {}) as reader:
        kinds: dict[str, set[pa.DataType]] = {name: set() for name in reader.schema.names}
    with _csv_reader(path, dict.fromkeys(kinds, pa.string())) as reader:
        for batch in reader:
            text = pa.BufferOutputStream()
            csv.write_csv(batch, text)
            told = csv.read_csv(
                pa.BufferReader(text.getvalue()),
                read_options=csv.ReadOptions(block_size=text.getvalue().size),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(strings_can_be_null=True),
            )
            for field in told.schema:
                kinds[field.name].add(field.type)
    return {name: _common(found - {pa.null()}) for name, found in kinds.items()}


def _common(kinds: "set[pa.DataType]") -> "pa.DataType":
    """What holds the values of all parts: text does, where nothing narrower can."""
    import pyarrow as pa

    for ladder in ([pa.int64(), pa.float64()], [pa.date32(), pa.timestamp("s"), pa.timestamp("ns")]):
        if kinds and kinds <= set(ladder):
            return max(kinds, key=ladder.index)
    return pa.string() if len(kinds) > 1 else next(iter(kinds), pa.null())


def _parquet_parts(path: Path) -> "Iterator[pa.Table]":
    import pyarrow as pa
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    kept = [name for name in file.schema_arrow.names if name not in _index_columns(file.schema_arrow)]
    yield file.schema_arrow.empty_table().select(kept)
    for batch in file.iter_batches(PART_ROWS, columns=kept):
        batch.validate(full=True)
        yield pa.Table.from_batches([batch])


def _table_parts(source: str, url: str, name: str) -> "Iterator[pa.Table]":
    """Rows of Python values as tables, the first one empty."""
    import pyarrow as pa
    from sqlalchemy import select, table, text

    schema, _, bare = name.rpartition(".")
    with database(source, url, name) as engine:
        where = schema or default_schema(engine)
        refuse_registry(engine, source, where)
        _refuse_unknown(source, name, bare, _relations(engine, where))
        # One statement: the rows are those of one moment, whatever is written meanwhile.
        statement = select(text("*")).select_from(table(bare, schema=where))
        streaming = {"stream_results": True, "max_row_buffer": READ_ROWS}
        with engine.connect().execution_options(**streaming) as connection, _readable(f"{source}:{name}"):
            result = connection.execute(statement)
            names = list(result.keys())
            yield pa.table([pa.nulls(0)] * len(names), names=names)
            for rows in result.partitions(READ_ROWS):
                columns = zip(*rows, strict=True)
                yield pa.table([_column(*named) for named in zip(names, columns, strict=True)], names=names)


def _column(name: str, values: "Sequence[Any]") -> "pa.Array[Any]":
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise BadData(f"column {name!r} does not hold values of one type: cast it ({_one_line(error)})") from error


@contextmanager
def _duckdb_table(source: str, url: str, name: str) -> "Iterator[duckdb.DuckDBPyRelation]":
    import duckdb

    file, (schema, _, bare) = url.removeprefix(DUCKDB), name.rpartition(".")
    if not Path(file).is_file():
        raise BadData(f"the database file of source {source!r} does not exist")
    known = "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1"
    with _readable(f"{source}:{name}"), duckdb.connect(file, read_only=True) as connection:
        connection.execute("SET enable_progress_bar = false")  # it would write on standard output
        there = [row[0] for row in connection.execute(known, [schema or "main"]).fetchall()]
        _refuse_unknown(source, name, bare, there)
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema or "main", bare))
        yield connection.table(quoted)


def _refuse_unknown(source: str, name: str, bare: str, there: list[str]) -> None:
    if bare not in there:
        raise UnknownRelation(f"{source} has no table or view {name!r}; it has {_listed(there)}")


@contextmanager
def _readable(relation_name: str) -> Iterator[None]:
    """What a reader raises is one line."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException, ValueError, OSError) as error:
        raise BadData(f"{relation_name} cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def database(source: str, url: str, name: str, *, write: bool = False) -> "Iterator[Engine]":
    """The source's engine while it is used; what goes wrong is one line, without the address.

    Unless it is to write, SQLite and PostgreSQL refuse whatever would change something, such as a view's function.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

    # With SQLite a transaction is begun by hand: its driver would begin none before a CREATE.
    options = {"connect_args": {"isolation_level": None}} if url.startswith("sqlite") else {}
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise MissingExtra(f"the source {source!r}", "postgres") from error
        raise BadData(f"the source {source!r} needs the package of its driver, {error.name}: install it") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadData(f"SOURCE_{source.upper()}_URL is not the URL of a database whose driver is installed") from error
    if "@" in (engine.url.host or ""):  # half of a password, which the driver would tell
        raise BadData(f"SOURCE_{source.upper()}_URL has an @ too many: one in a name or password is written %40")
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file and not Path(file).is_file():  # SQLite would make an empty one
        raise BadData(f"the database file of source {source!r} does not exist")
    if not write and engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only = ON"))
    verb = "written" if write else "read"
    try:
        yield engine if write else engine.execution_options(postgresql_readonly=True)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
        reason += "; reading it would write, and a source is only read" if not write and _would_write(reason) else ""
        kind = SourceUnavailable if isinstance(error, OperationalError) else BadData
        raise kind(f"{source}:{name} cannot be {verb}: {reason}") from error
    except UnicodeEncodeError as error:
        raise BadData(f"{source}:{name} cannot be {verb}: there is a character that no database can store") from error
    finally:
        engine.dispose()


def _would_write(reason: str) -> bool:
    return "read-only transaction" in reason or "readonly database" in reason


def default_schema(engine: "Engine") -> str | None:
    """That of a name without one, so that another of the search path, or the database's own, is never meant."""
    from sqlalchemy import inspect

    return inspect(engine).default_schema_name


def refuse_registry(engine: "Engine", source: str, schema: str | None) -> None:
    """A source is apart from the registry: else who may name a relation could read or replace what was decided."""
    from sqlalchemy import inspect

    if inspect(engine).has_table(VERSION_TABLE, schema):
        raise UnknownRelation(
            f"SOURCE_{source.upper()}_URL names a registry of Frontrunner's, whose tables are no relations: give the"
            " source a database or schema of its own"
        )


def _relations(engine: "Engine", schema: str | None) -> list[str]:
    from sqlalchemy import inspect

    inspector = inspect(engine)
    names = {*inspector.get_table_names(schema), *inspector.get_view_names(schema)}
    with suppress(NotImplementedError):  # a database without them
        names |= set(inspector.get_materialized_view_names(schema))
    return sorted(names)


def _listed(names: Iterable[str], limit: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "") or "none"

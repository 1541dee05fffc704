"""A relation name, `SOURCE:NAME`, to a table of rows. A name never carries a credential, an address or SQL."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import settings
from registry.errors import BadData, MissingExtra, UnknownRelation

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Engine

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
READ_ROWS = 10_000  # fetched from a database at a time: as Python objects they take many times their size
DUCKDB = "duckdb:///"  # read by its own package, which needs no driver of SQLAlchemy's
CSV_BLOCK = 2**31 - 1  # bytes; a column's type is told from the first block


def read(relation_name: str) -> "pa.Table":
    """The rows of a relation, in its own order: `sklearn:digits`, `files:flights.parquet`, `warehouse:public.orders`.

    They are there once, as Arrow's typed columns; a column's type is that of all its values, wherever its gaps are.

    Raises:
        UnknownRelation: there is no such source, file, table or view; the message lists what there is.
        BadData: it is there but cannot be read.
    """
    source, colon, name = relation_name.partition(":")
    if not colon or not name:
        raise UnknownRelation(f"relation {relation_name!r} is not SOURCE:NAME; sources are {_listed(_sources())}")
    if source == "sklearn":
        return _read_sklearn(name)
    if source == "files":
        return _read_file(name)
    url = settings.source_url(source)
    if url is None:
        raise UnknownRelation(
            f"there is no source {source!r}: sources are {_listed(_sources())}; SOURCE_{source.upper()}_URL would name"
            " a database"
        )
    return _read_table(source, url, name)


def _sources() -> list[str]:
    return ["sklearn", "files", *settings.sources()]


def _read_sklearn(name: str) -> "pa.Table":
    if name not in SKLEARN:
        raise UnknownRelation(f"scikit-learn ships no set {name!r}; it has {_listed(SKLEARN)}")
    import pyarrow as pa
    from sklearn import datasets

    return pa.Table.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame, preserve_index=False)


def _read_file(name: str) -> "pa.Table":
    root = settings.data_root().resolve()
    try:
        path = (root / name).resolve()  # a link is followed before it is judged
        there = path.suffix in (".csv", ".parquet") and path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UnknownRelation(f"files:{name!r} cannot be the name of a file: {error}") from error
    if not path.is_relative_to(root):
        raise UnknownRelation(f"files:{name} is outside DATA_ROOT, {root}")
    if not there:
        raise UnknownRelation(
            f"there is no CSV or Parquet file {name!r} below {root}; there are {_listed(_files(root))}"
        )
    with _readable(f"files:{name}"):
        return _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)


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

    table = parquet.ParquetFile(path).read()
    index = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    return table.drop_columns([name for name in index if name in table.column_names])  # no column of the frame


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.suffix in (".csv", ".parquet"))


def _read_table(source: str, url: str, name: str) -> "pa.Table":
    schema, _, bare = name.rpartition(".")
    if url.startswith(DUCKDB):
        return _read_duckdb(source, url.removeprefix(DUCKDB), schema or "main", bare)
    from sqlalchemy import select, table, text

    with _database(source, url, name) as engine:
        _refuse_unknown(source, name, bare, _relations(engine, schema or None))
        # One statement: the rows are those of one moment, whatever is written meanwhile.
        statement = select(text("*")).select_from(table(bare, schema=schema or None))
        streaming = {"stream_results": True, "max_row_buffer": READ_ROWS}
        with engine.connect().execution_options(**streaming) as connection, _readable(f"{source}:{name}"):
            result = connection.execute(statement)
            return _joined(list(result.keys()), result.partitions(READ_ROWS))


def _joined(names: list[str], chunks: "Iterable[Sequence[Sequence[Any]]]") -> "pa.Table":
    """Rows of Python values to one table, chunk by chunk."""
    import pyarrow as pa

    tables = [pa.table([pa.nulls(0)] * len(names), names=names)]
    for rows in chunks:
        columns = zip(*rows, strict=True)
        tables.append(pa.table([_column(*named) for named in zip(names, columns, strict=True)], names=names))
    return pa.concat_tables(tables, promote_options="permissive")  # the chunks stay where they are


def _column(name: str, values: "Sequence[Any]") -> "pa.Array[Any]":
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise BadData(f"column {name!r} does not hold values of one type: cast it ({_one_line(error)})") from error


def _read_duckdb(source: str, file: str, schema: str, name: str) -> "pa.Table":
    import duckdb

    if not Path(file).is_file():
        raise BadData(f"the database file of source {source!r} does not exist")
    known = "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1"
    with _readable(f"{source}:{name}"), duckdb.connect(file, read_only=True) as connection:
        there = [row[0] for row in connection.execute(known, [schema]).fetchall()]
        _refuse_unknown(source, name, name, there)
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
        return connection.table(quoted).to_arrow_table()


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
def _database(source: str, url: str, name: str) -> "Iterator[Engine]":
    """The source's engine while it is read; what goes wrong is one line, without the address."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        engine = create_engine(url)
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
    try:
        yield engine
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0]
        raise BadData(f"{source}:{name} cannot be read: {reason}") from error
    finally:
        engine.dispose()


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

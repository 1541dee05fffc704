"""Score a relation with the live model, part by part, into a file or a table: all of it or nothing."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import Predictor
from registry.errors import BadData, InvalidInput, UnknownValue
from registry.history import checked_name
from registry.values import LiveModel
from tasks import sources

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy
    from sqlalchemy import Connection, Engine

log = logging.getLogger("frontrunner")

IF_EXISTS = ("replace", "append")
SUFFIXES = (".parquet", ".csv")
REQUEST = "request_key"  # of a table's rows: those of an earlier try are replaced


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What was scored, by which model, and where the answers are."""

    project_name: str
    relation_name: str
    output: str
    rows: int
    model_id: int
    algorithm_name: str
    scored_at: datetime


@dataclass(frozen=True, slots=True)
class _Scored:
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


@task(cache_policy=NO_CACHE, task_run_name="score {relation_name}")
def score_rows(project_name: str, relation_name: str, output: str, if_exists: str, key: str) -> PredictResult:
    """The scoring as a step of a flow."""
    return score_relation(project_name, relation_name, output, if_exists, key)


def score_relation(project_name: str, relation_name: str, output: str, if_exists: str, key: str) -> PredictResult:
    """Writes every column of the relation with `prediction` (one for each target, `prediction_<target>`, of a joint
    regression), `model_id` and `scored_at` to `files:NAME.parquet`, `files:NAME.csv` or `SOURCE:SCHEMA.TABLE`.

    One model answers for all rows. The output is touched when all rows are scored: a file is swapped in whole, a table
    is written in one transaction. With the same `key` again, rows that were appended are replaced.

    Raises:
        UnknownProject, NothingDeployed: nothing can answer.
        InvalidInput: the relation cannot be scored, or the output cannot be written.
    """
    if if_exists not in IF_EXISTS:
        raise UnknownValue("if_exists", if_exists, IF_EXISTS)
    write = _writer(output, if_exists, key)
    predictor = Predictor(checked_name(project_name))
    now = datetime.now(UTC)
    with TemporaryDirectory(prefix="frontrunner-") as folder:
        scored = _scored(predictor, relation_name, now, Path(folder))
        write(scored)
    model = predictor.model
    log.info("%s: %s rows of model %d (%s)", output, f"{scored.rows:,}", model.id, model.algorithm)
    return PredictResult(model.project_name, relation_name, output, scored.rows, model.id, model.algorithm, now)


def _scored(predictor: Predictor, relation_name: str, now: datetime, folder: Path) -> _Scored:
    import pyarrow as pa
    from pyarrow import parquet

    files, schemas, rows = [], [], 0
    for number, part in enumerate(sources.parts(relation_name, _types(predictor))):
        _refuse_twice(part, relation_name)
        answered = _answered(predictor, part, relation_name, now)
        files.append(folder / f"{number}.parquet")
        parquet.write_table(answered, files[-1])
        schemas.append(answered.schema)
        rows += part.num_rows
        if part.num_rows:
            log.info("scored %s rows of %s", f"{rows:,}", relation_name)
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise BadData(f"a column of {relation_name} changes its type: {' '.join(str(error).split())}") from error
    return _Scored(files, schema.remove_metadata(), rows)


def _refuse_twice(part: "pa.Table", relation_name: str) -> None:
    names = part.column_names
    if twice := [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []:
        raise BadData(f"{relation_name} has two columns named {twice[0]!r}: rename one")


def _answered(predictor: Predictor, part: "pa.Table", relation_name: str, now: datetime) -> "pa.Table":
    import pyarrow as pa

    model = predictor.model
    names = [name for name, _ in predictor.features]
    known = part.select([name for name in part.column_names if name in names] or part.column_names)
    _, answers = predictor.answer(known.to_pandas())
    columns = answers.reshape(part.num_rows, -1).T if part.num_rows else [answers] * len(_answer_names(model))
    added: dict[str, Any] = {
        name: pa.array(column.tolist(), _arrow_type(answers))
        for name, column in zip(_answer_names(model), columns, strict=True)
    }
    added["model_id"] = pa.array([model.id] * part.num_rows, pa.int64())
    added["scored_at"] = pa.array([now] * part.num_rows, pa.timestamp("us", "UTC"))
    for name, values in added.items():
        if name in part.column_names:
            raise BadData(f"{relation_name} has a column {name!r} already: rename it, the scoring adds one")
        part = part.append_column(name, values)
    return part


def _answer_names(model: LiveModel) -> list[str]:
    targets = model.y_column_names
    return ["prediction"] if len(targets) == 1 else [f"prediction_{target}" for target in targets]


def _arrow_type(answers: Any) -> "pa.DataType":
    import pyarrow as pa

    return pa.string() if answers.dtype.kind in "UO" else pa.from_numpy_dtype(answers.dtype)


def _types(predictor: Predictor) -> "dict[str, pa.DataType]":
    """What a CSV file's columns are to be read as: text, although these rows may have nothing but digits in it."""
    import pyarrow as pa

    return {name: pa.string() for name, kind in predictor.features if kind == "string"}


def _writer(output: str, if_exists: str, key: str) -> Any:
    """What writes to this output; it is refused before anything is read."""
    source, name, url = sources.located(output)
    if source == "sklearn" or url.startswith(sources.DUCKDB):
        raise InvalidInput(f"{output} is read only: write to files:NAME.parquet, or to a table of SQLite or PostgreSQL")
    if source == "files":
        path = sources.file_path(name)
        if path.suffix not in SUFFIXES or path.is_dir():
            raise InvalidInput(f"an output file is files:NAME.parquet or files:NAME.csv, not {output}")
        if if_exists == "append":
            raise InvalidInput(f"{output} is a file, which is replaced as a whole: append to a table")
        return lambda scored: _write_file(scored, path)
    with sources.database(source, url, name, "written") as engine:
        _refuse_view(engine, name)

    def write(scored: _Scored) -> None:
        with sources.database(source, url, name, "written") as engine:
            _write_table(engine, name, scored, if_exists, key)

    return write


def _write_file(scored: _Scored, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    kind = csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".frontrunner-") as beside:
            whole = Path(beside) / path.name
            with kind(whole, scored.schema) as file:
                for part in scored.parts():
                    file.write_table(part)
            whole.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from error
    except pa.ArrowException as error:  # CSV has no lists
        raise BadData(f"{path} cannot be written: {' '.join(str(error).split())}") from error


def _write_table(engine: "Engine", name: str, scored: _Scored, if_exists: str, key: str) -> None:
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

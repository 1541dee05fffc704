"""Read a whole project from one registry and insert it into another, which gives its rows new ids.

Rows are dictionaries that JSON can hold. This module names a column only if its value means something else in another
registry. All other columns are copied unchanged, including those that later versions add.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Enum, Table, insert, select
from sqlalchemy.orm import Session

from registry.errors import ExportDamaged, ProjectExists, ProjectImported
from registry.rows import project_row
from registry.schema import Base, Decision, Deployment, Model, Project, Quarantine, Snapshot, UtcDateTime
from registry.session import exists, transaction

Row = dict[str, Any]
Rows = Callable[[str], Iterable[Row]]  # the rows of the table of that name
NewLocations = dict[tuple[str, int], Row]  # new values of columns, by a row's table and its id in the file

# In the order in which their rows refer to each other.
TABLES = tuple(row.__tablename__ for row in (Project, Snapshot, Model, Quarantine, Deployment, Decision))
# Columns that mean nothing to another MLflow.
LOCAL_TO_MLFLOW = frozenset({"mlflow_run_id", "mlflow_model_id", "mirrored_seq"})
BATCH_ROWS = 100


@contextmanager
def read_project(project_name: str) -> Iterator[Rows]:
    """Read a consistent view of the project's rows, ordered by id within a table. Raises: UnknownProject."""
    with transaction(repeatable_read=True) as session:
        project_id = project_row(session, project_name).id
        yield lambda table: _rows(session, Base.metadata.tables[table], project_id)


def refuse_known(name: str, request_key: str) -> None:
    """Raise ProjectImported if a project here has a snapshot with this key, ProjectExists if the name is taken."""
    if exists():
        with transaction() as session:
            _refuse_known(session, name, request_key)


def insert_project(rows: Rows, name: str, locations: NewLocations) -> None:
    """Write the project under this name in one transaction: all of it or nothing.

    Ids are new, in the order of the old ones. Everything else is unchanged, except what `locations` replaces.

    Raises:
        ProjectImported, ProjectExists: as `refuse_known`.
        ExportDamaged: the rows are not those of one project.
        RegistryConflict: a constraint refused a row.
    """
    ids: dict[str, dict[int, int]] = {table: {} for table in TABLES}
    with transaction(write=True) as session:
        for snapshot in rows(Snapshot.__tablename__):
            _refuse_known(session, name, snapshot.get("request_key", ""))
        for table in TABLES:
            for row in rows(table):
                new = row | _without_locations(Base.metadata.tables[table], row) | locations.get((table, row["id"]), {})
                new |= {"name": name} if table == Project.__tablename__ else {}
                ids[table][row["id"]] = _insert(session, Base.metadata.tables[table], new, ids)
        if len(ids[Project.__tablename__]) != 1:
            raise ExportDamaged("it does not hold exactly one project")


def _rows(session: Session, table: Table, project_id: int) -> Iterator[Row]:
    owner = table.c.id if table.name == Project.__tablename__ else table.c.project_id
    statement = select(table).where(owner == project_id).order_by(table.c.id).execution_options(yield_per=BATCH_ROWS)
    for row in session.execute(statement).mappings():
        yield {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _refuse_known(session: Session, name: str, request_key: str) -> None:
    known = select(Project.name).join(Snapshot, Snapshot.project_id == Project.id)
    if (there := session.scalar(known.where(Snapshot.request_key == request_key))) is not None:
        raise ProjectImported(there)
    if session.scalar(select(Project.id).where(Project.name == name)) is not None:
        raise ProjectExists(name)


def _without_locations(table: Table, row: Row) -> Row:
    """Return empty values for the columns that name files and MLflow runs of the other registry."""
    names = {name for name in row if name in LOCAL_TO_MLFLOW or name.endswith("_uri")} & set(table.c.keys())
    return {name: None if table.c[name].nullable else "" for name in names}


def _insert(session: Session, table: Table, row: Row, ids: dict[str, dict[int, int]]) -> int:
    """Insert a row and return its new id."""
    if unknown := row.keys() - table.c.keys():
        raise ExportDamaged(f"a row of {table.name} has unknown columns: {', '.join(sorted(unknown))}")
    try:
        values = {name: _value(table.c[name], given, ids) for name, given in row.items() if name != "id"}
        if table.name == Decision.__tablename__:
            values["candidate_ids"] = [ids[Model.__tablename__][each] for each in row["candidate_ids"]]
        if table.name == Deployment.__tablename__:  # files from before version 0003 have no algorithm
            values["algorithm"] = select(Model.algorithm).where(Model.id == values["model_id"]).scalar_subquery()
    except (KeyError, TypeError, ValueError) as error:
        raise ExportDamaged(f"row {row.get('id')} of {table.name} cannot be read: {error!r}") from error
    return int(session.scalars(insert(table).values(values).returning(table.c.id)).one())


def _value(column: Column[Any], given: Any, ids: dict[str, dict[int, int]]) -> Any:
    kind = column.type
    if given is None or isinstance(kind, JSON):
        return given
    if refers := [key.column.table.name for key in column.foreign_keys if key.column.name == "id"]:
        return ids[refers[0]][given]
    if isinstance(kind, UtcDateTime):
        return datetime.fromisoformat(given)
    if isinstance(kind, Enum):
        return kind.enum_class(given) if kind.enum_class else given
    if not isinstance(given, kind.python_type):
        raise TypeError(f"{column.name} is not {given!r}")
    return given

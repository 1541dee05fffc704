"""A relation name, `SOURCE:NAME`, to a table of rows. A name never carries a credential, an address or SQL."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from registry import settings
from registry.errors import BadData, MissingExtra, UnknownRelation

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
READ_ROWS = 100_000  # fetched from a database at a time


def read(relation_name: str) -> "pd.DataFrame":
    """The rows of a relation, in its own order: `sklearn:digits`, `files:flights.parquet`, `warehouse:public.orders`.

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


def _read_sklearn(name: str) -> "pd.DataFrame":
    if name not in SKLEARN:
        raise UnknownRelation(f"scikit-learn ships no set {name!r}; it has {_listed(SKLEARN)}")
    from sklearn import datasets

    frame: pd.DataFrame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    return frame


def _read_file(name: str) -> "pd.DataFrame":
    import pandas as pd

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
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise BadData(f"files:{name} cannot be read: {' '.join(str(error).split())}") from error


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.suffix in (".csv", ".parquet"))


def _read_table(source: str, url: str, name: str) -> "pd.DataFrame":
    import pandas as pd
    from sqlalchemy import select, table, text

    schema, _, bare = name.rpartition(".")
    with _database(source, url, name) as engine:
        there = _relations(engine, schema or None)
        if bare not in there:
            raise UnknownRelation(f"{source} has no table or view {name!r}; it has {_listed(there)}")
        # One statement: the rows are those of one moment, whatever is written meanwhile.
        statement = select(text("*")).select_from(table(bare, schema=schema or None))
        with engine.connect().execution_options(stream_results=True) as connection:
            return pd.concat(pd.read_sql(statement, connection, chunksize=READ_ROWS), ignore_index=True)


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

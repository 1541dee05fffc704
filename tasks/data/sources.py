"""Read the rows of a relation by its name, `SOURCE:NAME`. A name never carries a credential, an address or SQL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from registry import settings
from registry.errors import UnknownRelation
from tasks.data import files
from tasks.data.databases import read_table, table_parts
from tasks.data.files import SUFFIXES, Types, file_parts, read_file
from tasks.data.messages import listed, readable

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
# Schemas in which databases keep their own tables, users among them. PostgreSQL's own begin with pg_.
SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")


def read(relation_name: str) -> pa.Table:
    """Return the rows of a relation, in its own order: `sklearn:digits`, `files:a.parquet`, `warehouse:public.orders`.

    They are in memory once, as Arrow's typed columns. A column's type is that of all its values, wherever values are
    missing.

    Raises:
        UnknownRelation: there is no such source, file, table or view; the message lists what there is.
        BadData: it is there but cannot be read.
    """
    source, name, url = parse_relation(relation_name)
    if source == "sklearn":
        return _read_sklearn(name)
    if source == "files":
        path = _existing_file(name)
        with readable(relation_name), open_inside_root(path) as opened:
            return read_file(opened, path.name)
    return read_table(source, url, name)


def parts(relation_name: str, types: Types) -> Iterator[pa.Table]:
    """Yield the rows of a relation in parts, at least one; `types` of columns of a CSV file are not to be inferred.

    A column's type is that of all its values; in a table of a database, that of its values in the part.

    Raises:
        UnknownRelation, BadData: as `read`; the latter also after some parts.
    """
    source, name, url = parse_relation(relation_name)
    if source == "sklearn":
        yield from _slices(_read_sklearn(name))
    elif source == "files":
        path = _existing_file(name)
        with readable(relation_name), open_inside_root(path) as opened:
            yield from file_parts(opened, path.name, types)
    else:
        yield from table_parts(source, url, name)


def parse_relation(relation_name: str) -> tuple[str, str, str]:
    """Return the source, the name in it, and its database's address (empty for scikit-learn's sets and files).

    Raises:
        UnknownRelation: it has another form, there is no such source, or it is in a database's own schema.
    """
    source, colon, name = str(relation_name).partition(":")
    if not colon or not name:
        is_file = str(relation_name).endswith((".csv", ".parquet"))
        hint = f"; a file is files:PATH, from {settings.data_root()} on" if is_file else ""
        raise UnknownRelation(f"relation {relation_name!r} is not SOURCE:NAME; sources are {listed(_sources())}{hint}")
    if source in ("sklearn", "files"):
        return source, name, ""
    url = settings.source_url(source)
    if url is None:
        raise UnknownRelation(
            f"there is no source {source!r}: sources are {listed(_sources())}; SOURCE_{source.upper()}_URL would name"
            " a database"
        )
    for schema in name.lower().split(".")[:-1]:
        if schema in SYSTEM_SCHEMAS or schema.startswith("pg_"):
            raise UnknownRelation(f"{source}:{name} is in {schema}, where the database keeps its own: name a table")
    return source, name, url


def file_path(name: str) -> Path:
    """Return a path below DATA_ROOT, whether a file is there or not. Raises: UnknownRelation: it would be elsewhere."""
    root = settings.data_root().resolve()
    try:
        path = (root / name).resolve()  # links are followed before the path is checked
        path.is_file()  # raises where the name is too long
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have, or a link to itself
        raise UnknownRelation(f"files:{name!r} cannot be the name of a file: {error}") from error
    if not path.is_relative_to(root):
        raise UnknownRelation(f"files:{name} is outside DATA_ROOT, {root}")
    return path


@contextmanager
def open_inside_root(path: Path) -> Iterator[Path]:
    """Open a file or folder below DATA_ROOT and yield a path to it that no longer depends on links.

    On Linux that is the open file's own path. On other systems it is the path itself, whose links could still change.

    Raises:
        UnknownRelation: it is outside DATA_ROOT: a link was changed since the path was checked.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        own = Path(f"/proc/self/fd/{handle}")
        opened = own if own.exists() else path
        if not opened.resolve().is_relative_to(settings.data_root().resolve()):
            raise UnknownRelation(f"{path} is outside DATA_ROOT by now: a link was changed while it was opened")
        yield opened
    finally:
        os.close(handle)


def _sources() -> list[str]:
    return ["sklearn", "files", *settings.sources()]


def _read_sklearn(name: str) -> pa.Table:
    if name not in SKLEARN:
        raise UnknownRelation(f"scikit-learn ships no set {name!r}; it has {listed(SKLEARN)}")
    from sklearn import datasets  # slow to import, and needed by this source only

    return pa.Table.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame, preserve_index=False)


def _existing_file(name: str) -> Path:
    path, root = file_path(name), settings.data_root().resolve()
    if path.suffix not in SUFFIXES or not path.is_file():
        there = listed(_files(root))
        raise UnknownRelation(f"there is no CSV or Parquet file {name!r} below {root}; there are {there}")
    return path


def _files(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*.*") if path.suffix in SUFFIXES and path.is_file()
    )


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, max(table.num_rows, 1), files.PART_ROWS):
        yield table.slice(start, files.PART_ROWS)

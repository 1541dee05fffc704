"""Read the rows of a relation by its name, `SOURCE:NAME`, which holds no credential, address or SQL."""

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
    """Return the rows of `sklearn:digits`, `files:a.parquet` or `warehouse:public.orders`, in the relation's own order.

    A column's type depends on all its values, wherever values are missing.

    Raises:
        UnknownRelation: there is no such source, file, table or view; the message lists the existing ones.
        BadData: the relation cannot be read.
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
    """Yield the rows of a relation in parts, at least one. `types` overrides inferred types of a CSV file's columns.

    A column's type depends on all its values, but for a database table only on its values in the part.

    Raises:
        UnknownRelation, BadData: as `read`. BadData may also follow some parts.
    """
    source, name, url = parse_relation(relation_name)
    if source == "sklearn":
        table = _read_sklearn(name)
        for start in range(0, max(table.num_rows, 1), files.PART_ROWS):
            yield table.slice(start, files.PART_ROWS)
    elif source == "files":
        path = _existing_file(name)
        with readable(relation_name), open_inside_root(path) as opened:
            yield from file_parts(opened, path.name, types)
    else:
        yield from table_parts(source, url, name)


def parse_relation(relation_name: str) -> tuple[str, str, str]:
    """Return the source, the name in it, and its database's address, which is empty for scikit-learn and files.

    Raises:
        UnknownRelation: the name has another form, its source does not exist, or it is in a database's system schema.
    """
    source, colon, name = str(relation_name).partition(":")
    if not colon or not name:
        is_file = str(relation_name).endswith((".csv", ".parquet"))
        hint = f"; a file is files:PATH, relative to {settings.data_root()}" if is_file else ""
        raise UnknownRelation(f"relation {relation_name!r} is not SOURCE:NAME; sources are {listed(_sources())}{hint}")
    if source in ("sklearn", "files"):
        return source, name, ""
    url = settings.source_url(source)
    if url is None:
        raise UnknownRelation(
            f"there is no source {source!r}: sources are {listed(_sources())}; set SOURCE_{source.upper()}_URL to add"
            " a database"
        )
    for schema in name.lower().split(".")[:-1]:
        if schema in SYSTEM_SCHEMAS or schema.startswith("pg_"):
            raise UnknownRelation(f"{source}:{name} is in the system schema {schema}: choose a table of another schema")
    return source, name, url


def file_path(name: str) -> Path:
    """Return the path of a file, which need not exist; raise UnknownRelation if it is not below DATA_ROOT."""
    root = settings.data_root().resolve()
    try:
        path = (root / name).resolve()  # links are followed before the path is checked
        path.is_file()  # raises an error if the name is too long
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have, or a link to itself
        raise UnknownRelation(f"files:{name!r} cannot be the name of a file: {error}") from error
    if not path.is_relative_to(root):
        raise UnknownRelation(f"files:{name} is outside DATA_ROOT, {root}")
    return path


@contextmanager
def open_inside_root(path: Path) -> Iterator[Path]:
    """Open a file or folder below DATA_ROOT and yield a path to it that no longer depends on links.

    Linux has such paths of open files. On other systems it is the given path, whose links could still change.

    Raises:
        UnknownRelation: it is outside DATA_ROOT, because a link changed after the path was checked.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        own = Path(f"/proc/self/fd/{handle}")
        opened = own if own.exists() else path
        if not opened.resolve().is_relative_to(settings.data_root().resolve()):
            raise UnknownRelation(f"{path} is outside DATA_ROOT by now: a link changed while it was opened")
        yield opened
    finally:
        os.close(handle)


def _sources() -> list[str]:
    return ["sklearn", "files", *settings.sources()]


def _read_sklearn(name: str) -> pa.Table:
    if name not in SKLEARN:
        raise UnknownRelation(f"scikit-learn has no data set {name!r}; it has {listed(SKLEARN)}")
    from sklearn import datasets  # slow to import, and only this source needs it

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

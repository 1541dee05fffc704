"""One-line messages about sources."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from registry.errors import BadData


@contextmanager
def readable(relation_name: str) -> Iterator[None]:
    """Translate a reader's error into BadData."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, ValueError, OSError) as error:
        raise BadData(f"{relation_name} cannot be read: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def listed(names: Iterable[str], limit: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "") or "none"

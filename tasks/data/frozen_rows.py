"""Read the rows of a snapshot back from its frozen file."""

import ctypes
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet, types

from registry.serving.artifacts import verified
from registry.values import Artifact, SnapshotRecord
from tasks.data.row_hashes import Hashes, row_hashes
from tasks.data.statistics import THREADS
from tasks.values import Rows

LARGE_BYTES = 100_000_000  # of a snapshot's rows as float64

_reading = Lock()  # the candidates of a Dask worker start together, and only the first one is to read the file


def is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def is_large(snapshot: SnapshotRecord) -> bool:
    """Return whether to read the numbers as float32 and to fit one candidate at a time."""
    return (snapshot.train_rows + snapshot.test_rows) * len(snapshot.columns) * 8 > LARGE_BYTES


def rows(snapshot: SnapshotRecord) -> Rows:
    """Return the frozen rows, which this process reads once and caches.

    Raises:
        ArtifactMissing: the file is gone.
        ArtifactChanged: the file is not the one that was recorded.
    """
    with _reading:
        return _read(snapshot.artifact, snapshot.y_column_names, snapshot.train_rows, is_large(snapshot))


@contextmanager
def rows_kept() -> Iterator[None]:
    """Cache rows until the end of the block."""
    try:
        yield
    finally:
        forget()


def forget() -> None:
    """Clear the cache of rows."""
    _read.cache_clear()


def give_back() -> None:
    """Return free memory to the operating system: Arrow keeps it, and glibc keeps it for each thread."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def hashes_of_test_rows(snapshot: SnapshotRecord, columns: list[str]) -> Hashes:
    """Return the hashes of the test rows by these columns only."""
    parts, skip = [], snapshot.train_rows
    with verified(snapshot.artifact) as path:
        file = parquet.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skip < rows:
                parts.append(row_hashes(file.read_row_group(group, columns=columns).slice(skip)))
                pa.default_memory_pool().release_unused()
            skip = max(0, skip - rows)
    give_back()
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def _read(artifact: Artifact, y_column_names: tuple[str, ...], train_rows: int, large: bool) -> Rows:
    with verified(artifact) as path:
        file = parquet.ParquetFile(path, pre_buffer=False)
        labels = file.read(list(y_column_names))
        features = [field for field in file.schema_arrow if field.name not in y_column_names]
        X = file.read([field.name for field in features if not (large and is_number(field.type))]).to_pandas()
        if large:
            numbers = [field.name for field in features if is_number(field.type)]
            X = pd.concat([_float32(path, len(labels), numbers), X], axis="columns")
    targets = [labels_of(labels[name]) for name in y_column_names]
    y = targets[0] if len(targets) == 1 else np.column_stack(targets)
    return Rows(X.iloc[:train_rows], y[:train_rows], X.iloc[train_rows:], y[train_rows:])


def _float32(path: Path, rows: int, names: list[str]) -> pd.DataFrame:
    """Return columns of numbers as one block. It is filled column by column, so that no second copy is in memory."""
    block = np.empty((rows, len(names)), np.float32, order="F")

    def fill(first: int) -> None:
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # threads must not share one
            for column in range(first, len(names), THREADS):
                block[:, column] = file.read([names[column]], use_threads=False)[0].to_numpy()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(THREADS)))
    return pd.DataFrame(block, columns=names, copy=False)


def labels_of(target: "pa.ChunkedArray[Any]") -> np.ndarray[Any, Any]:
    """Return the labels, text in NumPy's own text type, which a fitted classifier returns unchanged."""
    values: np.ndarray[Any, Any] = target.to_numpy()
    return values.astype(str) if values.dtype == object else values

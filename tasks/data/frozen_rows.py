"""The rows of a snapshot, read back from its frozen file."""

import ctypes
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from registry.serving.artifacts import verified
from registry.values import Artifact, SnapshotRecord
from tasks.data.row_hashes import Hashes, row_hashes
from tasks.data.statistics import THREADS
from tasks.values import Rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


LARGE_BYTES = 100_000_000  # of a snapshot's rows as float64


_reading = Lock()  # candidates of one Dask worker start together: the first one reads, the others find it read


def is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def rows(snapshot: SnapshotRecord) -> Rows:
    """Return the frozen rows, read once for all that this process does with them.

    Raises:
        ArtifactMissing, ArtifactChanged: the file is gone, or is not the one that was recorded.
    """
    with _reading:
        return _read(snapshot.artifact, snapshot.y_column_names, snapshot.train_rows, is_large(snapshot))


@contextmanager
def rows_kept() -> Iterator[None]:
    """A process that lives on after a run gets its memory back."""
    try:
        yield
    finally:
        forget()


def forget() -> None:
    """Lets go of the rows that were read."""
    _read.cache_clear()


def give_back() -> None:
    """Memory that is free goes back to the system: Arrow and glibc keep it, glibc for each thread that had some."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def hashes_of_test_rows(snapshot: SnapshotRecord, columns: list[str]) -> Hashes:
    """The hashes that a snapshot's test rows have by these columns alone."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

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


def is_large(snapshot: SnapshotRecord) -> bool:
    """Then its numbers are read as float32, and its candidates are fitted one at a time."""
    return (snapshot.train_rows + snapshot.test_rows) * len(snapshot.columns) * 8 > LARGE_BYTES


@lru_cache(maxsize=1)
def _read(artifact: Artifact, y_column_names: tuple[str, ...], train_rows: int, large: bool) -> Rows:
    import numpy as np
    import pandas as pd
    from pyarrow import parquet

    with verified(artifact) as path:
        file = parquet.ParquetFile(path, pre_buffer=False)
        labels = file.read(list(y_column_names))
        features = [field for field in file.schema_arrow if field.name not in y_column_names]
        small = [field.name for field in features if not (large and is_number(field.type))]
        X = file.read(small).to_pandas()
        if large:
            numbers = [field.name for field in features if is_number(field.type)]
            X = pd.concat([_float32(path, len(labels), numbers), X], axis="columns")
    targets = [labels_of(labels[name]) for name in y_column_names]
    y = targets[0] if len(targets) == 1 else np.column_stack(targets)
    return Rows(X.iloc[:train_rows], y[:train_rows], X.iloc[train_rows:], y[train_rows:])


def _float32(path: Path, rows: int, names: list[str]) -> "pd.DataFrame":
    """Columns of numbers as one block, filled column by column: there is never a second copy of them."""
    import numpy as np
    import pandas as pd
    from pyarrow import parquet

    block = np.empty((rows, len(names)), np.float32, order="F")

    def fill(first: int) -> None:
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # no two threads may share one
            for column in range(first, len(names), THREADS):
                block[:, column] = file.read([names[column]], use_threads=False)[0].to_numpy()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(THREADS)))
    return pd.DataFrame(block, columns=names, copy=False)


def labels_of(target: "pa.ChunkedArray[Any]") -> "np.ndarray[Any, Any]":
    """Text labels as numpy's own text, which a fitted classifier keeps and gives back."""
    values: np.ndarray[Any, Any] = target.to_numpy()
    return values.astype(str) if values.dtype == object else values

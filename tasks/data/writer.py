"""Write the rows of a large table in another order, without a second copy of them in memory.

Each column of a table that was read has many chunks, and every `take` would combine them again. So the columns are
combined first, one after the other, and the chunks of each are freed before the next. Then the rows are taken and
written in parts. One part is written while the next is taken, so that at most two are in memory. Floats rarely repeat
and are written without a dictionary.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet, types

from tasks.data.row_hashes import STORED, row_hashes

PART_BYTES, MIN_PART_ROWS = 32_000_000, 5_000
HASHED_ROWS = 50_000  # at a time


def combined(columns: "list[pa.ChunkedArray[Any]]", schema: pa.Schema) -> pa.Table:
    """Return a table whose columns have one chunk each.

    The list is changed in place, which frees the chunks that have no other reference.
    """
    for number, column in enumerate(columns):
        if column.num_chunks > 1:
            columns[number] = pa.chunked_array([column.combine_chunks()])
            del column
            pa.default_memory_pool().release_unused()
    return pa.Table.from_arrays(columns, schema=schema)


def write_rows(table: pa.Table, order: np.ndarray[Any, Any], path: Path, hashes: Path) -> None:
    """Write the rows at these positions to a Parquet file, and the hash of each to a file of 64-bit numbers."""
    repeating = [field.name for field in table.schema if not types.is_floating(field.type)]
    rows = max(MIN_PART_ROWS, PART_BYTES * len(table) // max(table.nbytes, 1))
    with (
        parquet.ParquetWriter(path, table.schema, use_dictionary=repeating) as file,
        hashes.open("wb") as hash_file,
        ThreadPoolExecutor(1) as pool,
    ):
        written: Future[None] | None = None
        for start in range(0, len(order), rows):
            part = table.take(order[start : start + rows])
            if written:
                written.result()  # at most two parts are in memory
            written = pool.submit(file.write_table, part)
            for at in range(0, len(part), HASHED_ROWS):
                hash_file.write(row_hashes(part.slice(at, HASHED_ROWS)).astype(STORED).tobytes())
        if written:
            written.result()

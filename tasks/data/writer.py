"""Write the rows of a large table in another order, without a second copy of them in memory.

A table as it was read has each column in many chunks, which `take` would combine each time that some rows are taken.
So the columns are combined once, one after the other, each one's chunks being freed before the next. The rows are then
taken and written part by part: one part is written to the file while the next one is taken, and there are never more
than two. Numbers that hardly repeat are written without a dictionary, which would only cost memory.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet, types

from tasks.data.row_hashes import STORED, row_hashes

PART_BYTES, LEAST_PART_ROWS = 32_000_000, 5_000
HASHED_ROWS = 50_000  # at a time


def combined(columns: "list[pa.ChunkedArray[Any]]", schema: pa.Schema) -> pa.Table:
    """Return a table of columns of one chunk each.

    The list is changed in place: whoever holds no other reference to a column's chunks has them freed.
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
    rows = max(LEAST_PART_ROWS, PART_BYTES * len(table) // max(table.nbytes, 1))
    with (
        parquet.ParquetWriter(path, table.schema, use_dictionary=repeating) as file,
        hashes.open("wb") as beside,
        ThreadPoolExecutor(1) as pool,
    ):
        written: Future[None] | None = None
        for start in range(0, len(order), rows):
            part = table.take(order[start : start + rows])
            if written:
                written.result()  # before the part after the next one is taken
            written = pool.submit(file.write_table, part)
            for at in range(0, len(part), HASHED_ROWS):
                beside.write(row_hashes(part.slice(at, HASHED_ROWS)).astype(STORED).tobytes())
        if written:
            written.result()

"""Read CSV and Parquet files, whole or in parts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from pyarrow import csv, parquet

from registry.errors import BadData

SUFFIXES = (".csv", ".parquet")
PART_ROWS = 50_000
CSV_BLOCK_BYTES = 2**31 - 1  # a column's type is inferred from the first block
CSV_PART_BYTES = 2**22  # Arrow reads about thirty parts ahead

Types = dict[str, pa.DataType]


def read_file(path: Path, name: str) -> pa.Table:
    """Return the rows of a file. `path` may be that of its open file, and so not end with its name."""
    return _read_csv(path) if name.endswith(".csv") else _read_parquet(path, name)


def file_parts(path: Path, name: str, types: Types) -> Iterator[pa.Table]:
    """Yield the rows in parts, at least one. `types` overrides the inferred types of a CSV file's columns."""
    return _csv_parts(path, types) if name.endswith(".csv") else _parquet_parts(path)


def batches_as_tables(reader: "pa.RecordBatchReader | csv.CSVStreamingReader") -> Iterator[pa.Table]:
    """Yield the batches as tables, after an empty one: a source without rows has a part, too."""
    yield reader.schema.empty_table()
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _csv_options(types: Types, block_bytes: int) -> dict[str, Any]:
    return {
        "read_options": csv.ReadOptions(block_size=block_bytes),
        "parse_options": csv.ParseOptions(newlines_in_values=True),
        "convert_options": csv.ConvertOptions(strings_can_be_null=True, column_types=types),
    }


def _read_csv(path: Path) -> pa.Table:
    return csv.read_csv(path, **_csv_options({}, min(max(path.stat().st_size, 1), CSV_BLOCK_BYTES)))


def _csv_parts(path: Path, types: Types) -> Iterator[pa.Table]:
    if path.stat().st_size > CSV_PART_BYTES:  # a smaller file is a single part, whose types Arrow infers
        types = _csv_types(path) | types
    with csv.open_csv(path, **_csv_options(types, CSV_PART_BYTES)) as reader:
        yield from batches_as_tables(reader)


def _csv_types(path: Path) -> Types:
    """Infer each column's type from all its values: read every part as text, and infer its types separately."""
    with csv.open_csv(path, **_csv_options({}, CSV_PART_BYTES)) as reader:
        kinds: dict[str, set[pa.DataType]] = {name: set() for name in reader.schema.names}
    with csv.open_csv(path, **_csv_options(dict.fromkeys(kinds, pa.string()), CSV_PART_BYTES)) as reader:
        for batch in reader:
            for field in _inferred(batch):
                kinds[field.name].add(field.type)
    return {name: _common(found - {pa.null()}) for name, found in kinds.items()}


def _inferred(batch: "pa.RecordBatch") -> "pa.Schema":
    buffer = pa.BufferOutputStream()
    csv.write_csv(batch, buffer)
    text = buffer.getvalue()
    return csv.read_csv(pa.BufferReader(text), **_csv_options({}, text.size)).schema


def _common(kinds: "set[pa.DataType]") -> pa.DataType:
    """Return the narrowest type that holds the values of all parts; text if there is no narrower one."""
    for ladder in ([pa.int64(), pa.float64()], [pa.date32(), pa.timestamp("s"), pa.timestamp("ns")]):
        if kinds and kinds <= set(ladder):
            return max(kinds, key=ladder.index)
    return pa.string() if len(kinds) > 1 else next(iter(kinds), pa.null())


def _read_parquet(path: Path, name: str) -> pa.Table:
    file = parquet.ParquetFile(path, pre_buffer=False)  # the buffer would be a second copy in memory
    needed, available = file.metadata.num_rows * file.metadata.num_columns * 8, psutil.virtual_memory().total
    if needed > available:  # a file of some kilobytes can claim any number of rows
        raise BadData(
            f"the rows of {name} need at least {needed / 1e9:,.0f} GB of memory, and this machine has"
            f" {available / 1e9:,.0f}: use fewer rows"
        )
    table = file.read()
    table.validate(full=True)  # finds text that is not UTF-8
    index = _index_columns(table.schema)
    return table.drop_columns([name for name in table.column_names if name in index])


def _index_columns(schema: pa.Schema) -> list[Any]:
    """Return the index columns that pandas wrote. Metadata of other programs may have any form."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return []
    names = metadata.get("index_columns") if isinstance(metadata, dict) else None
    return names if isinstance(names, list) else []


def _parquet_parts(path: Path) -> Iterator[pa.Table]:
    file = parquet.ParquetFile(path)
    schema = file.schema_arrow
    kept = [name for name in schema.names if name not in _index_columns(schema)]
    yield schema.empty_table().select(kept)
    for batch in file.iter_batches(PART_ROWS, columns=kept):
        batch.validate(full=True)
        yield pa.Table.from_batches([batch])

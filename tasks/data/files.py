"""Read CSV and Parquet files: whole, or part by part."""

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
CSV_PART_BYTES = 2**22  # Arrow reads some thirty of them ahead
NUMBER_BYTES = 8

Types = dict[str, pa.DataType]


def read_file(path: Path, name: str) -> pa.Table:
    """Return the rows of a file; `path` may be that of an open file, which does not have its name."""
    return _read_csv(path) if name.endswith(".csv") else _read_parquet(path, name)


def file_parts(path: Path, name: str, types: Types) -> Iterator[pa.Table]:
    """Yield the rows in parts, at least one; `types` are those of columns of a CSV file that are not to be inferred."""
    return _csv_parts(path, types) if name.endswith(".csv") else _parquet_parts(path)


def batches_as_tables(reader: "pa.RecordBatchReader | csv.CSVStreamingReader") -> Iterator[pa.Table]:
    """Yield an empty table first, so that there is one without rows, too."""
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
    if path.stat().st_size > CSV_PART_BYTES:  # else the first part, from which types are inferred, is the whole file
        types = _csv_types(path) | types
    with csv.open_csv(path, **_csv_options(types, CSV_PART_BYTES)) as reader:
        yield from batches_as_tables(reader)


def _csv_types(path: Path) -> Types:
    """Infer a column's type from all its values: every part is read as text, and inferred separately."""
    with csv.open_csv(path, **_csv_options({}, CSV_PART_BYTES)) as reader:
        kinds: dict[str, set[pa.DataType]] = {name: set() for name in reader.schema.names}
    with csv.open_csv(path, **_csv_options(dict.fromkeys(kinds, pa.string()), CSV_PART_BYTES)) as reader:
        for batch in reader:
            for field in _inferred(batch):
                kinds[field.name].add(field.type)
    return {name: _common(found - {pa.null()}) for name, found in kinds.items()}


def _inferred(batch: "pa.RecordBatch") -> "pa.Schema":
    text = pa.BufferOutputStream()
    csv.write_csv(batch, text)
    written = text.getvalue()
    return csv.read_csv(pa.BufferReader(written), **_csv_options({}, written.size)).schema


def _common(kinds: "set[pa.DataType]") -> pa.DataType:
    """Return the narrowest type that holds the values of all parts: text, if nothing narrower does."""
    for ladder in ([pa.int64(), pa.float64()], [pa.date32(), pa.timestamp("s"), pa.timestamp("ns")]):
        if kinds and kinds <= set(ladder):
            return max(kinds, key=ladder.index)
    return pa.string() if len(kinds) > 1 else next(iter(kinds), pa.null())


def _read_parquet(path: Path, name: str) -> pa.Table:
    file = parquet.ParquetFile(path, pre_buffer=False)  # the buffer would be a second copy in memory
    _refuse_beyond_memory(name, file.metadata.num_rows * file.metadata.num_columns * NUMBER_BYTES)
    table = file.read()
    table.validate(full=True)  # finds text that is not UTF-8
    index = _index_columns(table.schema)
    return table.drop_columns([name for name in table.column_names if name in index])


def _index_columns(schema: pa.Schema) -> list[Any]:
    """Return the index that pandas wrote with the columns of a frame; other programs' metadata may be anything."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return []
    names = metadata.get("index_columns") if isinstance(metadata, dict) else None
    return names if isinstance(names, list) else []


def _refuse_beyond_memory(name: str, needed: int) -> None:
    """Raises: BadData: the rows are more than the machine's memory, which a file of some kilobytes can claim."""
    there = psutil.virtual_memory().total
    if needed > there:
        raise BadData(
            f"the rows of {name} take {needed / 1e9:,.0f} GB or more, and this machine has {there / 1e9:,.0f}:"
            " take fewer"
        )


def _parquet_parts(path: Path) -> Iterator[pa.Table]:
    file = parquet.ParquetFile(path)
    kept = [name for name in file.schema_arrow.names if name not in _index_columns(file.schema_arrow)]
    yield file.schema_arrow.empty_table().select(kept)
    for batch in file.iter_batches(PART_ROWS, columns=kept):
        batch.validate(full=True)
        yield pa.Table.from_batches([batch])

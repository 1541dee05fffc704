"""Rows known by 64 bits each, so that a row that a model was trained on is found again in another snapshot.

A value's bits are mixed with its column's name and summed over the row: the order of columns does not count, a whole
number is the same row as its float, and a gap is a value. The mixing is the finaliser of splitmix64 (Steele, Lea and
Flood, 2014); names and texts are digested by BLAKE2b. Both are the same on every machine and in every version.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

GAP = np.uint64(0x9E3779B97F4A7C15)
STORED = np.dtype("<u8")
AT_ONCE = 1_000_000  # of the hashes of a training's rows


def row_hashes(table: "pa.Table") -> Hashes:
    """n hashes of n rows."""
    total = np.zeros(len(table), np.uint64)
    for field in table.schema:
        total += _mixed(_bits(table[field.name]) + _digest(f"column {field.name}"))
    return total


def occur_in(hashes: Hashes, path: Path, rows: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which hashes are among the first `rows` of a file; no more of it is in memory than a part."""
    found = np.zeros(len(hashes), bool)
    stored = np.memmap(path, STORED, "r")[:rows]
    for start in range(0, rows, AT_ONCE):
        found |= np.isin(hashes, stored[start : start + AT_ONCE])
    return found


def _bits(column: "pa.ChunkedArray[Any]") -> Hashes:
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):
        coded = column.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        texts = np.array([_digest(text) for text in coded.dictionary.to_pylist()] or [GAP], np.uint64)
        bits = texts[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        gaps = column.is_null().to_numpy()
    elif pa.types.is_timestamp(kind):
        moments = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        bits = compute.fill_null(moments, 0).to_numpy().view(np.uint64)
        gaps = column.is_null().to_numpy()
    else:
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        bits = (numbers + 0.0).view(np.uint64)  # -0.0 is 0.0
        gaps = np.isnan(numbers)
    return np.where(gaps, GAP, bits) if gaps.any() else bits


def _mixed(bits: Hashes) -> Hashes:
    """In their place."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _digest(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))

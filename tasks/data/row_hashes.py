"""64-bit hashes of rows, which identify the rows that a model was trained on in another snapshot.

The bits of each value are mixed with its column's name and summed over the row. So the order of the columns does not
matter, an integer equals its float, and a missing value is a value of its own. The mixing is the finaliser of
splitmix64 (Steele, Lea and Flood, 2014), and names and texts are digested by BLAKE2b. Hashes depend on no machine or
version.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, types

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

MISSING = np.uint64(0x9E3779B97F4A7C15)
STORED = np.dtype("<u8")
COMPARED_HASHES = 1_000_000  # at a time


def row_hashes(table: pa.Table) -> Hashes:
    """Return the hash of each row."""
    total = np.zeros(len(table), np.uint64)
    for field in table.schema:
        total += _mixed(_bits(table[field.name]) + _digest(f"column {field.name}"))
    return total


def occur_in(hashes: Hashes, path: Path, rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which hashes are among the first `rows` hashes of a file, which is read part by part."""
    found = np.zeros(len(hashes), bool)
    stored = np.memmap(path, STORED, "r")[:rows]
    for start in range(0, rows, COMPARED_HASHES):
        found |= np.isin(hashes, stored[start : start + COMPARED_HASHES])
    return found


def _bits(column: "pa.ChunkedArray[Any]") -> Hashes:
    kind = column.type
    if types.is_large_string(kind) or types.is_string(kind):
        bits, missing = _text_bits(column), column.is_null().to_numpy()
    elif types.is_timestamp(kind):
        counts = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        bits, missing = compute.fill_null(counts, 0).to_numpy().view(np.uint64), column.is_null().to_numpy()
    else:
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        bits, missing = (numbers + 0.0).view(np.uint64), np.isnan(numbers)  # -0.0 is 0.0
    return np.where(missing, MISSING, bits) if missing.any() else bits


def _text_bits(column: "pa.ChunkedArray[Any]") -> Hashes:
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    texts: Hashes = np.array([_digest(text) for text in coded.dictionary.to_pylist()] or [MISSING], np.uint64)
    bits: Hashes = texts[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return bits


def _mixed(bits: Hashes) -> Hashes:
    """Mix the bits in place and return them."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _digest(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))

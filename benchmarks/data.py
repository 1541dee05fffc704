"""Generated rows in Parquet files: thirty float columns and a target that needs more than a straight line."""

import os
from pathlib import Path
from subprocess import run as start

from benchmarks.shared import PYTHON, ROOT, Options, say

COLUMNS = tuple(f"x{number}" for number in range(30))
PART = 1_000_000
CODE = "import sys; from benchmarks.data import write; write(sys.argv[1], int(sys.argv[2]))"


def generated(folder: Path, count: int, options: Options) -> Path:
    """`folder/COUNT.parquet`, a link to where it is kept if it is. Another process makes it: `shared` says why."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = (options.cache or folder) / f"{count}.parquet"
    if not kept.exists():
        say(options, f"generating {count:,} rows")
        kept.parent.mkdir(parents=True, exist_ok=True)
        start([PYTHON, "-c", CODE, str(kept), str(count)], cwd=ROOT, check=True)
    path = folder / kept.name
    if path != kept:
        os.link(kept, path)  # a symbolic link would lead out of DATA_ROOT
    return path


def write(path: str, count: int) -> None:
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    draw = np.random.default_rng(0)
    schema = pa.schema([(name, pa.float64()) for name in (*COLUMNS, "target")])
    new = Path(f"{path}.new")
    with parquet.ParquetWriter(new, schema, use_dictionary=False) as file:
        for start_at in range(0, count, PART):
            X = draw.normal(size=(min(PART, count - start_at), len(COLUMNS)))
            y = X[:, :10].sum(axis=1) + 2 * X[:, 0] * X[:, 1] + np.abs(X[:, 2]) + draw.normal(size=len(X))
            file.write_table(pa.table([*X.T, y], schema=schema))
    new.rename(path)

"""Rows, checked, split and frozen: one Parquet file, the training rows first, then the test rows."""

import ctypes
import logging
import math
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect import task

from registry import history, queries
from registry.artifacts import verified
from registry.errors import BadData, Pruned, UnknownColumn
from registry.values import Artifact, SnapshotRecord
from registry.vocabulary import Sampling, Task
from tasks import sources, tracking
from tasks.checks import check_sides, check_strata, checked_rows
from tasks.flow_runs import STEP
from tasks.requests import TrainingRequest
from tasks.row_hashes import STORED, Hashes, row_hashes
from tasks.statistics import THREADS, column_statistics

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger("frontrunner")
WRITTEN_BYTES, LEAST_ROWS, HASHED_ROWS = 32_000_000, 5_000, 50_000  # at a time
GOLDEN_ROWS, GOLDEN_AMONG = 5, 100
LARGE_BYTES = 100_000_000  # of a snapshot's rows as float64
_reading = Lock()  # candidates of one process start together: the first one reads, the others find it read
_shared: dict[int, Path] = {}  # by the snapshot's id, of a process that was given one


@dataclass(frozen=True, slots=True)
class Training:
    """A training run that has its rows: what every candidate needs to know."""

    request: TrainingRequest
    key: str
    snapshot_id: int
    run: tracking.Run
    one_by_one: bool  # so many rows that the candidates share them one after the other


class Rows(NamedTuple):
    """X_* are n × d frames of the feature columns, y_* the n targets with their original labels, n × k if k."""

    X_train: "pd.DataFrame"
    y_train: "np.ndarray[Any, Any]"
    X_test: "pd.DataFrame"
    y_test: "np.ndarray[Any, Any]"


class Frozen(NamedTuple):
    """A Parquet file with its split: the first `train_rows` rows are for fitting, the next `test_rows` for scoring.

    `hashes` is a file of 64 bits for each row, in the same order; `golden_rows` are the features of some test rows.
    """

    path: Path
    hashes: Path
    train_rows: int
    test_rows: int
    columns: list[dict[str, Any]]
    golden_rows: list[list[Any]]


@task(**STEP, task_run_name="snapshot of {request.relation_name}")
def take_snapshot(request: TrainingRequest, key: str) -> Training:
    """Freezes the relation's rows, or takes the snapshot to train on again, and begins the MLflow run that keeps them.

    Raises:
        BadData: the rows cannot be trained on; nothing was recorded, neither here nor in MLflow.
        TrackingUnavailable: MLflow cannot be reached; nothing was recorded.
        Pruned: this run froze its rows before, and they are gone.
    """
    if known := queries.find_snapshot(key) or request.snapshot:
        if known.pruned_at:
            raise Pruned(f"the rows of snapshot {known.id} are gone, it was pruned: train on a relation")
        if request.preprocess != known.preprocess:
            check_choices(request, rows(known).X_train)
        return _begun(request, key, known, tracking.start_run(request, key))
    with TemporaryDirectory(prefix="frontrunner-") as folder:
        log.info("reading %s", request.relation_name)
        frozen = freeze(sources.read(request.relation_name), request, Path(folder))
        statistics = column_statistics(frozen.path)
        run = tracking.start_run(request, key)
        with tracking.failing(run.id):
            artifact, hashes = (tracking.save_rows(run, path) for path in (frozen.path, frozen.hashes))
            snapshot = _record(request, key, frozen, statistics, artifact, hashes)
    return _begun(request, key, snapshot, run)


def freeze(table: "pa.Table", request: TrainingRequest, folder: Path) -> Frozen:
    """Writes the rows and their hashes, in the order of their split, to files in `folder`.

    Raises:
        BadData: they cannot be trained on; the message says why.
    """
    import numpy as np
    import pyarrow as pa

    relation_name, targets = request.relation_name, request.y_column_names
    table = checked_rows(table, relation_name, targets, request.task)
    train, test = split(
        _labels(table[targets[0]]), request.task, request.test_size, request.test_sampling, request.seed
    )
    for target in targets:
        labels = _labels(table[target])
        where = relation_name if len(targets) == 1 else f"{relation_name}, {target!r},"
        check_sides(labels[train], labels[test], request.task, where)
    features = [name for name in table.column_names if name not in targets]
    if all(table[name].null_count and table[name].take(train).null_count == len(train) for name in features):
        raise BadData(f"no column of {relation_name} beside the target has a value in the training rows")
    check_choices(request, table.select(features))
    path, hashes = folder / "rows.parquet", folder / "rows.hashes"
    # Arrow makes one piece of a column each time that some of its rows are taken: once is enough. The others go then.
    pieces, schema = table.columns, table.schema
    del table
    for number, column in enumerate(pieces):
        if column.num_chunks > 1:
            pieces[number] = pa.chunked_array([column.combine_chunks()])
            del column
            pa.default_memory_pool().release_unused()
    table = pa.Table.from_arrays(pieces, schema=schema)
    del pieces
    _write(path, hashes, table, np.concatenate([train, test]))
    golden_rows = _golden_rows(table.select(features).take(test[:GOLDEN_AMONG]))
    columns = [{"name": field.name, "type": str(field.type).removeprefix("large_")} for field in table.schema]
    del table
    give_back()
    return Frozen(path, hashes, len(train), len(test), columns, golden_rows)


def check_choices(request: TrainingRequest, features: "pa.Table | pd.DataFrame") -> None:
    """Whether every column can be preprocessed as it was asked for, or by the defaults. Raises: BadData."""
    import pandas as pd
    from pyarrow import compute, types

    from tasks.preprocessing import refuse_identifier, resolved

    for name in request.preprocess:
        names = list(features.columns) if isinstance(features, pd.DataFrame) else features.column_names
        if name not in names:
            raise UnknownColumn(name, request.relation_name, names)
    if not isinstance(features, pd.DataFrame):
        # Numbers that nothing is asked of cannot be wrong: the table is not copied for them.
        odd = [
            field.name for field in features.schema if field.name in request.preprocess or not _is_number(field.type)
        ]
        for field in features.schema:
            if types.is_large_string(field.type) and "encode" not in request.preprocess.get(field.name, {}):
                column = features[field.name]
                refuse_identifier(field.name, compute.count_distinct(column).as_py(), len(column) - column.null_count)
        features = features.select(odd).to_pandas()
    resolved(features, request.preprocess, takes_gaps=True)


def _is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _golden_rows(table: "pa.Table") -> list[list[Any]]:
    """The first of them as JSON has them, without those whose dates no Python date can be."""
    import pyarrow as pa
    from pyarrow import compute

    def plain(value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            return None
        return value.isoformat() if hasattr(value, "isoformat") else value

    for field in table.schema:
        if pa.types.is_timestamp(field.type):
            year = compute.year(table[field.name].cast(pa.timestamp(field.type.unit)))
            fits = compute.and_(compute.greater(year, 1), compute.less(year, 9999))
            table = table.filter(compute.fill_null(fits, fill_value=True))
    return [[plain(value) for value in row.values()] for row in table.slice(0, GOLDEN_ROWS).to_pylist()]


def _write(path: Path, hashes: Path, table: "pa.Table", order: "np.ndarray[Any, Any]") -> None:
    """Part by part, so that the table is there only once; one is written while the next one is taken."""
    import pyarrow as pa
    from pyarrow import parquet

    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    rows = max(LEAST_ROWS, WRITTEN_BYTES * len(table) // max(table.nbytes, 1))
    with (
        parquet.ParquetWriter(path, table.schema, use_dictionary=repeating) as file,
        hashes.open("wb") as beside,
        ThreadPoolExecutor(1) as pool,
    ):
        written: Future[None] | None = None
        for start in range(0, len(order), rows):
            part = table.take(order[start : start + rows])
            if written:
                written.result()  # so that there are never more than two parts
            written = pool.submit(file.write_table, part)
            for at in range(0, len(part), HASHED_ROWS):
                beside.write(row_hashes(part.slice(at, HASHED_ROWS)).astype(STORED).tobytes())
        if written:
            written.result()


def split(
    labels: "np.ndarray[Any, Any]", kind: Task, test_size: float, sampling: Sampling, seed: int
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Positions of the training and of the test rows.

    `random` and `stratified` are scikit-learn's train_test_split to the row: k = ceil(test_size * n). `last` takes the
    k last rows as PostgresML does: k = test_size * n, rounded half up. Above 1, test_size is k itself.

    Raises:
        BadData: one side would be too small, or a class cannot be on both.
    """
    import numpy as np
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    rows = len(labels)
    shares = test_size < 1
    k = math.floor(test_size * rows + 0.5) if shares and sampling is Sampling.LAST else math.ceil(test_size * rows)
    k = k if shares else int(test_size)
    if k < 2 or rows - k < 2:
        raise BadData(
            f"{rows} rows with test_size {test_size} leave {rows - k} to fit and {k} to test: at least 2 each"
        )
    if sampling is Sampling.LAST:
        positions = np.arange(rows)
        return positions[:-k], positions[-k:]
    if sampling is Sampling.STRATIFIED:
        check_strata(labels, k, kind)
    splitter = StratifiedShuffleSplit if sampling is Sampling.STRATIFIED else ShuffleSplit
    train, test = next(splitter(1, test_size=k, train_size=rows - k, random_state=seed).split(labels, labels))
    return train, test


def rows(snapshot: SnapshotRecord) -> Rows:
    """The frozen rows, read once for all candidates of this process.

    Raises:
        ArtifactMissing, ArtifactChanged: the file is gone, or is not the one that was recorded.
    """
    shared = _shared.get(snapshot.id)
    with _reading:
        return _read(snapshot.artifact, snapshot.y_column_names, snapshot.train_rows, is_large(snapshot), shared)


@contextmanager
def rows_shared(snapshot: SnapshotRecord) -> Iterator[Path]:
    """The rows in a file, from which other processes of this machine take them without copying the numbers."""
    import joblib

    with TemporaryDirectory(prefix="frontrunner-") as folder:
        path = Path(folder) / "rows"
        joblib.dump(rows(snapshot), path)
        yield path


def take_shared(snapshot: SnapshotRecord, path: Path) -> None:
    """Has `rows` answer with those of the file, in this process."""
    _shared.clear()
    _shared[snapshot.id] = path


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
def _read(
    artifact: Artifact, y_column_names: tuple[str, ...], train_rows: int, large: bool, shared: Path | None
) -> Rows:
    if shared:
        import joblib

        found: Rows = joblib.load(shared, mmap_mode="c")
        return found
    import numpy as np
    import pandas as pd
    from pyarrow import parquet

    with verified(artifact) as path:
        file = parquet.ParquetFile(path, pre_buffer=False)
        labels = file.read(list(y_column_names))
        features = [field for field in file.schema_arrow if field.name not in y_column_names]
        small = [field.name for field in features if not (large and _is_number(field.type))]
        X = file.read(small).to_pandas()
        if large:
            numbers = [field.name for field in features if _is_number(field.type)]
            X = pd.concat([_float32(path, len(labels), numbers), X], axis="columns")
    targets = [_labels(labels[name]) for name in y_column_names]
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


def _begun(request: TrainingRequest, key: str, snapshot: SnapshotRecord, run: tracking.Run) -> Training:
    with tracking.failing(run.id):
        tracking.log_training(run, request, snapshot)
    log.info(
        "snapshot %d of %s: %s rows to fit, %s to test, %d features (%s)",
        snapshot.id,
        snapshot.relation_name,
        f"{snapshot.train_rows:,}",
        f"{snapshot.test_rows:,}",
        len(snapshot.columns) - len(snapshot.y_column_names),
        snapshot.test_sampling,
    )
    return Training(request, key, snapshot.id, run, is_large(snapshot))


def _record(
    request: TrainingRequest,
    key: str,
    frozen: Frozen,
    statistics: list[dict[str, Any]],
    artifact: Artifact,
    hashes: Artifact,
) -> SnapshotRecord:
    return history.record_snapshot(
        request.project_name,
        request.task,
        relation_name=request.relation_name,
        y_column_names=list(request.y_column_names),
        test_size=request.test_size,
        test_sampling=request.test_sampling,
        seed=request.seed,
        train_rows=frozen.train_rows,
        test_rows=frozen.test_rows,
        columns=frozen.columns,
        preprocess=request.preprocess,
        statistics=statistics,
        golden_rows=frozen.golden_rows,
        artifact=artifact,
        hashes=hashes,
        request_key=key,
    )


def _labels(target: "pa.ChunkedArray[Any]") -> "np.ndarray[Any, Any]":
    """Text labels as numpy's own text, which a fitted classifier keeps and gives back."""
    values: np.ndarray[Any, Any] = target.to_numpy()
    return values.astype(str) if values.dtype == object else values

"""Rows, checked, split and frozen: one Parquet file, the training rows first, then the test rows."""

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect import task
from prefect.runtime import flow_run

from registry import lifecycle, queries
from registry.errors import BadData, Pruned, UnknownColumn
from registry.values import Artifact, NewSnapshot, SnapshotRecord
from registry.vocabulary import Sampling, Task
from tasks.data import sources
from tasks.data.checks import check_sides, check_strata, checked_rows
from tasks.data.frozen_rows import give_back, is_large, is_number, labels_of, rows
from tasks.data.row_hashes import STORED, row_hashes
from tasks.data.statistics import column_statistics
from tasks.flow_runs import TASK_OPTIONS
from tasks.tracking import runs
from tasks.values import MlflowRun, Training, TrainingRequest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger("frontrunner")
WRITTEN_BYTES, LEAST_ROWS, HASHED_ROWS = 32_000_000, 5_000, 50_000  # at a time
GOLDEN_ROWS, GOLDEN_AMONG = 5, 100


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


@task(**TASK_OPTIONS, task_run_name="snapshot of {request.relation_name}")
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
        return _begun(request, key, known, runs.start_run(request, key, flow_run.get_id()))
    with TemporaryDirectory(prefix="frontrunner-") as folder:
        log.info("reading %s", request.relation_name)
        frozen = freeze(sources.read(request.relation_name), request, Path(folder))
        statistics = column_statistics(frozen.path)
        run = runs.start_run(request, key, flow_run.get_id())
        with runs.failing(run.id):
            artifact, hashes = (runs.save_rows(run, path) for path in (frozen.path, frozen.hashes))
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
        labels_of(table[targets[0]]), request.task, request.test_size, request.test_sampling, request.seed
    )
    for target in targets:
        labels = labels_of(table[target])
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

    from tasks.estimators.preprocessing import refuse_identifier, resolved

    for name in request.preprocess:
        names = list(features.columns) if isinstance(features, pd.DataFrame) else features.column_names
        if name not in names:
            raise UnknownColumn(name, request.relation_name, names)
    if not isinstance(features, pd.DataFrame):
        # Numbers that nothing is asked of cannot be wrong: the table is not copied for them.
        odd = [field.name for field in features.schema if field.name in request.preprocess or not is_number(field.type)]
        for field in features.schema:
            if types.is_large_string(field.type) and "encode" not in request.preprocess.get(field.name, {}):
                column = features[field.name]
                refuse_identifier(field.name, compute.count_distinct(column).as_py(), len(column) - column.null_count)
        features = features.select(odd).to_pandas()
    resolved(features, request.preprocess, takes_gaps=True)


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


def _begun(request: TrainingRequest, key: str, snapshot: SnapshotRecord, run: MlflowRun) -> Training:
    with runs.failing(run.id):
        runs.log_training(run, request, snapshot)
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
    new = NewSnapshot(
        relation_name=request.relation_name,
        y_column_names=request.y_column_names,
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
    )
    return lifecycle.record_snapshot(request.project_name, request.task, new, key)

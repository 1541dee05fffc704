"""Check, split and freeze rows in one Parquet file: the training rows first, then the test rows."""

import logging
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from prefect import task
from prefect.runtime import flow_run
from pyarrow import compute, types
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from registry import lifecycle, queries
from registry.errors import BadData, Pruned, UnknownColumn
from registry.values import Artifact, NewSnapshot, SnapshotRecord
from registry.vocabulary import Sampling, Task
from tasks.data import sources
from tasks.data.checks import check_sides, check_strata, checked_rows
from tasks.data.frozen_rows import give_back, is_large, is_number, labels_of, rows
from tasks.data.statistics import column_statistics
from tasks.data.writer import combined, write_rows
from tasks.estimators.preprocessing import refuse_identifier, resolved
from tasks.flow_runs import TASK_OPTIONS
from tasks.tracking import runs
from tasks.values import MlflowRun, Training, TrainingRequest

log = logging.getLogger("frontrunner")
GOLDEN_ROWS, GOLDEN_CANDIDATES = 5, 100

Positions = np.ndarray[Any, Any]  # of rows


class Frozen(NamedTuple):
    """A Parquet file with its split: the first `train_rows` rows are for training, the next `test_rows` for testing.

    `hashes` is a file of a 64-bit hash for each row, in the same order. `golden_rows` are features of some test rows.
    """

    path: Path
    hashes: Path
    train_rows: int
    test_rows: int
    columns: list[dict[str, Any]]
    golden_rows: list[list[Any]]


@task(**TASK_OPTIONS, task_run_name="snapshot of {request.relation_name}")
def take_snapshot(request: TrainingRequest, key: str) -> Training:
    """Freeze the relation's rows, or take the snapshot to train on again, and start the MLflow run that stores them.

    Raises:
        BadData: the rows cannot be trained on. Nothing was recorded, neither here nor in MLflow.
        TrackingUnavailable: MLflow cannot be reached. Nothing was recorded.
        Pruned: the rows of the snapshot were deleted.
    """
    if known := queries.find_snapshot(key) or request.snapshot:
        if known.pruned_at:
            raise Pruned(f"the rows of snapshot {known.id} were pruned: train on a relation")
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


def freeze(table: pa.Table, request: TrainingRequest, folder: Path) -> Frozen:
    """Write the rows and their hashes to files in `folder`, in the order of the split.

    Raises:
        BadData: the rows cannot be trained on.
    """
    table = checked_rows(table, request.relation_name, request.y_column_names, request.task)
    train, test = _checked_split(table, request)
    features = [name for name in table.column_names if name not in request.y_column_names]
    _check_features(table.select(features), train, request)
    columns, schema = table.columns, table.schema
    del table  # its columns' chunks are freed as they are combined
    table = combined(columns, schema)
    path, hashes = folder / "rows.parquet", folder / "rows.hashes"
    write_rows(table, np.concatenate([train, test]), path, hashes)
    golden_rows = _golden_rows(table.select(features).take(test[:GOLDEN_CANDIDATES]))
    del columns, table
    give_back()
    kinds = [{"name": field.name, "type": str(field.type).removeprefix("large_")} for field in schema]
    return Frozen(path, hashes, len(train), len(test), kinds, golden_rows)


def _checked_split(table: pa.Table, request: TrainingRequest) -> tuple[Positions, Positions]:
    targets, relation_name = request.y_column_names, request.relation_name
    labels = labels_of(table[targets[0]])
    train, test = split(labels, request.task, request.test_size, request.test_sampling, request.seed)
    for target in targets:
        labels = labels_of(table[target])
        where = relation_name if len(targets) == 1 else f"{relation_name}, {target!r},"
        check_sides(labels[train], labels[test], request.task, where)
    return train, test


def _check_features(features: pa.Table, train: Positions, request: TrainingRequest) -> None:
    if all(column.null_count and column.take(train).null_count == len(train) for column in features.columns):
        raise BadData(
            f"no column of {request.relation_name} besides the target has a value in the training rows: add columns, or"
            " change the sampling"
        )
    check_choices(request, features)


def check_choices(request: TrainingRequest, features: pa.Table | pd.DataFrame) -> None:
    """Raise BadData if a column cannot be preprocessed as requested, or by the defaults."""
    names = list(features.columns) if isinstance(features, pd.DataFrame) else features.column_names
    for name in request.preprocess:
        if name not in names:
            raise UnknownColumn(name, request.relation_name, names)
    frame = features if isinstance(features, pd.DataFrame) else _columns_to_check(request, features)
    resolved(frame, request.preprocess, allow_missing=True)


def _columns_to_check(request: TrainingRequest, features: pa.Table) -> pd.DataFrame:
    """Return the columns that could be wrong. Numbers with default preprocessing cannot, and are not copied."""
    for field in features.schema:
        if types.is_large_string(field.type) and "encode" not in request.preprocess.get(field.name, {}):
            column = features[field.name]
            refuse_identifier(field.name, compute.count_distinct(column).as_py(), len(column) - column.null_count)
    names = [field.name for field in features.schema if field.name in request.preprocess or not is_number(field.type)]
    frame: pd.DataFrame = features.select(names).to_pandas()
    return frame


def _golden_rows(table: pa.Table) -> list[list[Any]]:
    """Return the first rows as JSON values, without rows whose dates Python cannot represent."""
    for field in table.schema:
        if types.is_timestamp(field.type):
            year = compute.year(table[field.name].cast(pa.timestamp(field.type.unit)))
            fits = compute.and_(compute.greater(year, 1), compute.less(year, 9999))
            table = table.filter(compute.fill_null(fits, fill_value=True))
    return [[_plain(value) for value in row.values()] for row in table.slice(0, GOLDEN_ROWS).to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def split(
    labels: np.ndarray[Any, Any], kind: Task, test_size: float, sampling: Sampling, seed: int
) -> tuple[Positions, Positions]:
    """Return the positions of the training rows and of the test rows.

    `random` and `stratified` choose the same rows as scikit-learn's train_test_split: k = ceil(test_size * n). `last`
    takes the last k rows, as PostgresML does: k = test_size * n, rounded half up. Above 1, test_size is k.

    Raises:
        BadData: a side would be too small, or a class cannot be on both sides.
    """
    rows, k = len(labels), _test_rows(len(labels), test_size, sampling)
    if k < 2 or rows - k < 2:
        raise BadData(
            f"{rows} rows with test_size {test_size} leave {rows - k} to fit and {k} to test: at least 2 of each are"
            " needed"
        )
    if sampling is Sampling.LAST:
        positions = np.arange(rows)
        return positions[:-k], positions[-k:]
    if sampling is Sampling.STRATIFIED:
        check_strata(labels, k, kind)
    splitter = StratifiedShuffleSplit if sampling is Sampling.STRATIFIED else ShuffleSplit
    train, test = next(splitter(1, test_size=k, train_size=rows - k, random_state=seed).split(labels, labels))
    return train, test


def _test_rows(rows: int, test_size: float, sampling: Sampling) -> int:
    if test_size >= 1:
        return int(test_size)
    return math.floor(test_size * rows + 0.5) if sampling is Sampling.LAST else math.ceil(test_size * rows)


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

"""Score a relation with the live model, part by part, into a file or a table: all of it or nothing."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from prefect import task
from pyarrow import parquet

from registry import Predictor
from registry.errors import BadData
from tasks.data import sources
from tasks.data.checks import refuse_duplicate_columns
from tasks.data.messages import one_line
from tasks.data.outputs import Scored, writer
from tasks.flow_runs import TASK_OPTIONS

log = logging.getLogger("frontrunner")


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The result of scoring: the number of rows, the model, and the output."""

    project_name: str
    relation_name: str
    output: str
    rows: int
    model_id: int
    algorithm_name: str
    scored_at: datetime


@task(**TASK_OPTIONS, task_run_name="score {relation_name}")
def score_rows(project_name: str, relation_name: str, output: str, if_exists: str, key: str) -> PredictResult:
    """Score a relation as a step of a flow."""
    return score_relation(project_name, relation_name, output, if_exists, key)


def describe(result: PredictResult) -> str:
    """Return the result as a sentence."""
    model = f"{result.algorithm_name} (model {result.model_id})"
    return f"{result.rows:,} rows of {result.relation_name} were scored by {model} into {result.output}"


def score_relation(project_name: str, relation_name: str, output: str, if_exists: str, key: str) -> PredictResult:
    """Write the relation's columns, `prediction`, `model_id` and `scored_at` to a file or a table.

    A joint regression has a column `prediction_<target>` for each target. The output is `files:NAME.parquet`,
    `files:NAME.csv` or `SOURCE:SCHEMA.TABLE`. One model scores all rows. The output changes only after all rows are
    scored: a file is replaced as a whole, a table is written in one transaction. A second call with the same `key`
    replaces the rows that the first one appended.

    Raises:
        UnknownProject, NothingDeployed: there is no live model.
        InvalidInput: the relation cannot be scored, or the output cannot be written.
    """
    write = writer(output, if_exists, key)
    predictor = Predictor(project_name)
    now = datetime.now(UTC)
    with TemporaryDirectory(prefix="frontrunner-") as folder:
        scored = _score(predictor, relation_name, now, Path(folder))
        write(scored)
    model = predictor.model
    log.info("%s: %s rows of model %d (%s)", output, f"{scored.rows:,}", model.id, model.algorithm)
    return PredictResult(model.project_name, relation_name, output, scored.rows, model.id, model.algorithm, now)


def _score(predictor: Predictor, relation_name: str, now: datetime, folder: Path) -> Scored:
    files, schemas, rows = [], [], 0
    # The text columns of a CSV file could hold only digits in these rows.
    text_types = {name: pa.string() for name, kind in predictor.features if kind == "string"}
    for number, part in enumerate(sources.parts(relation_name, text_types)):
        refuse_duplicate_columns(part.column_names, relation_name)
        answered = _with_answers(predictor, part, relation_name, now)
        files.append(folder / f"{number}.parquet")
        parquet.write_table(answered, files[-1])
        schemas.append(answered.schema)
        rows += part.num_rows
        if part.num_rows:
            log.info("scored %s rows of %s", f"{rows:,}", relation_name)
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise BadData(f"a column of {relation_name} has values of several types: {one_line(error)}") from error
    return Scored(files, schema.remove_metadata(), rows)


def _with_answers(predictor: Predictor, part: pa.Table, relation_name: str, now: datetime) -> pa.Table:
    model = predictor.model
    features = {name for name, _ in predictor.features}
    known = part.select([name for name in part.column_names if name in features] or part.column_names)
    _, answers = predictor.answer(known.to_pandas())
    kind = pa.string() if answers.dtype.kind in "UO" else pa.from_numpy_dtype(answers.dtype)
    targets = model.y_column_names
    names = ["prediction"] if len(targets) == 1 else [f"prediction_{target}" for target in targets]
    columns = answers.reshape(part.num_rows, -1).T if part.num_rows else [answers] * len(names)
    added: dict[str, Any] = {name: pa.array(column.tolist(), kind) for name, column in zip(names, columns, strict=True)}
    added["model_id"] = pa.array([model.id] * part.num_rows, pa.int64())
    added["scored_at"] = pa.array([now] * part.num_rows, pa.timestamp("us", "UTC"))
    if taken := [name for name in added if name in part.column_names]:
        raise BadData(f"{relation_name} already has a column {taken[0]!r}, which scoring adds: rename it")
    for name, values in added.items():
        part = part.append_column(name, values)
    return part

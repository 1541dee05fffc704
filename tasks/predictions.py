"""Score a relation with the live model, part by part, into a file or a table: all of it or nothing."""

import logging
from collections import Counter
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
from registry.values import LiveModel
from tasks.data import sources
from tasks.data.outputs import Scored, writer
from tasks.flow_runs import TASK_OPTIONS

log = logging.getLogger("frontrunner")


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The rows that were scored, the model that answered, and the output with the answers."""

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
    """Return the result in words."""
    model = f"{result.algorithm_name} (model {result.model_id})"
    return f"{result.rows:,} rows of {result.relation_name} were scored by {model} into {result.output}"


def score_relation(project_name: str, relation_name: str, output: str, if_exists: str, key: str) -> PredictResult:
    """Write every column of the relation with `prediction` (one for each target, `prediction_<target>`, of a joint
    regression), `model_id` and `scored_at` to `files:NAME.parquet`, `files:NAME.csv` or `SOURCE:SCHEMA.TABLE`.

    One model answers for all rows. The output is changed once all rows are scored: a file is replaced as a whole, a
    table is written in one transaction. A second call with the same `key` replaces the rows that the first appended.

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
    for number, part in enumerate(sources.parts(relation_name, _types(predictor))):
        _refuse_twice(part, relation_name)
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
        raise BadData(f"a column of {relation_name} changes its type: {' '.join(str(error).split())}") from error
    return Scored(files, schema.remove_metadata(), rows)


def _refuse_twice(part: pa.Table, relation_name: str) -> None:
    if twice := [name for name, count in Counter(part.column_names).items() if count > 1]:
        raise BadData(f"{relation_name} has two columns named {twice[0]!r}: rename one")


def _with_answers(predictor: Predictor, part: pa.Table, relation_name: str, now: datetime) -> pa.Table:
    model = predictor.model
    names = [name for name, _ in predictor.features]
    known = part.select([name for name in part.column_names if name in names] or part.column_names)
    _, answers = predictor.answer(known.to_pandas())
    columns = answers.reshape(part.num_rows, -1).T if part.num_rows else [answers] * len(_answer_names(model))
    added: dict[str, Any] = {
        name: pa.array(column.tolist(), _arrow_type(answers))
        for name, column in zip(_answer_names(model), columns, strict=True)
    }
    added["model_id"] = pa.array([model.id] * part.num_rows, pa.int64())
    added["scored_at"] = pa.array([now] * part.num_rows, pa.timestamp("us", "UTC"))
    if taken := [name for name in added if name in part.column_names]:
        raise BadData(f"{relation_name} has a column {taken[0]!r} already: rename it, the scoring adds one")
    for name, values in added.items():
        part = part.append_column(name, values)
    return part


def _answer_names(model: LiveModel) -> list[str]:
    targets = model.y_column_names
    return ["prediction"] if len(targets) == 1 else [f"prediction_{target}" for target in targets]


def _arrow_type(answers: Any) -> pa.DataType:
    return pa.string() if answers.dtype.kind in "UO" else pa.from_numpy_dtype(answers.dtype)


def _types(predictor: Predictor) -> dict[str, pa.DataType]:
    """Return the columns of a CSV file to read as text, although these rows may have only digits in them."""
    return {name: pa.string() for name, kind in predictor.features if kind == "string"}

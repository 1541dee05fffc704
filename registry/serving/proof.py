"""A model is shown to answer as it did at training before it goes live."""

from typing import Any

from registry import queries
from registry.errors import ArtifactMissing, FrontrunnerError, Unproven
from registry.serving.artifacts import load_pipeline
from registry.serving.inputs import Features, aligned, features
from registry.serving.served_pipeline import ServedPipeline
from registry.timeouts import with_timeout
from registry.values import ModelRecord

PROOF_SECONDS = 60
TOLERANCE = 1e-6  # relative: another machine's arithmetic may differ in the last digits


def prove(model: ModelRecord) -> None:
    """Verifies the model's file, loads it, and has it answer the golden rows again, within PROOF_SECONDS.

    Raises:
        ArtifactMissing, ArtifactChanged, ArtifactUnusable: as `artifacts.load_pipeline` says, or it took too long.
        Unproven: it answers otherwise than at training.
    """
    try:
        with_timeout(PROOF_SECONDS, f"proof of model {model.id}", lambda: _prove(model))
    except TimeoutError as error:
        where = model.artifact.uri if model.artifact else "its file"
        raise ArtifactMissing(f"{where} could not be read and tried within {PROOF_SECONDS:g} s") from error


def golden_answers(pipeline: Any, columns: Features, rows: list[list[Any]]) -> list[Any]:
    """What a pipeline answers for rows without names, in the order of training: labels, numbers, or lists of them."""
    return _listed(pipeline, aligned(rows, columns)) if rows else []


def _prove(model: ModelRecord) -> None:
    if model.artifact is None:
        raise Unproven(f"model {model.id} was never saved")
    pipeline = load_pipeline(model.artifact)
    rows, expected = queries.golden(model.id)
    columns = features(queries.snapshot(model.snapshot_id), model)
    try:
        found = _served(ServedPipeline(pipeline, columns), rows)
    except FrontrunnerError:
        raise
    except Exception as error:  # whatever a library raises
        raise Unproven(f"model {model.id} cannot answer: {type(error).__name__}: {error}") from error
    if not _equal(found, expected):
        raise Unproven(
            f"model {model.id} answers otherwise than at training: {_some(found)} instead of {_some(expected)}"
        )


def _served(fitted: ServedPipeline, rows: list[list[Any]]) -> list[Any]:
    """Its answers as it will give them when it is live: rows with gaps may take another way than those without."""
    found: list[Any] = [None] * len(rows)
    for gaps in (False, True):
        if at := [number for number, row in enumerate(rows) if (None in row) is gaps]:
            answers = _listed(fitted, fitted.prepared([rows[number] for number in at]))
            for number, answer in zip(at, answers, strict=True):
                found[number] = answer
    return found


def _listed(asked: Any, X: Any) -> list[Any]:
    answers: list[Any] = asked.predict(X).tolist()
    return answers


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    if isinstance(found, float) and isinstance(expected, int | float):
        return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
    return bool(found == expected)


def _some(answers: list[Any]) -> str:
    return ", ".join(map(str, answers[:3])) + (", …" if answers[3:] else "")

"""Prove that a model answers as it did at training, before it goes live."""

import logging
from typing import Any

import numpy as np

from registry import queries
from registry.errors import ArtifactMissing, FrontrunnerError, Unproven
from registry.serving.artifacts import load_pipeline
from registry.serving.features import Features, features
from registry.serving.inputs import aligned
from registry.serving.served_pipeline import ServedPipeline
from registry.timeouts import with_timeout
from registry.values import ModelRecord

log = logging.getLogger("frontrunner")

PROOF_SECONDS = 60
# Another machine's arithmetic may differ in the last digits: by a millionth of the spread of the answers, or by a few
# of the smallest steps of the model's number type.
TOLERANCE = 1e-6
LAST_PLACES = 16
NOT_COMPARED = (
    "its file was verified and loaded, but no answers could be compared: its snapshot was recorded without golden rows"
)


def prove(model: ModelRecord) -> str | None:
    """Verify the model's file, load it, and let it answer the golden rows again, within PROOF_SECONDS.

    Returns:
        A warning if there are no golden rows to compare answers for, else None.

    Raises:
        ArtifactMissing, ArtifactChanged, ArtifactUnusable: as in `artifacts.load_pipeline`, or it took too long.
        Unproven: the answers differ from those at training.
    """
    try:
        compared = with_timeout(PROOF_SECONDS, f"proof of model {model.id}", lambda: _compare_answers(model))
    except TimeoutError as error:
        where = model.artifact.uri if model.artifact else "its file"
        raise ArtifactMissing(f"{where} could not be loaded and tested within {PROOF_SECONDS:g} s") from error
    if compared:
        return None
    log.warning("model %d: %s", model.id, NOT_COMPARED)
    return NOT_COMPARED


def golden_answers(pipeline: Any, columns: Features, rows: list[list[Any]]) -> list[Any]:
    """Return a pipeline's answers for rows without names: labels, numbers, or lists of them."""
    answers: list[Any] = pipeline.predict(aligned(rows, columns)).tolist() if rows else []
    return answers


def _compare_answers(model: ModelRecord) -> int:
    """Return the number of answers that are equal to those at training. Raises: as `prove`."""
    if model.artifact is None:
        raise Unproven(f"model {model.id} was never saved")
    pipeline = load_pipeline(model.artifact)
    rows, expected = queries.golden(model.id)
    columns = features(queries.snapshot(model.snapshot_id), model)
    if not rows:
        return 0
    try:
        found = served_answers(ServedPipeline(pipeline, columns), rows)
    except FrontrunnerError:
        raise
    except Exception as error:  # whatever a library raises
        raise Unproven(f"model {model.id} cannot answer: {type(error).__name__}: {error}") from error
    if not is_same(found, expected):
        raise Unproven(
            f"model {model.id} answers otherwise than at training: {_some(found.tolist())} instead of {_some(expected)}"
        )
    return len(rows)


def served_answers(served: ServedPipeline, rows: list[list[Any]]) -> np.ndarray[Any, Any]:
    """Return the answers as when serving, where rows with missing values may take another way through the pipeline."""
    parts = [[number for number, row in enumerate(rows) if (None in row) is missing] for missing in (False, True)]
    answers = [np.asarray(served.predict(served.prepare([rows[number] for number in part]))) for part in parts if part]
    order = np.argsort([number for part in parts for number in part])
    return np.concatenate(answers)[order]


def is_same(found: np.ndarray[Any, Any], expected: list[Any]) -> bool:
    """Compare answers with those at training: labels must be equal, numbers must be within a tolerance.

    The tolerance is relative to the spread of each target's expected answers, or to the answer itself if all are the
    same, so it fits models of any scale. A NaN equals nothing.
    """
    if found.dtype.kind != "f":
        return bool(found.tolist() == expected)
    try:
        known = np.array(expected)
    except ValueError:  # lists of several lengths
        return False
    if known.dtype.kind not in "iuf" or known.shape != found.shape:
        return False
    known = known.astype(np.float64)
    with np.errstate(all="ignore"):  # infinite answers have no distance
        close = np.abs(found - known) <= _tolerance(known, found.dtype)
    return bool((close | (found == known)).all())


def _tolerance(known: np.ndarray[Any, Any], answered_in: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the tolerance for each known answer; NaN if the answer is not finite."""
    finite = np.where(np.isfinite(known), known, np.nan)
    spread = TOLERANCE * np.fmax.reduce(finite, axis=0) - TOLERANCE * np.fmin.reduce(finite, axis=0)
    relative = np.where(spread > 0, spread, TOLERANCE * np.abs(finite))
    smallest_step = np.spacing(np.abs(finite).astype(answered_in)).astype(np.float64)
    tolerance: np.ndarray[Any, Any] = np.maximum(relative, LAST_PLACES * smallest_step)
    return tolerance


def _some(answers: list[Any]) -> str:
    return ", ".join(map(str, answers[:3])) + (", …" if answers[3:] else "")

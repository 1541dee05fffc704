"""A model is shown to answer as it did at training before it goes live."""

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
# Another machine's arithmetic may differ in the last digits: by a millionth of how far the answers are apart, or by a
# few of the smallest steps that the model's own type of number has there.
TOLERANCE = 1e-6
LAST_PLACES = 16
NOT_COMPARED = (
    "its file was verified and loaded, but no answers could be compared: its snapshot was recorded without golden rows"
)


def prove(model: ModelRecord) -> str | None:
    """Verify the model's file, load it, and let it answer the golden rows again, within PROOF_SECONDS.

    Returns:
        A warning where there are no golden rows, so that no answers could be compared.

    Raises:
        ArtifactMissing, ArtifactChanged, ArtifactUnusable: as `artifacts.load_pipeline` says, or it took too long.
        Unproven: it answers otherwise than at training.
    """
    try:
        compared = with_timeout(PROOF_SECONDS, f"proof of model {model.id}", lambda: _compare_answers(model))
    except TimeoutError as error:
        where = model.artifact.uri if model.artifact else "its file"
        raise ArtifactMissing(f"{where} could not be read and tried within {PROOF_SECONDS:g} s") from error
    if compared:
        return None
    log.warning("model %d: %s", model.id, NOT_COMPARED)
    return NOT_COMPARED


def golden_answers(pipeline: Any, columns: Features, rows: list[list[Any]]) -> list[Any]:
    """Return a pipeline's answers for rows without names, in the order of training: labels, numbers, or lists of
    them."""
    answers: list[Any] = pipeline.predict(aligned(rows, columns)).tolist() if rows else []
    return answers


def _compare_answers(model: ModelRecord) -> int:
    """Return how many answers are as they were at training. Raises: as `prove`."""
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
    """Return the answers as the model will give them when it is live: rows with missing values may take another way
    through its pipeline than those without."""
    parts = [[number for number, row in enumerate(rows) if (None in row) is missing] for missing in (False, True)]
    answers = [np.asarray(served.predict(served.prepare([rows[number] for number in part]))) for part in parts if part]
    order = np.argsort([number for part in parts for number in part])
    return np.concatenate(answers)[order]


def is_same(found: np.ndarray[Any, Any], expected: list[Any]) -> bool:
    """Compare answers with those of training: labels have to be equal, numbers within a tolerance.

    The tolerance is relative to how far each target's expected answers are apart, or where they are all the same to the
    answer itself; so models of any scale are held to it. A NaN equals nothing.
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
    with np.errstate(all="ignore"):  # infinite ones have no distance
        close = np.abs(found - known) <= _tolerance(known, found.dtype)
    return bool((close | (found == known)).all())


def _tolerance(known: np.ndarray[Any, Any], answered_in: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return how far from each of the known answers another may be; NaN where that one is not finite."""
    finite = np.where(np.isfinite(known), known, np.nan)
    spread = TOLERANCE * np.fmax.reduce(finite, axis=0) - TOLERANCE * np.fmin.reduce(finite, axis=0)
    relative = np.where(spread > 0, spread, TOLERANCE * np.abs(finite))
    smallest_step = np.spacing(np.abs(finite).astype(answered_in)).astype(np.float64)
    tolerance: np.ndarray[Any, Any] = np.maximum(relative, LAST_PLACES * smallest_step)
    return tolerance


def _some(answers: list[Any]) -> str:
    return ", ".join(map(str, answers[:3])) + (", …" if answers[3:] else "")

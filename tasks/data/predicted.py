"""The test-row predictions of a run's candidates, kept until the run has decided, so that none is computed twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_predictions: dict[int, Any] = {}  # by model id; of this process only


def remember(model_id: int, predicted: Any) -> None:
    _predictions[model_id] = predicted


def remembered(model_id: int) -> Any:
    """Return the predictions of a model, or None."""
    return _predictions.get(model_id)


@contextmanager
def predictions_kept() -> Iterator[None]:
    """Keep predictions until the end of the block."""
    try:
        yield
    finally:
        _predictions.clear()

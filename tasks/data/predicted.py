"""The test-row predictions of a run's candidates, kept until the run has decided, so that none is computed twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_predictions: dict[int, Any] = {}  # by model id; of this process only


def remember(model_id: int, predicted: Any) -> None:
    _predictions[model_id] = predicted


@contextmanager
def predictions_kept() -> Iterator[None]:
    """Keep predictions until the end of the block."""
    try:
        yield
    finally:
        _predictions.clear()

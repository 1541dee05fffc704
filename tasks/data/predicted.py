"""The test-row predictions of a run's candidates, kept until the run has decided."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_predictions: dict[int, Any] = {}  # of the test rows, by the candidates of this process


def remember(model_id: int, predicted: Any) -> None:
    """What a candidate predicted for its test rows, so that it is not asked again."""
    _predictions[model_id] = predicted


def remembered(model_id: int) -> Any:
    """What was; None if nothing was."""
    return _predictions.get(model_id)


@contextmanager
def predictions_kept() -> Iterator[None]:
    """Until the run has decided."""
    try:
        yield
    finally:
        _predictions.clear()

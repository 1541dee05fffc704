"""What is remembered (projects, snapshots, models, every deployment) and which model is live."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.serving.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """A program that imports it does not wait for SQLAlchemy before it needs the registry."""
    if name == "Predictor":
        from registry.serving.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

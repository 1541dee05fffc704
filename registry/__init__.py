"""The registry: projects, snapshots, models and every deployment, and so which model is live."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.serving.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """Import the Predictor at its first use, so that `import registry` stays light."""
    if name == "Predictor":
        from registry.serving.predictor import Predictor  # it loads SQLAlchemy, numpy and pandas

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

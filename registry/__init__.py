"""What is remembered (projects, snapshots, models, every deployment) and which model is live."""

from registry.predictor import Predictor

__all__ = ["Predictor"]

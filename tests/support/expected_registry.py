"""A second implementation of the deployment rules, in lists and from README alone, to check the registry.

A model's number is its place in the order of creation.
"""

from dataclasses import dataclass, field


class Refused(Exception):
    """The rules choose no model."""


@dataclass
class Model:
    number: int
    algorithm: str
    score: float | None = None  # None until it is trained, and if it failed
    held: bool = False


@dataclass
class Project:
    models: list[Model] = field(default_factory=list)
    history: list[tuple[str, Model]] = field(default_factory=list)

    @property
    def live(self) -> Model | None:
        return self.history[-1][1] if self.history else None

    def promote(self, model: Model) -> bool:
        """Deploy the model if nothing is live, the live model is in quarantine, or the model is better."""
        if model.score is None or model.held or model is self.live:
            return False
        if self.live is not None and not self.live.held and not model.score > self.live.score:
            return False
        self.history.append(("new_score", model))
        return True

    def deploy(self, strategy: str, model: Model) -> bool:
        if model is self.live:
            return False
        self.history.append((strategy, model))
        return True

    def best_score(self, algorithm: str | None) -> Model:
        return self._last_of(sorted(self._choice(algorithm), key=lambda model: (model.score, model.number)))

    def most_recent(self, algorithm: str | None) -> Model:
        return self._last_of(sorted(self._choice(algorithm), key=lambda model: model.number))

    def specific(self, number: int) -> Model:
        return self._last_of([model for model in self._choice(None) if model.number == number])

    def rollback(self, algorithm: str | None, steps: int) -> Model:
        """Return each model once, ordered by when it was last live, newest first."""
        way_back: list[Model] = []
        for _, model in reversed(self.history):
            if model is not self.live and model not in way_back:
                way_back.append(model)
        fit = [model for model in way_back if not model.held and algorithm in (None, model.algorithm)]
        return self._last_of(fit[:steps] if len(fit) >= steps else [])

    def to_seq(self, seq: int) -> Model:
        return self._last_of([m for place, (_, m) in enumerate(self.history, 1) if place == seq and not m.held])

    def _choice(self, algorithm: str | None) -> list[Model]:
        return [m for m in self.models if m.score is not None and not m.held and algorithm in (None, m.algorithm)]

    @staticmethod
    def _last_of(models: list[Model]) -> Model:
        if not models:
            raise Refused
        return models[-1]

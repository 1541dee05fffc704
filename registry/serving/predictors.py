"""The Predictors of the HTTP service, one for each project."""

import gc
from threading import Lock

from registry import queries
from registry.errors import UnknownProject
from registry.names import checked_name
from registry.serving.batches import Batches
from registry.serving.predictor import Predictor


class Predictors:
    """One Predictor for each project, created at the project's first request.

    `only` limits the service to one project. With `freeze` what has been loaded by then is left out of later garbage
    collections: a collection that looks through all libraries would delay every answer.
    """

    def __init__(self, only: str | None, refresh_seconds: float, *, freeze: bool) -> None:
        self._only, self._refresh_seconds, self._freeze = only, refresh_seconds, freeze
        self._predictors: dict[str, Predictor] = {}
        self._locks: dict[str, Lock] = {}
        self.batches: dict[str, Batches] = {}

    def get(self, project_name: str) -> Predictor:
        """Return the project's Predictor. Raises: UnknownProject, NothingDeployed."""
        name = checked_name(project_name)
        if self._only not in (None, name):
            raise UnknownProject(name, [str(self._only)])
        if name not in self._predictors:
            queries.live_deployment(name)  # raises before a lock is created for a project that does not exist
            with self._locks.setdefault(name, Lock()):
                if name not in self._predictors:
                    self._predictors[name] = Predictor(name, self._refresh_seconds)
                    self._freeze_loaded()
        return self._predictors[name]

    def batches_of(self, project_name: str) -> Batches:
        """Return the queue that joins concurrent requests for the project's Predictor."""
        return self.batches.setdefault(project_name, Batches(self.get(project_name)))

    def live_models(self) -> dict[str, int]:
        """Return the ids of the models that answer, by project."""
        return {name: predictor.model.id for name, predictor in list(self._predictors.items())}

    def close(self) -> None:
        for predictor in self._predictors.values():
            predictor.close()

    def _freeze_loaded(self) -> None:
        if self._freeze:
            gc.collect()
            gc.freeze()

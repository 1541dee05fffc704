"""Answers with the live model. An application that wants predictions needs only this."""

import itertools
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from registry import queries
from registry.errors import FrontrunnerError, InvalidInput, NoProbabilities
from registry.names import checked_name
from registry.serving.artifacts import load_pipeline
from registry.serving.inputs import features
from registry.serving.served_pipeline import ServedPipeline
from registry.values import LiveModel
from registry.vocabulary import Task

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("frontrunner")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What one request answers with, from its first look to its last."""

    model: LiveModel
    fitted: ServedPipeline


class Predictor:
    """Answers for a project with the model that is live; any number of threads may ask.

    Without `refresh_seconds` the model of the beginning answers until `refresh()`. With a number, the live model is
    looked up that often in the background, and a new one is swapped in once it is loaded: an answer is never older than
    that, plus the time of the load. Where that fails, the old model goes on and the log says so.

    Raises:
        InvalidName: no project can have that name.
        UnknownProject: there is no such project.
        NothingDeployed: it has no live model yet.
        RegistryUnavailable, ArtifactMissing, ArtifactChanged: it cannot be found out, fetched or trusted.
    """

    def __init__(self, project_name: str, refresh_seconds: float | None = None) -> None:
        if refresh_seconds is not None and not (
            isinstance(refresh_seconds, int | float) and not isinstance(refresh_seconds, bool) and refresh_seconds > 0
        ):
            raise InvalidInput(f"refresh_seconds is a number above 0 or None, not {refresh_seconds!r}")
        self._project_name = checked_name(project_name)
        self._refreshing = Lock()
        self._loaded = _load(queries.live_deployment(self._project_name))
        self._stop = Event()
        weakref.finalize(self, self._stop.set)
        if refresh_seconds is not None:
            follow = Thread(target=_follow, args=(weakref.ref(self), refresh_seconds, self._stop), daemon=True)
            follow.start()

    @property
    def model(self) -> LiveModel:
        """Which model answers."""
        return self._loaded.model

    @property
    def features(self) -> list[tuple[str, str]]:
        """The columns of training with their Arrow types, in the order of a row without names."""
        return self.described()[1]

    def described(self) -> tuple[LiveModel, list[tuple[str, str]]]:
        """The model and its features, both of one model."""
        loaded = self._loaded
        return loaded.model, [(feature.name, feature.kind) for feature in loaded.fitted.features]

    @property
    def classes(self) -> "np.ndarray[Any, Any]":
        """The labels, in the order of predict_proba's columns. Raises: NoProbabilities: it is a regression."""
        return _classes(self._loaded)

    def predict(self, rows: Any) -> "np.ndarray[Any, Any]":
        """n labels as they were trained on, or n numbers, or n × k of k targets.

        `rows` as `registry.inputs.aligned` takes them.

        Raises:
            MissingColumns, BadRows: they are not like those that the model was trained on.
        """
        return self.answer(rows)[1]

    def predict_proba(self, rows: Any) -> "np.ndarray[Any, Any]":
        """n × classes probabilities, in the order of `classes`.

        Raises:
            MissingColumns, BadRows: as `predict`.
            NoProbabilities: the live model has none.
        """
        return self.answer_proba(rows)[2]

    def answer_proba(self, rows: Any) -> "tuple[LiveModel, np.ndarray[Any, Any], np.ndarray[Any, Any]]":
        """The model, its classes, and its probabilities of them: all three of one model, as `answer` does it."""
        loaded = self._loaded
        classes = _classes(loaded)
        if not hasattr(loaded.fitted.pipeline, "predict_proba"):
            raise NoProbabilities(f"{loaded.model.algorithm} (model {loaded.model.id}) gives labels, no probabilities")
        import numpy as np

        X = loaded.fitted.prepared(rows)
        found = np.asarray(loaded.fitted.predict_proba(X)) if len(X) else np.empty((0, len(classes)))
        return loaded.model, classes, found

    def answer(self, rows: Any) -> "tuple[LiveModel, np.ndarray[Any, Any]]":
        """The predictions and the model that they are of, even when another one goes live meanwhile."""
        loaded = self._loaded
        return loaded.model, _answers(loaded, loaded.fitted.prepared(rows))

    def answer_all(self, requests: Sequence[Any]) -> "tuple[LiveModel, list[np.ndarray[Any, Any] | Exception]]":
        """Several requests by one call of one model: for each its predictions, or the error that it alone would raise.

        The last digits of a number may depend on what is answered with it, as they do on the rows of one request.
        """
        import numpy as np

        loaded = self._loaded
        prepared = [_tried(loaded.fitted.prepared, rows) for rows in requests]
        arrays = _all_answers(loaded, [X for X in prepared if isinstance(X, np.ndarray)])
        tables = _all_answers(loaded, [X for X in prepared if not isinstance(X, np.ndarray | Exception)])
        return loaded.model, [
            X if isinstance(X, Exception) else next(arrays if isinstance(X, np.ndarray) else tables) for X in prepared
        ]

    def refresh(self) -> LiveModel:
        """Answers with the model that is live now; on any error with the one before.

        Raises:
            As a new Predictor.
        """
        with self._refreshing:
            model, before = queries.live_deployment(self._project_name), self._loaded
            if model.id == before.model.id:
                self._loaded = _Loaded(model, before.fitted)
            else:
                self._loaded = _load(model)
            return self._loaded.model

    def close(self) -> None:
        """Looks for no other model any more."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _load(model: LiveModel) -> _Loaded:
    columns = features(queries.snapshot(model.snapshot_id), queries.model(model.id))
    return _Loaded(model, ServedPipeline(load_pipeline(model.artifact), columns))


def _answers(loaded: _Loaded, X: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    targets = len(loaded.model.y_column_names)
    if len(X):
        answers = np.asarray(loaded.fitted.predict(X))
        return answers if targets > 1 else answers.ravel()
    kind = _classes(loaded).dtype if loaded.model.task is Task.CLASSIFICATION else float
    return np.empty((0, targets) if targets > 1 else 0, kind)


def _all_answers(loaded: _Loaded, Xs: list[Any]) -> Iterator[Any]:
    """To each of `Xs`, all of one kind, its answers, by one call for all of them; or what it alone would raise."""
    together = _tried(lambda: _answers(loaded, _below(Xs))) if len(Xs) > 1 else None
    if together is None or isinstance(together, Exception):  # one of them may be what the model cannot take
        return iter([_tried(_answers, loaded, X) for X in Xs])
    ends = itertools.accumulate(map(len, Xs))
    return iter([together[end - len(X) : end] for X, end in zip(Xs, ends, strict=True)])


def _below(Xs: list[Any]) -> Any:
    import numpy as np
    import pandas as pd

    return np.concatenate(Xs) if isinstance(Xs[0], np.ndarray) else pd.concat(Xs, ignore_index=True)


def _tried(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001  (whose request it is will be told)
        return error


def _classes(loaded: _Loaded) -> "np.ndarray[Any, Any]":
    import numpy as np

    if loaded.model.task is not Task.CLASSIFICATION:
        raise NoProbabilities(f"{loaded.model.project_name!r} is a regression: it has no classes and no probabilities")
    return np.asarray(loaded.fitted.pipeline.classes_)


def _follow(predictor: "weakref.ref[Predictor]", seconds: float, stop: Event) -> None:
    """Until the predictor is closed, or nobody has it any more."""
    said = ""
    while not stop.wait(seconds):
        alive = predictor()
        if alive is None:
            return
        before = alive.model
        try:
            after = alive.refresh()
        except Exception as error:  # noqa: BLE001  (whatever it is, the loaded model goes on)
            known = str(error) if isinstance(error, FrontrunnerError) else f"{type(error).__name__}: {error}"
            if known != said:  # an outage is told once
                log.warning("model %d goes on answering for %r: %s", before.id, before.project_name, known)
            said = known
        else:
            said = ""
            if after.id != before.id:
                log.info("model %d (%s) answers for %r from now on", after.id, after.algorithm, after.project_name)
        del alive

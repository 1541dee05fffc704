"""The live model's predictions. An application that needs predictions needs only this module."""

import itertools
import logging
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any, Self

import numpy as np
import pandas as pd

from registry import queries
from registry.errors import FrontrunnerError, InvalidInput, NoProbabilities
from registry.names import checked_name
from registry.serving.artifacts import load_pipeline
from registry.serving.features import features
from registry.serving.served_pipeline import ServedPipeline
from registry.values import LiveModel
from registry.vocabulary import Task

log = logging.getLogger("frontrunner")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A live model and its pipeline. A request uses the same one from beginning to end."""

    model: LiveModel
    served: ServedPipeline


class Predictor:
    """Predict with the live model of a project. Any number of threads may use one Predictor.

    Without `refresh_seconds` the first model answers until `refresh()`. With a number, a background thread looks up the
    live model that often and swaps a new one in once it is loaded. If that fails, the old model keeps answering and a
    warning is logged.

    Raises:
        InvalidName: no project can have that name.
        UnknownProject: there is no such project.
        NothingDeployed: it has no live model yet.
        RegistryUnavailable, ArtifactMissing, ArtifactChanged: the model cannot be looked up, fetched or trusted.
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
        """The model that answers."""
        return self._loaded.model

    @property
    def features(self) -> list[tuple[str, str]]:
        """The columns of training with their Arrow types, in the order of a row without names."""
        return self.describe()[1]

    def describe(self) -> tuple[LiveModel, list[tuple[str, str]]]:
        """Return the model and its features, both of the same model."""
        loaded = self._loaded
        return loaded.model, [(feature.name, feature.kind) for feature in loaded.served.features]

    @property
    def classes(self) -> np.ndarray[Any, Any]:
        """The labels, in the order of predict_proba's columns. Raises: NoProbabilities: it is a regression."""
        return _classes(self._loaded)

    def predict(self, rows: Any) -> np.ndarray[Any, Any]:
        """Return n labels or numbers, or n × k for k targets. Raises: MissingColumns, BadRows.

        `rows` are in any form that `registry.serving.inputs.aligned` takes.
        """
        return self.answer(rows)[1]

    def predict_proba(self, rows: Any) -> np.ndarray[Any, Any]:
        """Return n × classes probabilities, in the order of `classes`. Raises: as `predict`, and NoProbabilities."""
        return self.answer_proba(rows)[2]

    def answer_proba(self, rows: Any) -> tuple[LiveModel, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the model, its classes and their probabilities, all three of the same model."""
        loaded = self._loaded
        classes = _classes(loaded)
        if not hasattr(loaded.served.pipeline, "predict_proba"):
            raise NoProbabilities(f"{loaded.model.algorithm} (model {loaded.model.id}) gives labels, no probabilities")
        X = loaded.served.prepare(rows)
        found = np.asarray(loaded.served.predict_proba(X)) if len(X) else np.empty((0, len(classes)))
        return loaded.model, classes, found

    def answer(self, rows: Any) -> tuple[LiveModel, np.ndarray[Any, Any]]:
        """Return the predictions and the model that made them, even if another goes live at the same time."""
        loaded = self._loaded
        return loaded.model, _answers(loaded, loaded.served.prepare(rows))

    def answer_all(self, requests: Sequence[Any]) -> tuple[LiveModel, list[np.ndarray[Any, Any] | Exception]]:
        """Answer several requests by one call of one model. Each result is the predictions or that request's error.

        The last digits of a number may depend on the rows that are answered with it, as within one request.
        """
        loaded = self._loaded
        results = [_result_or_error(loaded.served.prepare, rows) for rows in requests]
        for kind in (np.ndarray, pd.DataFrame):
            positions = [position for position, X in enumerate(results) if isinstance(X, kind)]
            answers = _answers_of_each(loaded, [results[position] for position in positions])
            for position, answer in zip(positions, answers, strict=True):
                results[position] = answer
        return loaded.model, results

    def refresh(self) -> LiveModel:
        """Answer with the model that is live now; after an error, keep the old one. Raises: as a new Predictor."""
        with self._refreshing:
            model, before = queries.live_deployment(self._project_name), self._loaded
            if model.id == before.model.id:
                self._loaded = LoadedModel(model, before.served)
            else:
                self._loaded = _load(model)
            return self._loaded.model

    def close(self) -> None:
        """Stop following the live model."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _load(model: LiveModel) -> LoadedModel:
    columns = features(queries.snapshot(model.snapshot_id), queries.model(model.id))
    return LoadedModel(model, ServedPipeline(load_pipeline(model.artifact), columns))


def _answers(loaded: LoadedModel, X: Any) -> np.ndarray[Any, Any]:
    targets = len(loaded.model.y_column_names)
    if len(X):
        answers = np.asarray(loaded.served.predict(X))
        return answers if targets > 1 else answers.ravel()
    kind = _classes(loaded).dtype if loaded.model.task is Task.CLASSIFICATION else float
    return np.empty((0, targets) if targets > 1 else 0, kind)


def _answers_of_each(loaded: LoadedModel, Xs: list[Any]) -> list[Any]:
    """Return the answers or the error of each of `Xs`, which are of one kind, by one call for all if possible."""
    if len(Xs) > 1:
        with suppress(Exception):  # one of them may be invalid: each is then answered alone
            joined = np.concatenate(Xs) if isinstance(Xs[0], np.ndarray) else pd.concat(Xs, ignore_index=True)
            answers = _answers(loaded, joined)
            ends = itertools.accumulate(map(len, Xs))
            return [answers[end - len(X) : end] for X, end in zip(Xs, ends, strict=True)]
    return [_result_or_error(_answers, loaded, X) for X in Xs]


def _result_or_error(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001  (it is raised for the request that it belongs to)
        return error


def _classes(loaded: LoadedModel) -> np.ndarray[Any, Any]:
    if loaded.model.task is not Task.CLASSIFICATION:
        raise NoProbabilities(f"{loaded.model.project_name!r} is a regression: it has no classes and no probabilities")
    return np.asarray(loaded.served.pipeline.classes_)


def _follow(predictor: "weakref.ref[Predictor]", seconds: float, stop: Event) -> None:
    """Refresh until the predictor is closed or garbage collected."""
    reported = ""
    while not stop.wait(seconds):
        alive = predictor()
        if alive is None:
            return
        before = alive.model
        try:
            after = alive.refresh()
        except Exception as error:  # noqa: BLE001  (whatever it is, the loaded model keeps answering)
            known = str(error) if isinstance(error, FrontrunnerError) else f"{type(error).__name__}: {error}"
            if known != reported:  # an outage is logged once
                log.warning("model %d keeps answering for %r: %s", before.id, before.project_name, known)
            reported = known
        else:
            reported = ""
            if after.id != before.id:
                log.info("model %d (%s) answers for %r from now on", after.id, after.algorithm, after.project_name)
        del alive

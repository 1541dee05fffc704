"""Frozen values that the steps of a run hand to each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.values import SnapshotRecord, Terms
from registry.vocabulary import Sampling, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Search:
    """`params`: {algorithm: {parameter: values}}, values being a list, or for optuna a range: low and high with an int
    or a float each, perhaps step or log, as its `suggest_int` and `suggest_float` take them. `args` has its defaults.
    """

    kind: str
    params: dict[str, dict[str, Any]]
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The winner and everything that was tried, each as {trial, params, mean, std, fit_time, state}.

    `state` is complete, failed (all figures None) or pruned (the figures of the folds until then). `mean` and `std` are
    those of the key metric over the folds, `fit_time` the mean seconds of a fold's fit.
    """

    params: dict[str, Any]
    mean: float
    trials: list[dict[str, Any]]


def trials_table(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Flat rows, a column for each parameter."""
    figures = ("mean", "std", "fit_time", "state")
    return [{"trial": trial["trial"], **trial["params"], **{name: trial[name] for name in figures}} for trial in trials]


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A training run that can begin. `snapshot` is the one to train on again, None when a relation is to be read."""

    project_name: str
    task: Task
    relation_name: str
    y_column_names: tuple[str, ...]
    algorithms: tuple[str, ...]
    hyperparams: dict[str, dict[str, Any]]
    search: Search | None
    preprocess: dict[str, dict[str, Any]]
    test_size: float
    test_sampling: Sampling
    seed: int
    snapshot: SnapshotRecord | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class MlflowRun:
    """A training's MLflow run, the parent of its candidates' runs."""

    id: str
    experiment_id: str
    artifact_uri: str
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Training:
    """A training run that has its rows: what every candidate needs to know."""

    request: TrainingRequest
    key: str
    snapshot_id: int
    run: MlflowRun
    one_by_one: bool  # so many rows that the candidates share them one after the other


class Outcome(NamedTuple):
    """The end of a candidate: its model's id, and its predictions for the test rows if it was trained here."""

    model_id: int
    predicted: Any = None


class Rows(NamedTuple):
    """X_* are n × d frames of the feature columns, y_* the n targets with their original labels, n × k if k."""

    X_train: "pd.DataFrame"
    y_train: "np.ndarray[Any, Any]"
    X_test: "pd.DataFrame"
    y_test: "np.ndarray[Any, Any]"

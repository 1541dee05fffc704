"""Frozen values that the steps of a run pass to each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.values import SnapshotRecord, Terms
from registry.vocabulary import Sampling, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Search:
    """A search for hyperparameters; `params` is {algorithm: {parameter: values}}, and `args` has its defaults.

    The values are a list, or for optuna a range: `low` and `high`, both int or both float, and optionally `step` or
    `log`, as its `suggest_int` and `suggest_float` accept them.
    """

    kind: str
    params: dict[str, dict[str, Any]]
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The best trial's parameters and mean, and every trial as {trial, params, mean, std, fit_time, state}.

    `state` is complete, failed (all numbers are None) or pruned (the numbers are those of the folds until then). `mean`
    and `std` are those of the key metric over the folds, `fit_time` is the mean seconds of a fold's fit.
    """

    params: dict[str, Any]
    mean: float
    trials: list[dict[str, Any]]


def trials_table(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials as flat rows, with a column for each parameter."""
    columns = ("mean", "std", "fit_time", "state")
    return [{"trial": trial["trial"], **trial["params"], **{name: trial[name] for name in columns}} for trial in trials]


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A checked request to train; `snapshot` is the one to train on again, None if a relation is to be read."""

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
    """A training that has its snapshot, as every candidate gets it."""

    request: TrainingRequest
    key: str
    snapshot_id: int
    run: MlflowRun
    one_by_one: bool  # there are so many rows that candidates are trained one after the other


class Outcome(NamedTuple):
    """A candidate's result: its model's id, and its predictions for the test rows if it was trained here."""

    model_id: int
    predicted: Any = None


class Rows(NamedTuple):
    """The rows of a snapshot: n × d frames of features, and n targets (n × k if joint) with their original labels."""

    X_train: "pd.DataFrame"
    y_train: "np.ndarray[Any, Any]"
    X_test: "pd.DataFrame"
    y_test: "np.ndarray[Any, Any]"

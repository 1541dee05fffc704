"""What the registry hands out: frozen values that outlive the session that read them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.vocabulary import Sampling, Status, Strategy, Task


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in MLflow's artifact store and what it must be, byte for byte."""

    uri: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    id: int
    name: str
    task: Task
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """Frozen rows: the first `train_rows` of the artifact are for fitting, the next `test_rows` for scoring."""

    id: int
    project_id: int
    relation_name: str
    y_column_names: tuple[str, ...]
    test_size: float
    test_sampling: Sampling
    seed: int
    train_rows: int
    test_rows: int
    columns: tuple[dict[str, Any], ...]
    preprocess: dict[str, dict[str, Any]]
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One candidate. `score` and `artifact` are None until it is trained, and for ever if it failed."""

    id: int
    project_id: int
    snapshot_id: int
    algorithm: str
    hyperparams: dict[str, Any]
    preprocessing: dict[str, dict[str, Any]]
    status: Status
    score: float | None
    metrics: dict[str, float]
    reason: str | None
    artifact: Artifact | None
    mlflow_run_id: str | None
    mlflow_model_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LiveModel:
    """The model that answers for a project, and the deployment that made it live."""

    id: int
    algorithm: str
    score: float
    seq: int
    project_name: str
    task: Task
    y_column_names: tuple[str, ...]
    snapshot_id: int
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """One row of a project's history."""

    seq: int
    strategy: Strategy
    algorithm_name: str
    model_id: int
    score: float
    deployed_at: datetime
    deployed_by: str


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What a deploy answers.

    `algorithm_name`, `model_id` and `score` are those of the model that is live now, `previous_model_id` the one that
    was live before (None: nothing was); `changed` is False when they are the same and no deployment was added.
    """

    project_name: str
    strategy: Strategy
    algorithm_name: str
    model_id: int
    score: float
    previous_model_id: int | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a challenger, in words a person can check."""

    deploy: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a run's best candidate; `live_model_id` is the model live afterwards, None if there is none."""

    project_name: str
    challenger_id: int
    deployed: bool
    live_model_id: int | None
    previous_model_id: int | None
    reason: str

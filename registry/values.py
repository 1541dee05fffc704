"""The frozen values that the registry returns and accepts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.vocabulary import Basis, Compare, Sampling, Status, Strategy, Task


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in MLflow's artifact store, with the size and digest that it must have."""

    uri: str
    sha256: str
    bytes: int

    def __composite_values__(self) -> tuple[str, str, int]:
        """Return the values of a row's three columns, for SQLAlchemy's `composite`."""
        return self.uri, self.sha256, self.bytes


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    id: int
    name: str
    task: Task
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """The frozen rows to record. `statistics` has one entry for each column; `golden_rows` has rows of the test set."""

    relation_name: str
    y_column_names: tuple[str, ...]
    test_size: float
    test_sampling: Sampling
    seed: int
    train_rows: int
    test_rows: int
    columns: list[dict[str, Any]]
    preprocess: dict[str, dict[str, Any]]
    statistics: list[dict[str, Any]]
    golden_rows: list[list[Any]]
    artifact: Artifact
    hashes: Artifact


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """Frozen rows: the first `train_rows` of the artifact are for fitting, the next `test_rows` for scoring.

    `hashes` is a file with 64 bits for each row, in the same order. After `pruned_at` the files may be gone.
    """

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
    hashes: Artifact
    pruned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A candidate. `score` and `artifact` are None unless it was trained.

    A pruned model keeps its score, and its artifact until the file is gone. `finished_at` is when the candidate was
    trained, failed or was cancelled. `quarantine` is the reason why no strategy may choose it, None if they may.
    """

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
    quarantine: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pruning:
    """The models of a project that are not kept, and the snapshots that only such models were trained on."""

    model_ids: tuple[int, ...]
    snapshot_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """The live model of a project, and the number `seq` of the deployment that made it live."""

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
    """A row of a project's history."""

    seq: int
    strategy: Strategy
    algorithm_name: str
    model_id: int
    score: float
    deployed_at: datetime
    deployed_by: str
    forced: bool
    reason: str | None
    quarantine: str | None


@dataclass(frozen=True, slots=True)
class DeployResult:
    """The result of a deploy.

    `algorithm_name`, `model_id` and `score` are those of the model that is live now. The `previous_…` fields are those
    of the model that was live before, None without one. `changed` is False if both are the same and no deployment was
    added. With `planned`, nothing was written and the fields show what a deploy would do.

    `seq` and the fields after it describe the deployment that made the model live: an earlier one if nothing changed,
    none in a plan. `warning` says what could not be proven about the model before it went live.
    """

    project_name: str
    strategy: Strategy
    algorithm_name: str
    model_id: int
    score: float
    previous_model_id: int | None
    changed: bool
    planned: bool = False
    previous_score: float | None = None
    seq: int | None = None
    deployed_at: datetime | None = None
    deployed_by: str | None = None
    forced: bool = False
    reason: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which a challenger is deployed.

    Models of different snapshots are compared on at least `min_rows` rows.
    """

    compare: Compare = Compare.SAME_ROWS
    min_improvement: float = 0.0
    confidence: float | None = None
    must_beat_baseline: bool = False
    min_rows: int = 50


@dataclass(frozen=True, slots=True)
class Evidence:
    """The measurements of a challenger and of the live model.

    All scores are those on the compared rows. `rows_excluded` test rows were left out because a model was trained on
    them. `interval` is that of the challenger's score minus the live score. `obstacle` is the reason why there is no
    comparison.
    """

    basis: Basis
    live_model_id: int | None
    candidate_ids: tuple[int, ...]
    challenger_score: float | None = None
    live_score: float | None = None
    baseline_score: float | None = None
    rows_compared: int | None = None
    rows_excluded: int | None = None
    interval: tuple[float, float] | None = None
    live_quarantined: bool = False
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a rule on a challenger, with a reason that a person can check."""

    deploy: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a run's best candidate. `live_model_id` is the model that is live afterwards, if any.

    `id` is that of its receipt, None if automatic_deploy is off and nothing was decided. `deployment` is None if the
    challenger was not deployed.
    """

    project_name: str
    challenger_id: int
    deployed: bool
    live_model_id: int | None
    previous_model_id: int | None
    reason: str
    id: int | None = None
    interval: tuple[float, float] | None = None
    deployment: DeployResult | None = None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """The receipt of one automatic deploy: the challenger, the terms, the evidence and the outcome.

    `seed` is the seed of its interval: the id that the challenger had in the registry where it was decided.
    """

    id: int
    project_name: str
    challenger_id: int
    algorithm_name: str
    terms: Terms
    evidence: Evidence
    deployed: bool
    reason: str
    decided_by: str
    code_version: str
    decided_at: datetime
    seed: int

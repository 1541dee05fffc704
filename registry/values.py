"""What the registry hands out: frozen values that outlive the session that read them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.vocabulary import Basis, Compare, Sampling, Status, Strategy, Task


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in MLflow's artifact store and what it must be, byte for byte."""

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
    """Rows that were frozen and are to be recorded: SnapshotRecord says what the fields are.

    `statistics` are those of each column; `golden_rows` are the features of some test rows, in the order of training.
    """

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

    `hashes` is a file of 64 bits for each row, in the same order. Since `pruned_at` the files are gone, or about to go.
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
    """One candidate. `score` and `artifact` are None until it is trained, and for ever if it failed; when it was pruned
    the score stays, and the artifact only until its file is gone. It was recorded at `created_at`, when its run began
    to train, and was trained, failed or was cancelled at `finished_at`.

    `quarantine` is why no strategy may choose it, None where any may.
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
    """What is not kept of a project: the models, and the snapshots whose rows only such models were trained on."""

    model_ids: tuple[int, ...]
    snapshot_ids: tuple[int, ...]


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
    forced: bool
    reason: str | None
    quarantine: str | None


@dataclass(frozen=True, slots=True)
class DeployResult:
    """The result of a deploy.

    `algorithm_name`, `model_id` and `score` are those of the model that is live now, the `previous_…` ones those of the
    model that was live before (None: nothing was). `changed` is False when they are the same and no deployment was
    added. With `planned` nothing was written: this is what would be so.

    `seq` and what follows are those of the deployment that made the model live. Where nothing changed that is an
    earlier one; in a plan there is none. `warning` is what could not be proven of the model before it went live.
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
    """What a challenger is asked for. `min_rows`: fewer are not compared; it does not count for one snapshot."""

    compare: Compare = Compare.SAME_ROWS
    min_improvement: float = 0.0
    confidence: float | None = None
    must_beat_baseline: bool = False
    min_rows: int = 50


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a challenger was measured to be beside the model that is live.

    The scores, the baseline's too, are those on the compared rows; `rows_excluded` of the test rows were in a training.
    `interval` is that of the challenger's score less the live one's. `obstacle` is why there is no comparison.
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
    """What a rule says of a challenger, in words a person can check."""

    deploy: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a run's best candidate; `live_model_id` is the model live afterwards, None if there is none.

    `id` is that of its receipt, None where automatic_deploy is off and nothing was decided. `deployment` is the one
    that was added, None if none was.
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
    """The receipt of one attempt: who challenged, on which terms, what was measured, and what came of it.

    `seed` is what its interval was drawn by: the id that the challenger had where it was decided.
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

"""The result of a training, which its flow returns and its command prints."""

from dataclasses import dataclass

from registry.vocabulary import Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the leaderboard. If training failed, `score` is None, `metrics` is empty and `reason` is set."""

    algorithm: str
    score: float | None
    status: str
    model_id: int
    mlflow_run_id: str | None
    metrics: dict[str, float]
    reason: str | None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of `train`: the leaderboard, the best first, what was deployed, and why or why not.

    `decision_id` is None if automatic_deploy is off, `deployed_model_id` if nothing was deployed, and `interval` if
    confidence was left out. `baseline` are the metrics of scikit-learn's dummy on the same test rows.
    """

    project_name: str
    task: Task
    snapshot_id: int
    leaderboard: tuple[Candidate, ...]
    deployed: bool
    deployed_model_id: int | None
    live_model_id: int | None
    reason: str
    decision_id: int | None
    interval: tuple[float, float] | None
    baseline: dict[str, float]

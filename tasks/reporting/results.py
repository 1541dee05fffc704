"""The result of a training, as its flow returns it and its command prints it."""

from dataclasses import dataclass

from registry.vocabulary import Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the leaderboard. Where training failed, `score` is None, `metrics` is empty and `reason` is why."""

    algorithm: str
    score: float | None
    status: str
    model_id: int
    mlflow_run_id: str | None
    metrics: dict[str, float]
    reason: str | None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of `train`: the leaderboard, the best first; what was deployed (None: nothing), and why or why not.

    `decision_id` is the receipt's (None: automatic_deploy is off), `interval` that of the improvement where confidence
    was asked for, `baseline` the metrics of scikit-learn's dummy on the same test rows.
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

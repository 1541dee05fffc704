"""A small language for what happened in a project, so that a test reads as a specification."""

from itertools import count

from registry import history, queries
from registry.values import Artifact, Decision, DeployResult, ModelRecord, SnapshotRecord
from registry.vocabulary import Sampling, Strategy, Task
from tasks.promotion import recorded_scores

_keys = count()
NO_FILE = Artifact("file:///nowhere/model.skops", "0" * 64, 1)


class Story:
    """Models are recorded as trained without being fitted: what is told is the registry's part."""

    def __init__(self, project: str = "churn", task: Task = Task.CLASSIFICATION) -> None:
        self.project, self.task = project, task
        self.snapshot = self.new_snapshot()

    def new_snapshot(self) -> SnapshotRecord:
        self.snapshot = history.record_snapshot(
            self.project,
            self.task,
            relation_name="sklearn:iris",
            y_column_names=["target"],
            test_size=0.25,
            test_sampling=Sampling.STRATIFIED,
            seed=0,
            train_rows=112,
            test_rows=38,
            columns=[],
            preprocess={},
            statistics=[],
            artifact=NO_FILE,
            request_key=self.key(),
        )
        return self.snapshot

    def started(self, algorithm: str = "linear") -> ModelRecord:
        return history.start_model(self.snapshot, algorithm, {}, self.key())

    def trained(self, score: float, algorithm: str = "linear") -> int:
        model = self.started(algorithm)
        self.finish(model.id, score)
        return model.id

    @staticmethod
    def finish(model_id: int, score: float, artifact: Artifact = NO_FILE) -> ModelRecord:
        return history.finish_model(
            model_id,
            hyperparams={},
            preprocessing={},
            score=score,
            metrics={},
            artifact=artifact,
            mlflow_run_id="run",
            mlflow_model_id="m-1",
        )

    def failed(self, algorithm: str = "linear") -> int:
        return history.fail_model(self.started(algorithm).id, "it could not be fitted", None).id

    def promoted(self, model_id: int, key: str | None = None) -> Decision:
        """What the automatic rule makes of a model."""
        rule = recorded_scores(self.task)
        return history.promote(model_id, rule, request_key=key or self.key(), deployed_by="the story")

    def trained_and_promoted(self, score: float, algorithm: str = "linear") -> int:
        model_id = self.trained(score, algorithm)
        self.promoted(model_id)
        return model_id

    def deploys(
        self, strategy: str, algorithm: str | None = None, key: str | None = None, model_id: int | None = None
    ) -> DeployResult:
        return history.deploy(
            self.project,
            Strategy(strategy),
            algorithm,
            model_id=model_id,
            request_key=key or self.key(),
            deployed_by="the story",
        )

    @property
    def live(self) -> int | None:
        model = queries.live_model(self.project)
        return model.id if model else None

    @property
    def history(self) -> list[tuple[int, str, int]]:
        """(seq, strategy, model id), the oldest first."""
        return [(row.seq, str(row.strategy), row.model_id) for row in reversed(queries.history(self.project))]

    @staticmethod
    def key() -> str:
        return f"story-{next(_keys)}"

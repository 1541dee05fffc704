"""A small language for the events in a project, so that a test reads as a specification."""

from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from registry import history, lifecycle, queries
from registry.choices import DeployRequest
from registry.errors import ChoiceChanged
from registry.serving.artifacts import describe
from registry.values import Artifact, Decision, DeployResult, ModelRecord, NewSnapshot, SnapshotRecord, Terms
from registry.vocabulary import Compare, Sampling, Strategy, Task
from tasks.promotion.comparison import compare
from tasks.promotion.rule import apply_rule

_keys = count()
NO_FILE = Artifact("file:///nowhere/model.skops", "0" * 64, 1)


class Story:
    """A project whose models are recorded as trained without being fitted.

    With a folder, all models share a file that always predicts 0, so that they can be proven.
    """

    def __init__(self, project: str = "churn", task: Task = Task.CLASSIFICATION, *, folder: Path | None = None) -> None:
        self.project, self.task = project, task
        self.file = _file(folder) if folder else NO_FILE
        self.snapshot = self.new_snapshot()

    def new_snapshot(self, key: str | None = None) -> SnapshotRecord:
        new = NewSnapshot(
            relation_name="sklearn:iris",
            y_column_names=("target",),
            test_size=0.25,
            test_sampling=Sampling.STRATIFIED,
            seed=0,
            train_rows=112,
            test_rows=38,
            columns=[{"name": "x", "type": "double"}, {"name": "target", "type": "int64"}],
            preprocess={},
            statistics=[],
            golden_rows=[[1.0]],
            artifact=replace(NO_FILE, sha256=f"{next(_keys):064x}"),  # other rows than those of any other
            hashes=NO_FILE,
        )
        self.snapshot = lifecycle.record_snapshot(self.project, self.task, new, key or self.key())
        return self.snapshot

    def started(self, algorithm: str = "linear") -> ModelRecord:
        return lifecycle.start_model(self.snapshot, algorithm, {}, self.key())

    def trained(self, score: float, algorithm: str = "linear") -> int:
        model = self.started(algorithm)
        self.finish(model.id, score)
        return model.id

    def finish(self, model_id: int, score: float, artifact: Artifact | None = None) -> ModelRecord:
        return lifecycle.finish_model(
            model_id,
            hyperparams={},
            preprocessing={"x": {"encode": "native"}},
            score=score,
            metrics={},
            golden=[0],
            artifact=artifact or self.file,
            mlflow_run_id=f"run-{model_id}",
            mlflow_model_id="m-1",
        )

    def failed(self, algorithm: str = "linear") -> int:
        return lifecycle.fail_model(self.started(algorithm).id, "it could not be fitted", None).id

    def promoted(self, model_id: int, key: str | None = None) -> Decision:
        """Apply the automatic rule to a model by its recorded score, and return the decision."""
        key, terms = key or self.key(), Terms(Compare.RECORDED)
        while True:
            challenger, live = queries.model(model_id), queries.live_model(self.project)
            evidence = compare(self.task, challenger, live, [challenger], terms)
            verdict = apply_rule(self.task, challenger, live, evidence, terms)
            with suppress(ChoiceChanged):
                return history.promote(
                    model_id, evidence, terms, verdict, request_key=key, decided_by="the story", code_version="0"
                )

    def trained_and_promoted(self, score: float, algorithm: str = "linear") -> int:
        model_id = self.trained(score, algorithm)
        self.promoted(model_id)
        return model_id

    def deploys(
        self,
        strategy: str,
        algorithm: str | None = None,
        key: str | None = None,
        *,
        reason: str | None = None,
        quarantine: bool = False,
        seen: tuple[int, int | None] | None = None,
        **wish: Any,
    ) -> DeployResult:
        return history.deploy(
            DeployRequest(self.project, Strategy(strategy), algorithm, **wish),
            seen=seen,
            reason=reason,
            quarantine=quarantine,
            request_key=key or self.key(),
            deployed_by="the story",
        )

    @property
    def live(self) -> int | None:
        model = queries.live_model(self.project)
        return model.id if model else None

    @property
    def history(self) -> list[tuple[int, str, int]]:
        """Return (seq, strategy, model id) of each deployment, oldest first."""
        return [(row.seq, str(row.strategy), row.model_id) for row in reversed(queries.history(self.project))]

    @staticmethod
    def key() -> str:
        return f"story-{next(_keys)}"


def _file(folder: Path) -> Artifact:
    import skops.io
    from sklearn.dummy import DummyClassifier

    path = folder / "story.skops"
    skops.io.dump(DummyClassifier(strategy="constant", constant=0).fit([[0.0]], [0]), path)
    return describe(path, path.as_uri())

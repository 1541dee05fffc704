"""What crashes and outages leave behind, and that a reconcile mends it: with a real MLflow store."""

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import text, update

from flows.train import train
from registry import Predictor, lifecycle, queries, session, settings
from registry.errors import SourceUnavailable
from registry.retention import Keep
from registry.schema import Model, now
from registry.vocabulary import Status, Task
from tasks.tracking import alias, cleanup, models, runs
from tasks.training import heartbeat
from tasks.training.heartbeat import keep_alive
from tasks.upkeep import prune
from tasks.upkeep import reconcile as reconcile_module
from tasks.upkeep.reconcile import Action, reconcile
from tasks.values import MlflowRun, Training
from tests.support.mlflow_server import mlflow_server
from tests.support.requests import request
from tests.support.story import Story

OLD = timedelta(hours=2)


class Saved(Story):
    """Models whose MLflow runs, saved models and files are real, if small."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder=folder)
        self.bytes = Path(self.file.uri.removeprefix("file://")).read_bytes()
        self.mlflow = MlflowClient(settings.tracking_uri(), settings.tracking_uri())

    def training(self, key: str | None = None) -> Training:
        asked, key = request(Task.CLASSIFICATION, project_name=self.project), key or self.key()
        return Training(asked, key, self.snapshot.id, runs.start_run(asked, key), False)

    def begun(self, training: Training, algorithm: str = "linear") -> tuple[int, str]:
        """A candidate that is being trained, and its run."""
        model = lifecycle.start_model(self.snapshot, algorithm, {}, f"{training.key}:{algorithm}")
        return model.id, runs.start_candidate(training.run, model, self.snapshot)

    def file_of(self, training: Training, model_id: int, run_id: str) -> tuple[str, Path]:
        """A saved model of MLflow's, with a file."""
        logged = self.mlflow.create_logged_model(
            training.run.experiment_id, source_run_id=run_id, tags={"frontrunner.model_id": str(model_id)}
        )
        folder = Path(logged.artifact_location.removeprefix("file://"))
        folder.mkdir(parents=True)
        (folder / models.FILE).write_bytes(self.bytes)
        return logged.model_id, folder / models.FILE

    def saved(self, score: float) -> int:
        """A model that was trained, as a training leaves it."""
        training = self.training()
        model_id, run_id = self.begun(training)
        logged_id, path = self.file_of(training, model_id, run_id)
        runs.end_run(run_id, "FINISHED")
        runs.end_run(training.run.id, "FINISHED")
        lifecycle.finish_model(
            model_id,
            hyperparams={},
            preprocessing={"x": {"encode": "native"}},
            score=score,
            metrics={"f1": score},
            golden=[0],
            artifact=runs.describe(path, path.as_uri()),
            mlflow_run_id=run_id,
            mlflow_model_id=logged_id,
        )
        return model_id

    def status(self, run_id: str) -> str:
        return str(self.mlflow.get_run(run_id).info.status)

    @property
    def alias(self) -> int | None:
        return alias.mirrored_model_id(queries.project(self.project).id)


@pytest.fixture
def story(workspace: Path, mlflow_store: Path) -> Saved:
    return Saved(workspace)


def path_of(model_id: int) -> Path:
    artifact = queries.model(model_id).artifact
    assert artifact is not None
    return Path(artifact.uri.removeprefix("file://"))


def made_old(monkeypatch: pytest.MonkeyPatch, *model_ids: int) -> None:
    """As if two hours had passed since: for the registry, and for what MLflow says of its own things."""
    with session.transaction(write=True) as writing:
        ago = {"created_at": now() - OLD, "heartbeat_at": now() - OLD}
        writing.execute(update(Model).where(Model.id.in_(model_ids)).values(ago))
        writing.execute(
            update(Model).where(Model.id.in_(model_ids), Model.finished_at.is_not(None)).values(finished_at=now() - OLD)
        )
    later = cleanup._time
    monkeypatch.setattr(cleanup, "_time", lambda milliseconds: later(milliseconds) - OLD)


def said(actions: list[Action]) -> list[str]:
    return [action.what for action in actions]


def planned_then_done() -> list[Action]:
    """What a dry run says is what is done, and then there is nothing more to do."""
    planned = reconcile(dry_run=True)
    done = reconcile()
    assert [action.what for action in planned] == [action.what for action in done]
    assert [action for action in reconcile() if action.done is not None] == []
    return done


def test_where_all_is_well_there_is_nothing_to_do(story: Saved) -> None:
    story.promoted(story.saved(0.5))
    assert alias.mirror_live(story.project)
    story.training()
    assert reconcile() == []


def test_a_project_is_read_once(story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs every few minutes, and a project may have many thousands of models and runs."""
    story.promoted(story.saved(0.5))
    read: list[str] = []
    for module, name in ((queries, "trainings"), (queries, "models"), (cleanup, "contents")):
        there = getattr(module, name)
        monkeypatch.setattr(module, name, lambda project, name=name, there=there: read.append(name) or there(project))
    reconcile()
    assert sorted(read) == ["contents", "trainings"]


class TestTheMirror:
    def test_a_deployment_that_mlflow_missed(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        first = story.saved(0.5)
        story.promoted(first)
        assert alias.mirror_live(story.project)
        assert queries.mirrored_seq(story.project) == 1
        second = story.saved(0.6)
        story.promoted(second)
        assert queries.mirrored_seq(story.project) == 1
        assert said(planned_then_done()) == ["mirrored"]
        assert (story.alias, queries.mirrored_seq(story.project)) == (second, 2)

    def test_an_alias_that_somebody_moved(self, story: Saved) -> None:
        for score in (0.5, 0.6):
            story.promoted(story.saved(score))
            assert alias.mirror_live(story.project)
        story.mlflow.set_registered_model_alias("frontrunner-1", "live", "1")
        assert story.alias == 1
        assert said(planned_then_done()) == ["mirrored"]
        assert story.alias == 2


class TestLostTrainings:
    def test_a_candidate_of_which_nothing_is_heard(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        training = story.training()
        model_id, run_id = story.begun(training)
        assert reconcile() == [], "it may be alive"
        made_old(monkeypatch, model_id)
        with monkeypatch.context() as patch:
            patch.setattr(
                reconcile_module, "HEARTBEAT_TIMEOUT", timedelta(minutes=-1)
            )  # what ended a moment ago counts as long ago
            actions = reconcile()
        assert said(actions) == ["lost", "killed", "killed"]
        model = queries.model(model_id)
        assert model.status is Status.FAILED
        assert (model.reason or "").startswith("its process was lost: there was no sign of it since ")
        assert {story.status(run) for run in (run_id, training.run.id)} == {"KILLED"}

    def test_one_with_a_heartbeat_is_left_alone(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        training = story.training()
        model_id, run_id = story.begun(training)
        made_old(monkeypatch, model_id)
        lifecycle.beat(f"{training.key}:")
        assert reconcile() == []
        assert queries.model(model_id).status is Status.RUNNING
        assert story.status(run_id) == "RUNNING"

    def test_it_is_heard_of_while_it_is_trained(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
        training = story.training()
        model_id, _ = story.begun(training)
        made_old(monkeypatch, model_id)
        with keep_alive(training):
            until = time.monotonic() + 30
            while queries.silent_models(story.project, now() - OLD / 2):
                assert time.monotonic() < until
                time.sleep(0.05)

    def test_what_a_run_did_not_come_to_is_given_up_when_an_error_ends_it(self, story: Saved) -> None:
        training = story.training()
        done, fitting = story.begun(training, "svm"), story.begun(training)
        lifecycle.fail_model(done[0], "nu is infeasible", done[1])
        with pytest.raises(SourceUnavailable), keep_alive(training):
            raise SourceUnavailable("the disk\nis gone")
        assert queries.model(done[0]).status is Status.FAILED
        given_up = queries.model(fitting[0])
        assert (given_up.status, given_up.reason) == (Status.CANCELLED, "the training was ended by the disk is gone")
        assert story.status(fitting[1]) == "KILLED"

    def test_the_run_of_a_training_that_never_began(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        training = story.training()
        made_old(monkeypatch)
        assert said(planned_then_done()) == ["killed"]
        assert story.status(training.run.id) == "KILLED"

    def test_a_failed_candidate_may_be_trained_again(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        training = story.training()
        model_id, _ = story.begun(training)
        lifecycle.fail_model(model_id, "its process was lost", None)
        again, _ = story.begun(training)
        assert again == model_id
        assert queries.model(model_id).status is Status.RUNNING
        assert reconcile() == [], "its life begins anew"

    def test_what_the_registry_can_do_alone_is_done_without_mlflow(
        self, story: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_id, _ = story.begun(story.training())
        made_old(monkeypatch, model_id)
        monkeypatch.setattr(reconcile_module, "CONTENTS_SECONDS", 1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
            started = time.monotonic()
            lost, away = reconcile()
            assert time.monotonic() - started < 20
        assert (lost.what, lost.done) == ("lost", True)
        assert (away.what, away.done) == ("MLflow", False)
        assert "everything that needs it is left" in away.said
        assert queries.model(model_id).status is Status.FAILED


class TestOrphans:
    def test_the_file_of_a_candidate_that_failed_afterwards(
        self, story: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = story.training()
        model_id, run_id = story.begun(training)
        _, path = story.file_of(training, model_id, run_id)
        runs.end_run(run_id, "FAILED")
        runs.end_run(training.run.id, "FAILED")
        lifecycle.fail_model(model_id, "its process was lost", run_id)
        assert reconcile() == [], "it is young"
        made_old(monkeypatch, model_id)
        assert said(planned_then_done()) == ["deleted"]
        assert not path.exists()

    def test_the_file_of_an_earlier_try_goes_and_the_models_own_stays(
        self, story: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_id = story.saved(0.5)
        run_id = queries.model(model_id).mlflow_run_id or ""
        experiment_id = story.mlflow.get_run(run_id).info.experiment_id
        parent = MlflowRun(run_id, experiment_id, "", {})
        _, earlier = story.file_of(Training(request(Task.CLASSIFICATION), "", 1, parent, False), model_id, run_id)
        made_old(monkeypatch, model_id)
        assert said(planned_then_done()) == ["deleted"]
        assert not earlier.exists()
        assert path_of(model_id).exists()

    def test_one_that_is_being_trained_keeps_its_file(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        training = story.training()
        model_id, run_id = story.begun(training)
        _, path = story.file_of(training, model_id, run_id)
        made_old(monkeypatch, model_id)
        lifecycle.beat(f"{training.key}:")
        assert reconcile() == []
        assert path.exists()

    def test_what_another_registry_saved_is_told_and_left(self, story: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same project's name and the same numbers, but another training's key."""
        theirs = story.training("of another registry")
        _, run_id = story.begun(theirs)
        logged_id, path = story.file_of(theirs, 1, run_id)
        with session.transaction(write=True) as writing:
            writing.execute(text("UPDATE models SET request_key = 'ours:linear', status = 'failed', reason = 'odd'"))
        made_old(monkeypatch, 1)
        actions = [action for action in reconcile() if action.what != "killed"]
        assert [(action.what, action.done) for action in actions] == [("stranger", None)]
        assert logged_id in actions[0].said
        assert path.exists()

    def test_a_trained_model_whose_file_is_gone_is_told(self, story: Saved) -> None:
        model_id = story.saved(0.5)
        path_of(model_id).unlink()
        (action,) = reconcile()
        assert (action.what, action.done) == ("gone", None)
        assert f"`frontrunner quarantine {model_id} --reason …`" in action.said
        assert queries.model(model_id).status is Status.TRAINED


class TestPrunedFiles:
    @pytest.fixture
    def files(self, story: Saved) -> list[Path]:
        """Model 1 is going to be pruned, 2 is what a rollback brings back, 3 is live."""
        for score in (0.3, 0.5, 0.9):
            story.promoted(story.saved(score))
            assert alias.mirror_live(story.project)
        return [path_of(number) for number in (1, 2, 3)]

    def test_everything_of_a_pruned_model_is_deleted_and_nothing_else(self, story: Saved, files: list[Path]) -> None:
        run_id = queries.model(1).mlflow_run_id or ""
        taken = prune.prune(story.project, Keep(1, 1))
        assert (taken.model_ids, taken.left) == ((1,), ())
        assert [path.exists() for path in files] == [False, True, True]
        assert story.mlflow.get_run(run_id).info.lifecycle_stage == "deleted"
        versions = story.mlflow.search_model_versions("name = 'frontrunner-1'")
        assert {version.tags["frontrunner.model_id"] for version in versions} == {"2", "3"}
        assert story.alias == 3
        model = queries.model(1)
        assert (model.status, model.score, model.artifact) == (Status.PRUNED, 0.3, None)
        assert reconcile() == []

    def test_a_crash_before_the_files_went_is_finished_later(self, story: Saved, files: list[Path]) -> None:
        lifecycle.prune(story.project, Keep(1, 1))
        assert files[0].exists()
        assert said(planned_then_done()) == ["pruned"]
        assert [path.exists() for path in files] == [False, True, True]

    def test_a_crash_between_the_file_and_its_row_is_finished_by_the_next_prune(
        self, story: Saved, files: list[Path]
    ) -> None:
        lifecycle.prune(story.project, Keep(1, 1))
        has = cleanup.contents(story.project)
        request_of = next(run.request for run in has.runs if run.model_id == 1)
        cleanup.remove_model(1, queries.model(1), has.of(1, request_of))
        assert queries.model(1).artifact is not None
        assert prune.prune(story.project, Keep(1, 1)).left == ()
        assert queries.model(1).artifact is None

    def test_mlflow_being_away_leaves_the_files_for_later(
        self, story: Saved, files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as away:
            away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
            taken = prune.prune(story.project, Keep(1, 1))
        assert taken.model_ids == (1,)
        assert taken.left[0].startswith("MLflow at http://127.0.0.1:1 failed: ")
        assert files[0].exists()
        assert prune.prune(story.project, Keep(1, 1)).left == ()
        assert not files[0].exists()

    def test_an_alias_does_not_vanish(self, story: Saved, files: list[Path]) -> None:
        story.mlflow.set_registered_model_alias("frontrunner-1", "champion", "1")
        taken = prune.prune(story.project, Keep(1, 1))
        assert "MLflow's alias 'champion' still names model 1" in taken.left[0]
        assert files[0].exists()
        story.mlflow.delete_registered_model_alias("frontrunner-1", "champion")
        assert said(planned_then_done()) == ["pruned"]

    def test_the_rows_of_a_pruned_snapshot_are_deleted(self, story: Saved, workspace: Path) -> None:
        rows, hashes = workspace / "rows.parquet", workspace / "rows.hashes"
        for path in (rows, hashes):
            path.write_bytes(b"rows")
        with session.transaction(write=True) as writing:
            writing.execute(text("UPDATE snapshots SET artifact_uri = :rows, hashes_uri = :hashes"),
                            {"rows": rows.as_uri(), "hashes": hashes.as_uri()})  # fmt: skip
        story.saved(0.1)
        story.new_snapshot()
        for score in (0.5, 0.9):
            story.promoted(story.saved(score))
        assert prune.prune(story.project, Keep(1, 1)).snapshot_ids == (1,)
        assert not rows.exists()
        assert not hashes.exists()
        assert queries.snapshot(1).pruned_at is not None
        assert queries.unfinished_pruning(story.project) == ([], [])

    def test_the_runs_of_a_candidate_that_was_cancelled_go_too(self, story: Saved, files: list[Path]) -> None:
        training = story.training()
        model_id, run_id = story.begun(training)
        lifecycle.cancel_models(f"{training.key}:", "Ctrl-C")
        runs.end_abandoned(training.run)
        runs.end_run(training.run.id, "KILLED")
        assert story.status(run_id) == "KILLED"
        assert model_id in prune.prune(story.project, Keep(1, 1)).model_ids
        assert story.mlflow.get_run(run_id).info.lifecycle_stage == "deleted"


@pytest.fixture(autouse=True)
def _no_thread_is_left(story: Saved) -> Iterator[None]:
    yield
    session.close()


class TestTheCommands:
    @pytest.fixture
    def frontrunner(self, capsys: pytest.CaptureFixture[str]):
        from flows.cli.main import app

        def run(*arguments: str) -> tuple[int, str]:
            with pytest.raises(SystemExit) as end:
                app(arguments)
            return int(end.value.code or 0), capsys.readouterr().out

        return run

    def test_a_prune_is_planned_done_and_told(self, story: Saved, frontrunner) -> None:
        for score in (0.3, 0.5, 0.9):
            story.promoted(story.saved(score))
        asked = ("prune", story.project, "--keep-deployments", "1", "--keep-models", "1")
        assert frontrunner(*asked, "--dry-run") == (0, "models would be pruned: 1\nsnapshots would be pruned: none\n")
        assert queries.model(1).status is Status.TRAINED
        code, out = frontrunner(*asked, "--json")
        assert (code, json.loads(out)["model_ids"]) == (0, [1])
        listed = json.loads(frontrunner("models", story.project, "--json")[1])
        assert {row["model_id"]: row["status"] for row in listed}[1] == "pruned"

    def test_a_reconcile_tells_what_it_did_and_fails_if_it_could_not(
        self, story: Saved, frontrunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        story.promoted(story.saved(0.5))
        code, out = frontrunner("reconcile", "--dry-run")
        assert (code, out.startswith("would be  churn")) == (0, True)
        assert story.alias is None
        assert json.loads(frontrunner("reconcile", story.project, "--json")[1])[0]["what"] == "mirrored"
        assert frontrunner("reconcile") == (0, "all is in order\n")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        code, out = frontrunner("reconcile")
        assert (code, out.startswith("NOT DONE")) == (1, True)

    def test_the_flow_says_the_same(self, story: Saved) -> None:
        from flows.reconcile import reconcile_projects

        story.promoted(story.saved(0.5))
        assert [action.what for action in reconcile_projects.fn(None, False)] == ["mirrored"]
        assert reconcile_projects.fn(None, False) == []


@pytest.mark.slow
def test_a_real_mlflow_server_that_keeps_the_files(
    prefect: str, workspace: Path, made_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a team has it: files are deleted through the server, and asked for there."""
    kept = workspace / "kept"
    with mlflow_server(workspace, made_mlflow_store) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        train("iris", "classification", "sklearn:iris", "target", algorithms=["ridge"], seed=1)
        for algorithm in ("perceptron", "linear"):  # on rows of their own, the better one last
            train("iris", relation_name="sklearn:iris", y_column_name="target", algorithms=[algorithm])
        best = train("iris", algorithms=["knn"])
        before = {path for path in kept.rglob("*") if path.is_file()}
        pruned = prune.prune("iris", Keep(deployments=1, models=1))
        assert pruned.left == ()
        assert pruned.model_ids
        gone = before - {path for path in kept.rglob("*") if path.is_file()}
        assert sum(path.name == models.FILE for path in gone) == len(pruned.model_ids)
        assert sum(path.name == "rows.parquet" for path in gone) == len(pruned.snapshot_ids)
        assert reconcile() == []
        assert Predictor("iris").model.id == best.live_model_id
        lost = queries.live_model("iris")
        MlflowClient(address, address).delete_logged_model(lost.mlflow_model_id)
        assert [(action.what, action.done) for action in reconcile()] == [("gone", None)]

"""What a prune keeps and takes, on both databases, also while others deploy."""

import subprocess
import sys
import time
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import update

from registry import history, lifecycle, queries, retention, session
from registry.errors import ChoiceChanged, InvalidInput, NoCandidate, Pruned
from registry.retention import Keep
from registry.schema import Model, Project, Snapshot, now
from registry.values import Terms, Verdict
from registry.vocabulary import Compare, Status, Strategy
from tasks.promotion.automatic import replay
from tasks.promotion.comparison import compare
from tasks.upkeep.prune import checked_keep
from tests.support.processes import die_with_parent
from tests.support.story import Story

LITTLE = Keep(deployments=1, models=1)

WORKER = """
import random, sys
from registry import history, lifecycle, queries, session
from registry.errors import ChoiceChanged, NoCandidate
from registry.retention import Keep
from registry.schema import Deployment, Model
from sqlalchemy import select
from tests.support.story import Story

number = int(sys.argv[1])
draw = random.Random(number)
Story.key = staticmethod(lambda keys=iter(range(10**6)): f"process-{number}-{next(keys)}")
story = Story()
newest = select(Model.status).join(Deployment, Deployment.model_id == Model.id).order_by(Deployment.seq.desc()).limit(2)
for _ in range(6):
    key = story.key()
    story.new_snapshot()
    story.trained(draw.random(), draw.choice(["svm", "linear"]))
    try:
        story.deploys(draw.choice(["best_score", "most_recent", "rollback"]), key=key)
    except NoCandidate:
        pass
    lifecycle.prune("churn", Keep(deployments=2, models=1))
    with session.transaction() as reading:
        assert set(reading.scalars(newest)) <= {"trained"}
    with session.transaction() as reading:
        for seq in reading.scalars(select(Deployment.seq).where(Deployment.request_key == key)):
            print(seq)
session.close()
"""


def statuses(story: Story) -> dict[int, str]:
    return {model.id: str(model.status) for model in queries.models(story.project)}


class TestWhatIsKept:
    def test_the_live_the_rollback_the_newest_and_the_best(self, story: Story) -> None:
        best = story.trained(0.9)
        before = story.trained(0.6)
        story.deploys("specific", model_id=before)
        live = story.trained(0.5)
        story.deploys("specific", model_id=live)
        old, newest = story.trained(0.7), story.trained(0.4)
        assert lifecycle.prune(story.project, LITTLE).model_ids == (old,)
        assert statuses(story) == {
            best: "trained", before: "trained", live: "trained", old: "pruned", newest: "trained"
        }  # fmt: skip

    def test_the_last_deployments(self, story: Story) -> None:
        deployed = [story.trained(score) for score in (0.1, 0.2, 0.3, 0.4, 0.5)]
        for model_id in deployed:
            story.deploys("specific", model_id=model_id)
        assert lifecycle.prune(story.project, Keep(deployments=3, models=1)).model_ids == tuple(deployed[:2])

    def test_what_is_being_trained_stays_and_what_failed_does_not(self, story: Story) -> None:
        failed, running = story.failed(), story.started().id
        story.trained_and_promoted(0.5)
        assert lifecycle.prune(story.project, LITTLE).model_ids == (failed,)
        assert statuses(story)[running] == "running"

    def test_a_plan_says_the_same_and_changes_nothing(self, story: Story) -> None:
        for score in (0.1, 0.2, 0.9, 0.3):
            story.new_snapshot()
            story.trained(score)
        planned = retention.plan_prune(story.project, LITTLE)
        assert set(statuses(story).values()) == {"trained"}
        assert lifecycle.prune(story.project, LITTLE) == planned
        assert (planned.model_ids, len(planned.snapshot_ids)) == ((1, 2), 2)

    def test_rows_that_were_frozen_a_moment_ago_stay_for_the_training_that_begins(self, story: Story) -> None:
        mine = story.snapshot
        other = story.new_snapshot()
        assert lifecycle.prune(story.project, LITTLE).snapshot_ids == ()
        with session.transaction(write=True) as writing:
            writing.execute(update(Snapshot).values(created_at=now() - timedelta(hours=2)))
        assert lifecycle.prune(story.project, LITTLE).snapshot_ids == (mine.id,), "nobody began on them"
        assert queries.newest_snapshot(story.project).id == other.id

    def test_snapshots_of_kept_models_and_the_newest_stay(self, story: Story) -> None:
        first, _ = story.snapshot, story.trained_and_promoted(0.9)
        second, _ = story.new_snapshot(), story.trained(0.1)
        third, _ = story.new_snapshot(), story.trained(0.2)
        fourth = story.new_snapshot()
        assert lifecycle.prune(story.project, LITTLE).snapshot_ids == (second.id,)
        assert [queries.snapshot(each.id).pruned_at is None for each in (first, second, third, fourth)] == [
            True, False, True, True
        ]  # fmt: skip

    def test_another_project_is_not_touched(self, story: Story) -> None:
        other = Story("another")
        for score in (0.1, 0.2, 0.9, 0.3):
            other.trained(score)
        lifecycle.prune(story.project, LITTLE)
        assert set(statuses(other).values()) == {"trained"}

    @pytest.mark.parametrize("number", [0, -1, 2.5, True, None])
    def test_nothing_else_than_a_count_is_taken(self, number: object) -> None:
        with pytest.raises(InvalidInput, match="keep_models is a whole number, 1 or more"):
            checked_keep(10, number)


class TestWhatIsPruned:
    @pytest.fixture
    def pruned(self, story: Story) -> Story:
        """Model 1 was live first and is pruned; 2 is what a rollback brings back; 3 is live and best."""
        for score in (0.3, 0.2, 0.9):
            story.deploys("specific", model_id=story.trained(score))
        assert lifecycle.prune(story.project, LITTLE).model_ids == (1,)
        return story

    def test_it_keeps_its_score_in_the_lists(self, pruned: Story) -> None:
        model = queries.model(1)
        assert (model.status, model.score) == (Status.PRUNED, 0.3)
        assert [row.score for row in queries.history(pruned.project)] == [0.9, 0.2, 0.3]
        assert queries.projects()[0].trained_models == 2

    def test_nothing_chooses_it(self, pruned: Story) -> None:
        assert pruned.deploys("rollback").model_id == 2
        assert pruned.deploys("rollback").model_id == 3, "and not the one that was pruned"
        with pytest.raises(NoCandidate, match="model 1 of 'churn' was pruned: its file is gone"):
            pruned.deploys("specific", model_id=1)
        with pytest.raises(NoCandidate, match="model 1 of 'churn' was pruned: its file is gone"):
            pruned.deploys("rollback", to_seq=1)
        with pytest.raises(NoCandidate, match="has not had 2 other models live: .*; model 1 was pruned"):
            pruned.deploys("rollback", steps=2)

    def test_a_rollback_that_only_it_could_answer_says_so(self, story: Story) -> None:
        for algorithm, score in [("svm", 0.3), ("linear", 0.2), ("linear", 0.9)]:
            story.deploys("specific", model_id=story.trained(score, algorithm))
        lifecycle.prune(story.project, LITTLE)
        with pytest.raises(NoCandidate, match="no model of algorithm 'svm' any more that was live before: model 1 was"):
            story.deploys("rollback", "svm")

    def test_it_is_not_trained_again(self, pruned: Story) -> None:
        model = queries.model(1)
        assert lifecycle.finish_model(
            1, hyperparams={}, preprocessing={}, score=1.0, metrics={}, golden=[], artifact=pruned.file,
            mlflow_run_id="another", mlflow_model_id="another",
        ) == model  # fmt: skip
        assert lifecycle.fail_model(1, "another reason", None) == model

    def test_nothing_is_trained_on_rows_that_are_gone(self, story: Story) -> None:
        old = story.snapshot
        story.trained(0.1)
        story.new_snapshot()
        for score in (0.3, 0.5):
            story.trained_and_promoted(score)
        assert lifecycle.prune(story.project, LITTLE).snapshot_ids == (old.id,)
        with pytest.raises(Pruned, match=f"the rows of snapshot {old.id} are gone"):
            lifecycle.start_model(old, "svm", {}, "late")
        assert queries.newest_snapshot(story.project).pruned_at is None

    def test_its_decision_cannot_be_computed_again(self, story: Story) -> None:
        for score in (0.3, 0.5, 0.9):
            story.trained_and_promoted(score)
        lifecycle.prune(story.project, LITTLE)
        with pytest.raises(Pruned, match="decision 1 cannot be computed again: model 1 and its rows were pruned"):
            replay(1)

    def test_a_challenger_that_was_pruned_meanwhile_is_not_deployed(self, story: Story) -> None:
        live = story.trained_and_promoted(0.5)
        challenger = story.trained(0.6)
        story.trained(0.9)
        terms, seen = Terms(Compare.RECORDED), queries.model(challenger)
        evidence = compare(story.task, seen, queries.model(live), [seen], terms)
        lifecycle.prune(story.project, LITTLE)
        assert queries.model(challenger).status is Status.PRUNED
        with pytest.raises(ChoiceChanged, match="is pruned by now"):
            history.promote(
                challenger, evidence, terms, Verdict(True, "it is better"), request_key="late", decided_by="the story",
                code_version="0",
            )  # fmt: skip
        assert story.live == live


class TestAtOnce:
    def test_a_prune_waits_for_a_deploy_and_keeps_what_it_deployed(self, story: Story, registry_url: str) -> None:
        old = story.trained(0.1)
        for score in (0.3, 0.5):
            story.trained_and_promoted(score)
        pruning: Future[tuple[int, ...]] = Future()
        with session.transaction(write=True) as deploying:
            project = deploying.scalars(update(Project).values(revision=Project.revision + 1).returning(Project)).one()
            thread = Thread(target=lambda: pruning.set_result(lifecycle.prune(story.project, LITTLE).model_ids))
            thread.start()
            time.sleep(0.5)
            history._append(deploying, project, deploying.get_one(Model, old), Strategy.SPECIFIC, "slow", "the story")
            assert not pruning.done(), "it would not see what is deployed at this moment"
        assert pruning.result(60) == (old + 1,)
        thread.join()
        assert story.live == old

    @pytest.mark.slow
    def test_with_people_deploying_all_the_time_nothing_that_counts_is_pruned(self, registry_url: str) -> None:
        """Processes train, deploy, roll back and prune; each looks at the last deployments after each step."""
        Story()
        root = Path(__file__).parents[2]
        processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", WORKER, str(number)],
                cwd=root,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
            )
            for number in range(3)
        ]
        ends = [process.communicate(timeout=300) for process in processes]
        assert not [error for _, error in ends if error], next(error for _, error in ends if error)[-2000:]
        acknowledged = {int(seq) for out, _ in ends for seq in out.split()}
        rows = queries.history("churn")
        assert [row.seq for row in reversed(rows)] == list(range(1, len(rows) + 1))
        assert acknowledged == {row.seq for row in rows}
        models = {model.id: model.status for model in queries.models("churn")}
        assert {models[row.model_id] for row in rows[:2]} == {Status.TRAINED}
        assert Status.PRUNED in models.values()

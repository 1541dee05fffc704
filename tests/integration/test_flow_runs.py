"""What a flow run is besides its steps: on a real Prefect server."""

import os
import sys
import time
from contextvars import copy_context
from pathlib import Path
from threading import Barrier, Thread
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, TaskRun

from flows.deploy import deploy, rollback
from registry.errors import (
    BadData,
    CandidateFailed,
    NoCandidate,
    RegistryUnavailable,
    StillTraining,
    TrackingUnavailable,
)
from tasks import flow_runs
from tasks.flow_runs import TASK_OPTIONS, limit_name, one_training_at_a_time
from tests.support.processes import running
from tests.support.story import Story

pytestmark = pytest.mark.slow


HELD = """
import time
from prefect import flow
from tasks.flow_runs import one_training_at_a_time

@flow
def held():
    with one_training_at_a_time("killed"):
        print("begun", flush=True)
        time.sleep(600)

held()
"""


class TestThePageOfADeploy:
    @pytest.fixture
    def story(self, prefect: str, workspace: Path) -> Story:
        story = Story(folder=workspace)
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8, "svm")
        return story

    def test_the_state_is_the_decision_and_the_run_has_its_projects_tag(self, story: Story) -> None:
        state = rollback("churn", return_state=True)
        assert state.message == "churn: model 1 (linear, score 0.7000) went live by rollback, instead of model 2"
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(state.state_details.flow_run_id)
            assert "project:churn" in run.tags
        assert {tuple(each.tags) for each in tasks_of(run.id)} == {()}, "Prefect would ask for a limit of each tag"
        page = page_of(run.id)
        assert page.key == "churn-deploy"
        assert page.description == state.message
        assert "| was live | 2 | svm | 0.8000 |" in page.data
        assert "| is live | 1 | linear | 0.7000 |" in page.data
        assert "Why this model: it was live before." in page.data
        assert "To undo it: run the deployment `rollback` with project_name ``churn``." in page.data
        assert "![the live model's F1 over time](data:image/png;base64," in page.data

    def test_undoing_a_quarantine_begins_with_a_release(self, story: Story) -> None:
        state = rollback("churn", quarantine=True, reason="it refuses every loan", return_state=True)
        page = page_of(state.state_details.flow_run_id)
        assert "To undo it: release model 2 from quarantine, then run" in page.data
        assert "The reason that was given: it refuses every loan" in page.data

    def test_what_fails_says_why(self, story: Story) -> None:
        state = deploy("churn", algorithm_name="knn", return_state=True)
        assert state.is_failed()
        assert "'churn' has no trained model of algorithm 'knn'" in state.message
        with pytest.raises(NoCandidate):
            state.result()


class TestTurns:
    def test_two_trainings_of_one_project_take_turns(self, prefect: str) -> None:
        seen: list[tuple[str, str]] = []

        @flow(name="held")
        def held(project: str, who: str) -> None:
            with one_training_at_a_time(project):
                seen.append((who, "begins"))
                time.sleep(2)
                seen.append((who, "ends"))

        at_once(lambda: held("churn", "a"), lambda: held("churn", "b"))
        assert [what for _, what in seen] == ["begins", "ends"] * 2

    def test_two_projects_do_not_wait_for_each_other(self, prefect: str) -> None:
        both = Barrier(2)

        @flow(name="held")
        def held(project: str) -> None:
            with one_training_at_a_time(project):
                both.wait(60)

        at_once(lambda: held("one"), lambda: held("another"))
        assert not both.broken

    def test_it_waits_no_longer_than_its_limit(self, prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flow_runs, "TURN_SECONDS", 2)

        @flow(name="held")
        def outer() -> None:
            with one_training_at_a_time("churn"), one_training_at_a_time("churn"):
                pass

        with pytest.raises(
            StillTraining, match=f"global-concurrency-limit update {limit_name('churn')} --active-slots 0"
        ):
            outer()

    def test_the_turn_of_a_training_that_was_killed_comes_back(self, prefect: str, tmp_path: Path) -> None:
        script = tmp_path / "held.py"
        script.write_text(HELD)
        log = tmp_path / "held.log"
        env = os.environ | {"PREFECT_API_URL": prefect, "PYTHONPATH": str(Path(__file__).parents[2])}
        with running([sys.executable, str(script)], lambda: "begun" in log.read_text(), log, env=env) as held:
            held.kill()

        @flow(name="next")
        def after() -> None:
            with one_training_at_a_time("killed"):
                pass

        started = time.monotonic()
        after()
        assert time.monotonic() - started < 3 * flow_runs.LEASE_SECONDS

    def test_without_a_flow_run_nobody_is_asked(self) -> None:
        with one_training_at_a_time("churn"):
            pass


class TestRetries:
    @pytest.mark.parametrize("error", [RegistryUnavailable("away"), TrackingUnavailable("away")])
    def test_what_can_pass_is_tried_again(self, prefect: str, error: Exception) -> None:
        assert tries(error, until=3) == 3

    def test_a_candidate_whose_store_was_away_too(self, prefect: str) -> None:
        failed = CandidateFailed("svm: MLflow was away")
        failed.__cause__ = TrackingUnavailable("away")
        assert tries(failed, until=2) == 2

    def test_what_cannot_pass_is_not(self, prefect: str) -> None:
        with pytest.raises(BadData):
            tries(BadData("a column is missing"), until=2)
        with pytest.raises(CandidateFailed):
            tries(CandidateFailed("svm: it does not converge"), until=2)


def tasks_of(flow_run_id: UUID) -> list[TaskRun]:
    """The server learns of them from events, some time later."""
    of_run, until = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])), time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while not (tasks := client.read_task_runs(flow_run_filter=of_run)):
            assert time.monotonic() < until
            time.sleep(0.1)
    return tasks


def page_of(run_id: UUID) -> Artifact:
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return client.read_artifacts(artifact_filter=of_run)[0]


def tries(error: Exception, until: int) -> int:
    """How often a step ran that raises until then."""
    count = 0

    @task(**TASK_OPTIONS)
    def step() -> None:
        nonlocal count
        count += 1
        if count < until:
            raise error

    @flow(name="tries")
    def tried() -> None:
        step()

    try:
        tried()
    except Exception:
        assert count == 1
        raise
    return count


def at_once(*calls: object) -> None:
    threads = [Thread(target=copy_context().run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""(g) MLflow's alias converges after MLflow recovers, and never runs ahead of the history."""

from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from registry.errors import RegistryUnavailable
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.tracking import alias as alias_module
from tests.support.expected_history import every_promise_is_kept
from tests.support.fork_server import ForkServer
from tests.support.mlflow_actions import at_work_with_mlflow, deploy_until
from tests.support.size import sized, tell
from tests.support.story import Story
from tests.support.workers import Workers

pytestmark = pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)


@pytest.fixture
def mirrored(registry_url: str, mlflow_store: Path, workspace: Path) -> Story:
    """Two models of which the second is live, in MLflow, too."""
    story = Story(folder=workspace)
    for score in (0.6, 0.7):
        story.trained_and_promoted(score)
    assert alias_module.mirror_live("churn")
    return story


def alias(story: Story) -> int | None:
    return alias_module.mirrored_model_id(story.snapshot.project_id)


def test_a_deploy_that_cannot_be_committed_is_not_in_mlflow(mirrored: Story) -> None:
    live = mirrored.live

    def full_disk(session: Session) -> None:
        if session.get_bind().get_execution_options().get("write"):
            raise OSError("the disk is full")

    event.listen(Session, "before_commit", full_disk)
    try:
        with pytest.raises(RegistryUnavailable):
            deploy(checked_deploy("churn", "rollback"), "key")
    finally:
        event.remove(Session, "before_commit", full_disk)
    assert alias(mirrored) == mirrored.live == live


def test_it_follows_the_next_try_after_mlflow_was_away(mirrored: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        rolled_back = deploy(checked_deploy("churn", "rollback"), "key")
    assert alias(mirrored) != rolled_back.model_id == mirrored.live
    deploy(checked_deploy("churn", "rollback"), "key")
    assert alias(mirrored) == mirrored.live == rolled_back.model_id
    assert len(mirrored.history) == 3


@pytest.mark.slow
def test_a_crash_between_the_commit_and_the_mirror(mirrored: Story, fork_server: ForkServer) -> None:
    before = alias(mirrored)
    fork_server.run(deploy_until, key="key", module="registry.history", step="deploy")
    assert alias(mirrored) == before != mirrored.live
    assert len(mirrored.history) == 3
    deploy(checked_deploy("churn", "rollback"), "key")
    assert alias(mirrored) == mirrored.live
    assert len(mirrored.history) == 3


@pytest.mark.slow
def test_workers_that_are_killed_while_they_mirror(mirrored: Story, fork_server: ForkServer) -> None:
    workers = Workers(fork_server, 3, work=at_work_with_mlflow, story=mirrored)
    workers.work(actions=sized(30), kills=sized(8), seconds_between=0.5)
    workers.go_home()
    rows = every_promise_is_kept()
    tell(test="killed while mirroring", acknowledged=workers.done(), deployments=len(rows), killed=workers.killed)
    assert alias_module.mirror_live("churn")
    assert alias(mirrored) == mirrored.live == rows[-1].model_id

"""69: killed in a deploy, at the last moment before its commit and at the first one after it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry import session
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tests.support.story import Story

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from registry import history
from registry.choices import DeployRequest
from registry.vocabulary import Strategy
event.listen(Session, sys.argv[1], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
history.deploy(DeployRequest("churn", Strategy.ROLLBACK), request_key="key", deployed_by="whoever is killed")
"""


@pytest.mark.parametrize(("moment", "deployed"), [("before_commit", False), ("after_commit", True)])
def test_it_is_deployed_or_not_and_the_same_again_deploys_it_once(
    registry_url: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, moment: str, deployed: bool
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8)
    session.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, moment], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(story.history) == 2 + deployed
    assert story.live == (1 if deployed else 2)
    assert deploy(checked_deploy("churn", "rollback"), "key").model_id == 1
    assert [(seq, model_id) for seq, _, model_id in story.history] == [(1, 1), (2, 2), (3, 1)]

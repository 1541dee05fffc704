"""The way back depends on nothing: the commands of an emergency work where Prefect and MLflow cannot be imported."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from registry import queries
from registry.errors import ForeignAlias
from registry.settings import tracking_uri
from tasks.tracking import alias
from tests.support.announcing import announced
from tests.support.story import Story

FRONTRUNNER = Path(sys.executable).with_name("frontrunner")
BLOCKER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prefect", "mlflow"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""
IMPORTED = """
import sys
from flows.cli.main import app
try:
    app(["rollback", "churn"])
finally:
    print("imported:", *sorted({"prefect", "mlflow"} & set(sys.modules)))
"""


@pytest.fixture
def story(registry_url: str, workspace: Path) -> Story:
    """Two models that can be proven; the second one is live."""
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7, "svm")
    story.trained_and_promoted(0.8, "linear")
    return story


@pytest.fixture
def blocked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which `import prefect` and `import mlflow` fail."""
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    env = os.environ | {"PYTHONPATH": str(folder)}
    for module in ("prefect", "mlflow"):
        done = subprocess.run([sys.executable, "-c", f"import {module}"], env=env, capture_output=True, check=False)
        assert done.returncode == 1
        assert b"is blocked" in done.stderr
    return env


def frontrunner(*arguments: str, env: dict[str, str] | None = None) -> str:
    command = [FRONTRUNNER, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_work_without_prefect_and_mlflow(
    story: Story, mlflow_store: Path, blocked: dict[str, str], workspace: Path
) -> None:
    assert "went live by rollback, instead of model 2" in frontrunner("rollback", "churn", env=blocked)
    assert story.live == 1
    assert "went live by best_score" in frontrunner("deploy", "churn", "--reason", "it was right", env=blocked)
    assert story.live == 2
    assert "was live already" in frontrunner("best-score", "churn", env=blocked)
    assert "was live already" in frontrunner("most-recent", "churn", env=blocked)
    shown = json.loads(frontrunner("show", "churn", "--json", env=blocked))
    assert (shown["live"]["model_id"], shown["rollback"]["model_id"]) == (2, 1)
    rows = json.loads(frontrunner("history", "churn", "--json", env=blocked))
    assert [row["strategy"] for row in rows] == ["best_score", "rollback", "new_score", "new_score"]
    log = announced(workspace, times=4)
    assert "MLflow's alias 'live' lags behind until the next deploy: mlflow" in log
    assert "the deployment was not announced to Prefect: prefect" in log
    assert "is blocked" in log
    assert "Traceback" not in log


def test_a_rollback_imports_neither(story: Story, workspace: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [
        "churn: model 1 (svm, score 0.7000) went live by rollback, instead of model 2",
        "imported:",
    ], done.stderr
    announced(workspace)


@pytest.mark.slow
@pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)
class TestTheAnnouncement:
    def test_the_alias_follows_when_the_command_has_ended(
        self, story: Story, mlflow_store: Path, workspace: Path
    ) -> None:
        frontrunner("rollback", "churn")
        announced(workspace)
        assert alias.mirrored_model_id(story.snapshot.project_id) == story.live == 1
        assert queries.mirrored_seq("churn") == 3

    def test_a_deploy_that_changes_nothing_puts_it_right_too(
        self, story: Story, mlflow_store: Path, workspace: Path
    ) -> None:
        frontrunner("best-score", "churn")
        assert "deployment of the live model was announced" in announced(workspace)
        assert alias.mirrored_model_id(story.snapshot.project_id) == story.live == 2

    def test_the_command_does_not_wait_for_it(self, story: Story, workspace: Path) -> None:
        """Nor does a caller that reads the command's output to its end, as `frontrunner` here does."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            frontrunner("rollback", "churn", env=os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"})
            assert story.live == 1
            assert "announced" not in (workspace / ".frontrunner" / "announce.log").read_text()
        announced(workspace)

    def test_a_plan_and_a_refusal_announce_nothing(self, story: Story, workspace: Path) -> None:
        frontrunner("rollback", "churn", "--plan")
        (workspace / "story.skops").unlink()
        done = subprocess.run([FRONTRUNNER, "rollback", "churn"], capture_output=True, timeout=120, check=False)
        assert done.returncode == 1
        assert not (workspace / ".frontrunner" / "announce.log").exists()

    def test_where_it_cannot_be_started_the_deployment_stands(self, story: Story, workspace: Path) -> None:
        (workspace / ".frontrunner").write_text("a file where the folder should be")
        done = subprocess.run([FRONTRUNNER, "rollback", "churn"], capture_output=True, timeout=120, check=False)
        assert (done.returncode, story.live) == (0, 1)
        assert b"the deployment stands, but could not be announced, so run `frontrunner reconcile`" in done.stderr

    def test_an_alias_that_somebody_moved_to_a_version_of_theirs(
        self, story: Story, mlflow_store: Path, workspace: Path
    ) -> None:
        assert alias.mirror_live("churn")
        name = alias.registered_name(story.snapshot.project_id)
        client = MlflowClient(tracking_uri(), tracking_uri())
        theirs = client.create_model_version(name, source=str(workspace), run_id=None)
        client.set_registered_model_alias(name, "live", theirs.version)
        with pytest.raises(
            ForeignAlias, match=r"names version 2, which is not one of ours: run `frontrunner reconcile`"
        ):
            alias.mirrored_model_id(story.snapshot.project_id)
        assert "it named no model of ours" in frontrunner("reconcile", "churn")
        assert alias.mirrored_model_id(story.snapshot.project_id) == 2

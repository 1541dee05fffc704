"""(h) A crash at any point leaves either nothing or a complete record, and the next run is clean."""

import signal
from pathlib import Path

import pytest

from registry import Predictor, queries
from tasks.tracking import alias
from tests.support import crashes
from tests.support.fork_server import ForkServer
from tests.support.mlflow_actions import train, train_until
from tests.support.size import tell


@pytest.mark.slow
@pytest.mark.parametrize("name", crashes.WRITES)
def test_a_crash_in_the_midst_of_a_write(registry_url: str, fork_server: ForkServer, name: str) -> None:
    """Each try has the same key and gets one point further than the one before, until one is through."""
    every_crash(fork_server, name)


@pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)
def test_a_crash_in_the_midst_of_a_rollback_with_quarantine(registry_url: str, fork_server: ForkServer) -> None:
    every_crash(fork_server, "deploy with quarantine")


def every_crash(fork_server: ForkServer, name: str) -> None:
    models = crashes.scene("smooth")
    before = crashes.remembered("smooth")
    crashes.WRITES[name](crashes.Retold("smooth"), models, "smooth")
    complete = crashes.remembered("smooth")
    assert complete != before

    models, point, ended = crashes.scene("rough"), 0, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        point += 1
        ended = fork_server.run(crashes.write, name=name, project="rough", models=models, key="rough", crash_at=point)
        assert crashes.remembered("rough") in (before, complete), f"half a record after point {point}"
    tell(test="crashes", write=name, points=point - 1)
    assert point > 4, "a write has a BEGIN, a statement, a commit, and what comes after it"
    crashes.WRITES[name](crashes.Retold("rough"), models, "rough")
    assert crashes.remembered("rough") == complete


@pytest.mark.slow
@pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)
def test_a_crash_between_steps_of_a_training(registry_url: str, fork_server: ForkServer, mlflow_store: Path) -> None:
    """Files without their rows, rows without their deployment, a deployment without its alias: the next try with the
    same key takes up what it finds, and in the end there is one of each."""
    for module, step in (
        ("tasks.tracking.runs", "save_rows"),
        ("registry.lifecycle", "record_snapshot"),
        ("registry.lifecycle", "start_model"),
        ("tasks.tracking.models", "save_model"),
        ("registry.lifecycle", "finish_model"),
        ("registry.history", "promote"),
    ):
        assert fork_server.run(train_until, key="run", module=module, step=step) == -signal.SIGKILL
        for deployment in queries.history("iris") if queries.find_project("iris") else []:
            assert queries.model(deployment.model_id).status == "trained"
    decision = train("run")
    [model], [deployment], [receipt] = queries.models("iris"), queries.history("iris"), queries.decisions("iris")
    assert (model.status, deployment.model_id, receipt.challenger_id) == ("trained", model.id, model.id)
    assert (decision.deployed, decision.id) == (True, receipt.id)
    assert queries.find_snapshot("run") == queries.newest_snapshot("iris")
    assert alias.mirrored_model_id(model.project_id) == model.id
    with Predictor("iris") as predictor:
        assert predictor.model.id == model.id

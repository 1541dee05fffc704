"""Trainings of one project on a real Prefect server, in processes of their own: two at once, and one that is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from flows.train import train
from registry import queries
from registry.session import exists
from registry.vocabulary import Status
from tasks.flow_runs import limit_name
from tests.support.processes import die_with_parent

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IRIS = {"task": "classification", "relation_name": "sklearn:iris", "y_column_name": "target"}
# A fit of some seconds: long enough to be killed in.
SLOW = {"algorithms": ["gradient_boosting_trees"], "hyperparams": {"gradient_boosting_trees": {"n_estimators": 200}}}
TRAIN = """
import json, sys
from flows.train import train
result = train(**json.loads(sys.argv[1]))
print(json.dumps([row.model_id for row in result.leaderboard]))
"""


@pytest.fixture
def env(prefect: str, mlflow_store: Path, workspace: Path) -> dict[str, str]:
    return os.environ | {"PREFECT_API_URL": prefect, "PYTHONPATH": str(ROOT)}


def training(env: dict[str, str], **asked: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, json.dumps(asked)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
    )


def test_two_trainings_of_one_project_at_once(env: dict[str, str]) -> None:
    """They take turns, so the ids of each one's candidates follow each other, and the history is that of two runs."""
    both = [training(env, project_name="iris", **IRIS, algorithms=["ridge", "knn"]) for _ in range(2)]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    ids = sorted(sorted(json.loads(out.splitlines()[-1])) for out, _ in ended)
    assert ids == [[1, 2], [3, 4]]
    assert {model.status for model in queries.models("iris")} == {Status.TRAINED}
    assert [row.seq for row in queries.history("iris")] == [1]
    assert [decision.deployed for decision in queries.decisions("iris")] == [False, True], "the second one tied"


def test_a_training_that_is_killed_deploys_nothing_and_its_run_can_be_started_again(env: dict[str, str]) -> None:
    process = training(env, project_name="iris", **IRIS, **SLOW)
    until = time.monotonic() + 120
    while not (exists() and queries.find_project("iris") and queries.models("iris")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it never began"
        time.sleep(0.05)
    process.kill()
    process.communicate()
    [left] = queries.models("iris")
    assert left.status is Status.RUNNING, "it was quicker than the kill"
    assert queries.live_model("iris") is None
    with get_client(sync_client=True) as client:
        # The turn comes back by itself after a minute; this is what the error of whoever waits longer tells to do.
        client.update_global_concurrency_limit(limit_name("iris"), GlobalConcurrencyLimitUpdate(active_slots=0))
        run_id = _flow_run_of(left.id)
        client.set_flow_run_state(run_id, Scheduled(), force=True)
        run = client.read_flow_run(run_id)
    result = run_flow(train, flow_run=run, parameters={"project_name": "iris", **IRIS, **SLOW})
    assert [row.model_id for row in result.leaderboard] == [left.id], "the same candidate, not another one"
    assert result.deployed_model_id == left.id
    assert [(row.seq, row.model_id) for row in queries.history("iris")] == [(1, left.id)]
    assert not train("iris", algorithms=["ridge"]).deployed
    assert {model.status for model in queries.models("iris")} == {Status.TRAINED}


def _flow_run_of(model_id: int) -> UUID:
    """As the model's key tells it."""
    from sqlalchemy import select

    from registry.schema import Model
    from registry.session import transaction

    with transaction() as session:
        key = session.scalar(select(Model.request_key).where(Model.id == model_id))
    return UUID(key.partition(":")[0])

"""What README's Prefect part says, done: deploy all, start a worker, run deployments, read the run's page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
    LogFilter,
    LogFilterFlowRunId,
)

from registry import queries, settings
from registry.values import ModelRecord
from tasks.flow_runs import limit_name
from tasks.parameters import TrainParameters
from tasks.training.requests import checked_request
from tasks.upkeep import reconcile
from tasks.validation import check
from tests.support.processes import die_with_parent, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FORMS = [
    "train/train",
    "deploy/deploy",
    "best-score/best-score",
    "most-recent/most-recent",
    "rollback/rollback",
    "predict/predict",
    "reconcile/reconcile",
]
Command = Callable[..., str]


@pytest.fixture(scope="module")
def env(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("worker")
    return os.environ | {
        "PREFECT_API_URL": prefect,
        "PREFECT_HOME": str(folder / "prefect"),
        "REGISTRY_URL": f"sqlite:///{folder / 'registry.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def command(env: dict[str, str]) -> Command:
    def run(*arguments: str) -> str:
        done = subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def worker(env: dict[str, str], command: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    command("prefect", "work-pool", "create", "frontrunner", "--type", "process")
    command("prefect", "--no-prompt", "deploy", "--all")
    log = tmp_path_factory.mktemp("log") / "worker.log"
    start = ["prefect", "worker", "start", "--pool", "frontrunner"]
    with running(start, lambda: "Worker" in log.read_text() and "started" in log.read_text(), log, env=env):
        yield


@pytest.fixture
def client(prefect: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def run_deployment(command: Command, client: SyncPrefectClient, name: str, *parameters: str) -> UUID:
    """Runs a deployment to its end, as README says; the id of its flow run, which completed."""
    given = [part for parameter in parameters for part in ("--param", parameter)]
    out = command("prefect", "deployment", "run", name, *given, "--watch")
    assert "Completed" in out
    run_id = UUID(re.search(r"UUID: ([0-9a-f-]{36})", out).group(1))  # the scheduler makes runs meanwhile
    assert client.read_flow_run(run_id).state.is_completed()
    return run_id


def test_train_and_roll_back_through_a_worker(
    worker: None, command: Command, client: SyncPrefectClient, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_deployment(
        command,
        client,
        "train/train",
        "project_name=digits",
        "task=classification",
        "relation_name=sklearn:digits",
        "y_column_name=target",
        'algorithms=["ada_boost"]',
    )
    run_deployment(command, client, "train/train", "project_name=digits", 'algorithms=["knn"]')
    back = run_deployment(command, client, "rollback/rollback", "project_name=digits")

    monkeypatch.setenv("REGISTRY_URL", env["REGISTRY_URL"])
    rows = queries.history("digits")
    assert [(row.seq, str(row.strategy), row.algorithm_name) for row in rows] == [
        (3, "rollback", "ada_boost"),
        (2, "new_score", "knn"),
        (1, "new_score", "ada_boost"),
    ]
    assert rows[0].deployed_by == f"flow run {back}"
    assert json.loads(command("frontrunner", "history", "digits", "--json"))[0]["algorithm_name"] == "ada_boost"

    def page(flow_run_id: UUID) -> str:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return "\n".join(str(artifact.data) for artifact in client.read_artifacts(artifact_filter=of_run))

    assert "first one live" in page(first)
    assert "| ada_boost |" in page(first)
    assert "went live by rollback" in page(back)
    logs = client.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[first])))
    assert any("ada_boost: F1" in entry.message for entry in logs), "progress is in the run's log"


SLOW_FIT = ("classification", "sklearn:digits", "target", ["gaussian_process"])  # many seconds in one call


def trained(project: str) -> list[ModelRecord]:
    """The project's models, once one of them is there."""
    until = time.monotonic() + 180
    while not (queries.find_project(project) and queries.models(project)):
        assert time.monotonic() < until, "no candidate was begun"
        time.sleep(0.2)
    time.sleep(2)  # it is being fitted
    return queries.models(project)


def assert_cancelled(project: str, why: str) -> None:
    (model,) = queries.models(project)
    assert (model.status, queries.history(project)) == ("cancelled", [])
    assert why in (model.reason or "")
    mlflow = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    experiment = mlflow.get_experiment_by_name(f"frontrunner/{project}")
    assert {run.info.status for run in mlflow.search_runs([experiment.experiment_id])} == {"KILLED"}


@pytest.fixture
def stores(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, env[name])


def test_a_cancelled_flow_run_leaves_a_cancelled_model(
    worker: None, command: Command, client: SyncPrefectClient, stores: None
) -> None:
    names = ("task", "relation_name", "y_column_name", "algorithms")
    given = {"project_name": "cancelled", **dict(zip(names, SLOW_FIT, strict=True))}
    out = command("prefect", "deployment", "run", "train/train", "--params", json.dumps(given))
    run_id = UUID(re.search(r"UUID: ([0-9a-f-]{36})", out).group(1))
    assert [model.status for model in trained("cancelled")] == ["running"]
    command("prefect", "flow-run", "cancel", str(run_id))
    until = time.monotonic() + 120
    while not client.read_flow_run(run_id).state.is_final():
        assert time.monotonic() < until, "it was not cancelled"
        time.sleep(0.5)
    assert client.read_flow_run(run_id).state.is_cancelled()
    assert_cancelled("cancelled", "the training was ended by SIGTERM")


@pytest.mark.parametrize(("number", "why"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_command_that_is_ended_leaves_a_cancelled_model(
    env: dict[str, str], stores: None, number: signal.Signals, why: str
) -> None:
    task, relation, target, algorithms = SLOW_FIT
    asked = ["--task", task, "--relation-name", relation, "--y-column-name", target, "--algorithms", *algorithms]
    project = f"ended-{number.value}"
    process = subprocess.Popen(
        ["frontrunner", "train", project, *asked],
        env=env,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
    )
    trained(project)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert_cancelled(project, why)


def test_a_worker_that_is_killed_in_mid_training_leaves_nothing_half_done(
    worker: None,
    command: Command,
    client: SyncPrefectClient,
    env: dict[str, str],
    stores: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Worker and training go at once, as with their machine; afterwards a reconcile and the next training."""
    command("prefect", "work-pool", "create", "mortal", "--type", "process")
    command("prefect", "--no-prompt", "deploy", "flows/train.py:train", "--name", "mortal", "--pool", "mortal")
    log = tmp_path / "worker.log"
    start = ["prefect", "worker", "start", "--pool", "mortal"]
    names = ("task", "relation_name", "y_column_name", "algorithms")
    given = {"project_name": "killed", **dict(zip(names, SLOW_FIT, strict=True))}
    with running(start, lambda: "started" in log.read_text(), log, env=env) as mortal:
        command("prefect", "deployment", "run", "train/mortal", "--params", json.dumps(given))
        (left,) = trained("killed")
        for process in [psutil.Process(mortal.pid), *psutil.Process(mortal.pid).children(recursive=True)]:
            process.kill()
    assert queries.model(left.id).status == "running"
    assert queries.history("killed") == []
    monkeypatch.setattr(reconcile, "HEARTBEAT_TIMEOUT", timedelta(0))
    done = reconcile.reconcile("killed")
    assert {action.what for action in done} == {"lost", "killed"}
    assert queries.model(left.id).status == "failed"
    # The turn comes back by itself after a minute (test_flow_runs waits for it).
    client.update_global_concurrency_limit(limit_name("killed"), GlobalConcurrencyLimitUpdate(active_slots=0))
    run_deployment(command, client, "train/train", "project_name=killed", 'algorithms=["knn"]')
    assert [(row.seq, row.algorithm_name) for row in queries.history("killed")] == [(1, "knn")]
    assert reconcile.reconcile("killed") == []


def test_the_scheduled_training_and_its_parameters(worker: None, client: SyncPrefectClient) -> None:
    scheduled = client.read_deployment_by_name("train/train-digits-nightly")
    assert [str(schedule.schedule.cron) for schedule in scheduled.schedules] == ["0 3 * * *"]
    assert scheduled.parameters["relation_name"] == "sklearn:digits"
    until = time.monotonic() + 120  # the server's scheduler looks every few seconds at what was deployed
    its = DeploymentFilter(id=DeploymentFilterId(any_=[scheduled.id]))
    while not (runs := client.read_flow_runs(deployment_filter=its)):
        assert time.monotonic() < until, "the schedule made no run"
        time.sleep(1)
    assert {run.state.name for run in runs} == {"Scheduled"}
    assert {run.expected_start_time.hour for run in runs} == {3}
    names = {f"{deployment.name}" for deployment in client.read_deployments()}
    assert names >= {
        "train-digits-nightly", "train", "deploy", "best-score", "most-recent", "rollback", "predict", "reconcile"
    }  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_form_explains_itself(worker: None, client: SyncPrefectClient, name: str) -> None:
    schema = client.read_deployment_by_name(name).parameter_openapi_schema["properties"]
    assert all(field.get("description") for field in schema.values())


def test_closed_sets_are_dropdowns(worker: None, client: SyncPrefectClient) -> None:
    deploy = client.read_deployment_by_name("deploy/deploy").parameter_openapi_schema["properties"]
    assert deploy["strategy"]["enum"] == ["best_score", "most_recent", "rollback", "specific"]
    assert "svm" in deploy["algorithm_name"]["enum"]
    train = client.read_deployment_by_name("train/train").parameter_openapi_schema["properties"]
    assert train["test_sampling"]["enum"] == ["random", "stratified", "last"]
    assert train["task"]["enum"] == ["regression", "classification"]
    assert "random_forest" in train["algorithms"]["items"]["enum"]


def test_prefect_yaml_has_no_key_that_prefect_would_ignore() -> None:
    file = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert set(file) == {"name", "prefect-version", "definitions", "deployments"}
    for deployment in file["deployments"]:
        assert set(deployment) <= {
            "name", "description", "entrypoint", "tags", "parameters", "schedules", "work_pool"
        }  # fmt: skip
        assert set(deployment["work_pool"]) == {"name", "job_variables"}
        assert set(deployment["work_pool"]["job_variables"]) == {"env"}


def test_the_parameters_of_prefect_yaml_are_ones_that_a_training_takes() -> None:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        if given := deployment.get("parameters"):
            assert checked_request(check(TrainParameters, given)).relation_name

"""A command, a Python program and a worker's run: each candidate in a process of its own, which may be lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from flows.train import train
from registry import queries, settings
from registry.session import exists
from registry.vocabulary import Status
from tests.support.processes import die_with_parent, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REASON = "its process was killed by SIGKILL: the machine may have no memory left"
FRONTRUNNER = Path(sys.executable).parent / "frontrunner"
IRIS = ("--task", "classification", "--relation-name", "sklearn:iris", "--y-column-name", "target")
ENDLESS = ("--hyperparams", json.dumps({"gradient_boosting_trees": {"n_estimators": 1_000_000}}))


@pytest.fixture
def env(prefect: str, mlflow_store: Path) -> dict[str, str]:
    return os.environ | {"PREFECT_API_URL": prefect}


def training(env: dict[str, str], *asked: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return program(env, [str(FRONTRUNNER), "train", "iris", *IRIS, *asked])


@contextmanager
def program(env: dict[str, str], command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(process: subprocess.Popen[Any], condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.1)


def statuses() -> dict[str, Status]:
    if not (exists() and queries.find_project("iris")):
        return {}
    return {model.algorithm: model.status for model in queries.models("iris")}


def last_candidate(pid: int) -> psutil.Process:
    """The only candidate's process that is left below this one: a fork of its fork server."""
    ends = time.monotonic() + 60
    while len(found := candidates(pid)) != 1:
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    return found[0]


def candidates(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):  # one has just ended
        servers = [each for each in psutil.Process(pid).children(recursive=True) if "forkserver" in str(each.cmdline())]
        return [each for each in servers if each.ppid() in {server.pid for server in servers}]
    return []


def test_one_whose_process_is_killed_fails_alone(env: dict[str, str]) -> None:
    with training(env, "--algorithms", "gradient_boosting_trees,knn", *ENDLESS) as process:
        until(process, lambda: statuses().get("knn") is Status.TRAINED)
        last_candidate(process.pid).kill()
        out, log = process.communicate(timeout=180)
    assert process.returncode == 0, log
    assert f"gradient_boosting_trees: failed: {REASON}" in log
    assert out.splitlines()[-1].startswith("deployed: knn")
    assert_one_lost()


def assert_one_lost() -> None:
    """It failed alone, and why; the other one was deployed."""
    lost, kept = sorted(queries.models("iris"), key=lambda model: model.algorithm)
    assert (lost.status, lost.reason, kept.status) == (Status.FAILED, REASON, Status.TRAINED)
    assert [row.model_id for row in queries.history("iris")] == [kept.id]
    mlflow = MlflowClient(settings.tracking_uri())
    [experiment] = mlflow.search_experiments(filter_string="name = 'frontrunner/iris'")
    ended = {run.info.run_name: run.info.status for run in mlflow.search_runs([experiment.experiment_id])}
    assert ended == {"train iris": "FINISHED", "gradient_boosting_trees": "KILLED", "knn": "FINISHED"}


PROGRAM = """
from flows.train import train

asked = ["gradient_boosting_trees", "knn"]
endless = {"gradient_boosting_trees": {"n_estimators": 1_000_000}}
result = train("iris", "classification", "sklearn:iris", "target", algorithms=asked, hyperparams=endless)
print(result.deployed, flush=True)
"""


@pytest.mark.parametrize("way", ["script", "-c"])
def test_in_a_program_of_python_without_a_main_guard(env: dict[str, str], workspace: Path, way: str) -> None:
    (workspace / "program.py").write_text(PROGRAM)
    with program(env, [sys.executable, *(["program.py"] if way == "script" else ["-c", PROGRAM])]) as process:
        until(process, lambda: statuses().get("knn") is Status.TRAINED)
        last_candidate(process.pid).kill()
        out, log = process.communicate(timeout=180)
    assert (process.returncode, out) == (0, "True\n"), log
    assert f"gradient_boosting_trees: failed: {REASON}" in log
    assert_one_lost()


def test_in_a_run_of_a_worker(env: dict[str, str], workspace: Path, mlflow_store: Path) -> None:
    env |= {
        "PREFECT_HOME": str(workspace / "prefect"),
        "REGISTRY_URL": f"sqlite:///{workspace / '.frontrunner' / 'registry.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_store / 'mlflow.db'}",
    }
    prefect, log = [sys.executable, "-m", "prefect"], workspace / "worker.log"
    asked = {"project_name": "iris", "task": "classification", "relation_name": "sklearn:iris"}
    asked |= {"y_column_name": "target", "algorithms": ["gradient_boosting_trees", "knn"]}
    asked |= {"hyperparams": {"gradient_boosting_trees": {"n_estimators": 1_000_000}}}
    for command in (
        ["work-pool", "create", "lossy", "--type", "process"],
        ["--no-prompt", "deploy", "flows/train.py:train", "--name", "lossy", "--pool", "lossy"],
        ["deployment", "run", "train/lossy", "--params", json.dumps(asked)],
    ):
        subprocess.run([*prefect, *command], cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
    start = [*prefect, "worker", "start", "--pool", "lossy"]
    with running(start, lambda: "started" in log.read_text(), log, env=env, cwd=ROOT) as worker:
        until(worker, lambda: statuses().get("knn") is Status.TRAINED)
        last_candidate(worker.pid).kill()
        until(worker, lambda: "Completed('knn" in log.read_text())
    assert_one_lost()


def test_ctrl_c_ends_them_and_records_that(env: dict[str, str]) -> None:
    with training(env, "--algorithms", "gradient_boosting_trees", *ENDLESS) as process:
        until(process, lambda: statuses() == {"gradient_boosting_trees": Status.RUNNING})
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(2)
        _, log = process.communicate(timeout=180)
    assert process.returncode == 130, log
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert statuses() == {"gradient_boosting_trees": Status.CANCELLED}


def test_scores_are_those_of_a_program_and_the_runs_log_has_what_candidates_say(env: dict[str, str]) -> None:
    algorithms = ["linear", "random_forest", "svm", "xgboost"]
    with training(env, "--algorithms", ",".join(algorithms), "--json") as process:
        out, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    rows = json.loads(out)["leaderboard"]
    here = train("iris", algorithms=algorithms)
    timed = {"fit_time", "score_time"}
    measured = [
        {row["algorithm"]: {name: row["metrics"][name] for name in row["metrics"].keys() - timed} for row in rows},
        {row.algorithm: {name: row.metrics[name] for name in row.metrics.keys() - timed} for row in here.leaderboard},
    ]
    assert measured[0] == measured[1]
    run_id = MlflowClient(settings.tracking_uri()).get_run(rows[0]["mlflow_run_id"]).data.tags["prefect.flow_run_id"]
    with get_client(sync_client=True) as client:
        ends = time.monotonic() + 30
        while True:  # Prefect writes its logs now and then
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=200)
            by_task = {
                line.message.partition(":")[0]: line.task_run_id
                for line in logs
                if " F1 " in line.message and " in 0" in line.message
            }
            if len(by_task) == len(algorithms) or time.monotonic() > ends:
                break
            time.sleep(0.5)
    assert set(by_task) == set(algorithms)
    assert len(set(by_task.values())) == len(algorithms), "each on its own task's page"

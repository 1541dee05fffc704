"""Candidates on a Dask cluster: a real scheduler and two real workers, which share nothing with the flow but stores."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from distributed import Client
from mlflow.entities import Run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from flows.train import train
from registry import Predictor, queries
from registry.errors import AllCandidatesFailed, ClusterUnavailable
from registry.vocabulary import Basis, Status
from tasks.data import frozen_rows
from tasks.reporting.results import TrainResult
from tasks.tracking import store
from tasks.training import dask as dask_module
from tasks.training import threads
from tests.support.processes import free_port, running

pytestmark = pytest.mark.slow

DIGITS = {"task": "classification", "relation_name": "sklearn:digits", "y_column_name": "target"}
FOUR = ["knn", "ridge", "random_forest", "xgboost"]
LONG = "stochastic_gradient_descent"
FOUR_SECONDS, MINUTES = 3_000, 200_000  # of its rounds


class Dask(NamedTuple):
    address: str
    client: Client
    scheduler: Popen[bytes]
    workers: list[Popen[bytes]]  # each starts a process that works, and another one when that is killed


@contextmanager
def started(folder: Path, workers: int, env: dict[str, str]) -> Iterator[Dask]:
    """A scheduler and its workers, each of them in a folder of its own."""
    address = f"tcp://127.0.0.1:{free_port()}"
    dask, local = [sys.executable, "-m", "dask"], ["--host", "127.0.0.1", "--no-dashboard"]
    with ExitStack() as stack:
        log = folder / "scheduler.log"
        command = [*dask, "scheduler", *local, "--port", address.rpartition(":")[2]]
        scheduler = stack.enter_context(running(command, partial(says, log, "Scheduler at"), log, env=env))
        command = [*dask, "worker", address, *local, "--nthreads", "1", "--local-directory", str(folder)]
        logs = [folder / f"worker-{number}.log" for number in range(workers)]
        processes = [stack.enter_context(running(command, lambda: True, log, env=env)) for log in logs]
        until(lambda: all(says(log, "Registered to") for log in logs))
        client = stack.enter_context(Client(address, set_as_default=False, timeout=10))
        yield Dask(address, client, scheduler, processes)


def says(log: Path, what: str) -> bool:
    return what in log.read_text()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, made_mlflow_store: Path) -> dict[str, str]:
    """What the flow and the workers have in common."""
    folder = tmp_path_factory.mktemp("stores")
    for file in made_mlflow_store.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return {
        "REGISTRY_URL": f"sqlite:///{folder / 'registry.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }


@pytest.fixture(scope="module")
def environment(stores: dict[str, str]) -> dict[str, str]:
    """One core for each worker, as the flow's candidates have one each in its threads."""
    return os.environ | stores | {"PREFECT_LOGGING_EXTRA_LOGGERS": "frontrunner", "LOKY_MAX_CPU_COUNT": "1"}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Dask]:
    with started(tmp_path_factory.mktemp("dask"), 2, environment) as dask:
        yield dask


@pytest.fixture
def shared(stores: dict[str, str], prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stores.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dask(two_workers: Dask, shared: None, monkeypatch: pytest.MonkeyPatch) -> Dask:
    monkeypatch.setenv("CANDIDATES_ON", f"dask:{two_workers.address}")
    return two_workers


@pytest.fixture
def one_worker(
    tmp_path: Path, environment: dict[str, str], shared: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dask]:
    """A cluster that can be broken."""
    with started(tmp_path, 1, environment) as dask:
        monkeypatch.setenv("CANDIDATES_ON", f"dask:{dask.address}")
        yield dask


def outcomes(result: TrainResult) -> dict[str, tuple[str, float | None]]:
    return {row.algorithm: (row.status, row.score) for row in result.leaderboard}


def set_there(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)


def runs_of(project_name: str, algorithm: str) -> list[Run]:
    mlflow = store.client()
    experiment = mlflow.get_experiment_by_name(f"frontrunner/{project_name}")
    asked = f"tags.`frontrunner.algorithm` = '{algorithm}'"
    return list(mlflow.search_runs([experiment.experiment_id], asked)) if experiment else []


def kill_the_one_that_fits(dask: Dask, project_name: str, others: int = 0) -> None:
    """SIGKILL for the process in which the long candidate is, when the others are done."""

    def busy() -> list[str]:
        return [worker for worker, keys in dask.client.processing().items() if keys]

    def alone() -> bool:
        done = [model for model in queries.models(project_name) if model.status is Status.TRAINED]
        return len(done) == others and len(busy()) == 1

    until(lambda: bool(runs_of(project_name, LONG)) and alone())
    os.kill(dask.client.run(os.getpid)[busy()[0]], signal.SIGKILL)


def while_training(
    project_name: str, action: Callable[[], None], algorithms: list[str], rounds: int = MINUTES
) -> TrainResult:
    hyperparams = {LONG: {"max_iter": rounds, "tol": None}}
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(action)
        try:
            return train(project_name, **DIGITS, algorithms=algorithms, hyperparams=hyperparams)
        finally:
            done.result(60)


def test_four_candidates_on_two_workers_score_as_they_do_in_threads(
    dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.client.get_task_stream()  # from now on
    with monkeypatch.context() as patch:
        patch.setattr(frozen_rows, "forget", print)  # so that it can be seen how often they read
        result = train("far", **DIGITS, algorithms=FOUR)
    worked = [done["worker"] for done in dask.client.get_task_stream() if "train_candidate" in done["key"]]
    assert len(worked) == 4
    assert len(set(worked)) == 2
    read = dask.client.run(frozen_rows._read.cache_info)
    assert [info.misses for info in read.values()] == [1, 1]
    monkeypatch.delenv("CANDIDATES_ON")
    monkeypatch.setattr(threads, "cpu_count", lambda: 1)
    assert outcomes(train("near", **DIGITS, algorithms=FOUR)) == outcomes(result)


def test_the_best_goes_live_and_the_next_training_is_compared_with_it(dask: Dask) -> None:
    """Nothing of the candidates is in the flow's memory: it asks their files."""
    first = train("digits", **DIGITS, algorithms=["ada_boost"], seed=1)
    better = train("digits", **DIGITS, algorithms=["knn", "linear"], seed=2, confidence=0.9)
    assert first.deployed
    assert better.deployed
    evidence = queries.decisions("digits")[0].evidence
    assert evidence.basis is Basis.SAME_ROWS
    assert 0 < evidence.rows_compared < queries.snapshot(better.snapshot_id).test_rows
    assert evidence.interval[0] > 0
    assert Predictor("digits").predict(np.zeros((1, 64))).shape == (1,)
    read = dask.client.run(frozen_rows._read.cache_info)
    assert [info.currsize for info in read.values()] == [0, 0], "the workers keep no rows"


def test_a_candidate_that_fails_fails_alone_and_all_of_it_is_in_the_runs_log(dask: Dask) -> None:
    result = train("digits", **DIGITS, algorithms=["nu_svm", "knn"], hyperparams={"nu_svm": {"nu": 0.999}})
    assert result.leaderboard[1].reason == "ValueError: specified nu is infeasible"
    assert outcomes(result)["knn"][0] == "trained"
    flow_run = UUID(runs_of("digits", "nu_svm")[0].data.tags["prefect.flow_run_id"])

    def told() -> bool:
        with get_client(sync_client=True) as client:
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run])))
        said = " / ".join(entry.message for entry in logs)
        return all(what in said for what in ("knn: training", "knn: F1", "nu_svm: failed"))

    until(told)


class TestLostWorkers:
    def test_a_candidate_whose_worker_is_killed_is_trained_by_the_other_one(self, dask: Dask) -> None:
        action = partial(kill_the_one_that_fits, dask, "lost")
        result = while_training("lost", action, [LONG], FOUR_SECONDS)
        assert result.deployed
        assert result.leaderboard[0].status == "trained"
        assert len(queries.models("lost")) == 1
        assert sorted(run.info.status for run in runs_of("lost", LONG)) == ["FINISHED", "KILLED"]

    def test_one_that_kills_its_workers_fails_alone(self, dask: Dask) -> None:
        until(lambda: len(dask.client.scheduler_info()["workers"]) == 2)

        def allow(failures: int, dask_scheduler: Any) -> None:
            dask_scheduler.allowed_failures = failures

        dask.client.run_on_scheduler(allow, 0)  # else 3
        try:
            action = partial(kill_the_one_that_fits, dask, "deadly", others=1)
            result = while_training("deadly", action, [LONG, "knn"])
        finally:
            dask.client.run_on_scheduler(allow, 3)
        knn, long = result.leaderboard
        assert result.deployed_model_id == knn.model_id
        assert long.status == "failed"
        assert long.reason.startswith("KilledWorker: Attempted to run")
        assert [run.info.status for run in runs_of("deadly", LONG)] == ["KILLED"]

    def test_when_the_scheduler_is_lost(self, one_worker: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dask_module, "CONNECT_SECONDS", 2)  # it is looked for that long

        def kill() -> None:
            until(lambda: bool(runs_of("no scheduler", LONG)))
            os.killpg(one_worker.scheduler.pid, signal.SIGKILL)

        started = time.monotonic()
        with pytest.raises(AllCandidatesFailed, match=f"{LONG}: .*lost the connection to the scheduler"):
            while_training("no scheduler", kill, [LONG])
        assert time.monotonic() - started < 40
        assert [model.status for model in queries.models("no scheduler")] == ["failed"]


class TestRefused:
    @pytest.mark.parametrize("name", ["REGISTRY_URL", "MLFLOW_TRACKING_URI"])
    def test_a_worker_with_another_store_records_nothing_there(
        self, dask: Dask, stores: dict[str, str], workspace: Path, name: str
    ) -> None:
        """Another registry in which the project and the snapshot have the same numbers: a copy."""
        train(f"first of {name}", **DIGITS, algorithms=["knn"])
        own = Path(stores[name].removeprefix("sqlite:///"))
        for file in own.parent.glob(f"{own.name}*"):
            shutil.copy(file, workspace)
        dask.client.run(set_there, {name: f"sqlite:///{workspace / own.name}"})
        try:
            with pytest.raises(AllCandidatesFailed, match=f"knn: this Dask worker's {name} is not the flow's"):
                train(f"first of {name}", algorithms=["knn"])
        finally:
            dask.client.run(set_there, stores)
        assert [model.status for model in queries.models(f"first of {name}")] == ["failed", "trained"]

    def test_no_scheduler(self, shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dask_module, "CONNECT_SECONDS", 2)
        monkeypatch.setenv("CANDIDATES_ON", f"dask:tcp://127.0.0.1:{free_port()}")
        started = time.monotonic()
        with pytest.raises(
            ClusterUnavailable, match="cannot be used: Timed out.*; start it, or unset CANDIDATES_ON"
        ) as caught:
            train("nowhere", **DIGITS, algorithms=["knn"])
        assert time.monotonic() - started < 12
        assert "\n" not in str(caught.value)
        assert queries.find_project("nowhere") is None


def test_when_no_worker_is_left_it_is_not_waited_for_ever_nor_begun(
    dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test: it takes the workers away."""
    monkeypatch.setattr(dask_module, "WORKERLESS_SECONDS", 3)

    def kill() -> None:
        until(lambda: bool(runs_of("none left", LONG)))
        for worker in dask.workers:
            os.killpg(worker.pid, signal.SIGKILL)

    with pytest.raises(AllCandidatesFailed, match=f"{LONG}: no Dask worker was there for 3 s"):
        while_training("none left", kill, [LONG])
    assert [run.info.status for run in runs_of("none left", LONG)] == ["KILLED"]
    with pytest.raises(ClusterUnavailable, match="has no workers: start one, dask worker tcp://"):
        train("nobody", **DIGITS, algorithms=["knn"])
    assert queries.find_project("nobody") is None

"""(a) An acknowledged deployment is never lost, whoever is killed."""

import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest
from sqlalchemy import create_engine, text

from registry import session
from tests.support.actions import action
from tests.support.expected_history import answers, every_promise_is_kept, rows_of
from tests.support.fork_server import ForkServer
from tests.support.postgres import Cluster, postgres_cluster
from tests.support.size import sized, tell
from tests.support.story import Story
from tests.support.workers import Workers


def test_what_was_answered_is_there_for_everyone(story: Story, registry_url: str) -> None:
    first, second = story.trained_and_promoted(0.6), story.trained_and_promoted(0.7)
    answered = story.deploys("rollback")
    another = create_engine(registry_url)
    with another.connect() as connection:
        rows = connection.execute(text("SELECT model_id FROM deployments ORDER BY seq")).scalars().all()
    another.dispose()
    assert rows == [first, second, answered.model_id]


@pytest.mark.slow
def test_workers_that_are_killed_at_random(registry_url: str, fork_server: ForkServer) -> None:
    workers = Workers(fork_server, 6)
    workers.work(actions=sized(500), kills=sized(50), seconds_between=0.1)
    workers.go_home()
    rows = every_promise_is_kept()
    # A deploy by hand that changed nothing left nothing behind: asked again it is asked for the first time.
    kept = [answer for answer in answers() if answer["changed"] or answer["request_key"] != answer["key"]]
    for answer in kept[:: sized(10)]:
        assert action(answer["key"], workers.models) == {name: answer[name] for name in answer if name != "key"}
    assert rows_of("churn") == rows
    tell(
        test="killed at random",
        registry=registry_url.partition(":")[0],
        acknowledged=workers.done(),
        deployments=len(rows),
        killed=workers.killed,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        yield cluster


@pytest.mark.slow
def test_postgresql_itself_is_killed(
    cluster: Cluster, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its processes at once, as a crash of its machine would end them, or at once by its own immediate stop;
    the workers go on with the request they had."""
    monkeypatch.setenv("REGISTRY_URL", cluster.url.format(database="postgres"))
    with cluster.running("-h", "") as server:
        workers = Workers(fork_server, 6)
        workers.work(actions=20)
        killed_whole(server)
    outages = sized(3)
    for outage in range(1, outages):
        with cluster.running("-h", "") as server:
            workers.work(actions=workers.done() + 40, kills=2)
            stopped_at_once(server) if outage % 2 else killed_whole(server)
    with cluster.running("-h", ""):
        workers.work(actions=workers.done() + 20)
        workers.go_home()
        rows = every_promise_is_kept()
        session.close()
    tell(
        test="PostgreSQL killed",
        outages=outages,
        acknowledged=workers.done(),
        deployments=len(rows),
        workers_killed=workers.killed,
    )


def killed_whole(server: subprocess.Popen[bytes]) -> None:
    """Every process of it, before any can react to another's end."""
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()
    processes = [*postmaster.children(recursive=True), postmaster]
    for process in processes:
        process.kill()
    server.wait(60)
    psutil.wait_procs(processes, 60)


def stopped_at_once(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGQUIT)
    server.wait(60)

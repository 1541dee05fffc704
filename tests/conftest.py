"""Fixtures for all tests: a workspace for each test, both databases, a Prefect server, and stories."""

import inspect
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from registry import session
from tests.support.postgres import postgres_server
from tests.support.processes import answers, free_port, running
from tests.support.story import Story

os.environ.update(PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")

_numbers = count()


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, without any setting."""
    for name in ("REGISTRY_URL", "MLFLOW_TRACKING_URI", "DATA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    session.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server, with a placeholder {database}."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = f"test_{next(_numbers)}"
    admin = create_engine(postgres.format(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.format(database=name)
    session.close()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty registry, on each database in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{workspace / 'registry.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("REGISTRY_URL", url)
    return url


@pytest.fixture
def story(registry_url: str) -> Story:
    """A project in which a test can record models as trained and deployed, on each database in turn."""
    return Story()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real Prefect server with its own database, which flows use from now on."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = os.environ | {"PREFECT_HOME": str(home)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (
        running(command, lambda: answers(f"{api}/health"), home / "server.log", env=env),
        # A flow waits at its end for the thread of its heartbeat, and there are hundreds of flows here.
        temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield api
        _drain_prefect()


def _drain_prefect() -> None:
    """Send Prefect's queued events and logs before the server ends; otherwise Prefect retries for minutes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.utilities.asyncutils import run_coro_as_sync

    async def drain() -> None:
        for drained in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
            if inspect.isawaitable(drained):
                await drained

    run_coro_as_sync(drain())


def pytest_sessionstart() -> None:
    # A shell that starts the tests in the background makes them and their commands ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert sqlite3.sqlite_version_info >= (3, 35), "UPDATE … RETURNING needs SQLite 3.35"


@pytest.fixture(scope="session")
def made_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty MLflow store, to copy, because creating one is slow."""
    from tasks.tracking import store

    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        store.client()
    return folder


@pytest.fixture
def mlflow_store(made_mlflow_store: Path, workspace: Path) -> Path:
    """The default local store of this test's workspace."""
    home = workspace / ".frontrunner"
    home.mkdir()
    shutil.copy(made_mlflow_store / "mlflow.db", home)
    return home

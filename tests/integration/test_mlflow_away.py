"""MLflow unreachable during a deploy: the deploy stands, in bounded time, and the alias catches up later."""

import json
import logging
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from registry import queries, settings
from registry.errors import TrackingUnavailable
from registry.retention import Keep
from registry.vocabulary import Task
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.tracking import alias as alias_module
from tasks.tracking import runs, store
from tasks.tracking import store as store_module
from tasks.upkeep.prune import prune
from tasks.upkeep.reconcile import reconcile
from tests.support.story import Story


@pytest.fixture
def two_models(workspace: Path) -> Story:
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8)
    return story


def test_a_server_that_is_down(two_models: Story, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "frontrunner"):
        assert deploy(checked_deploy("churn", "rollback"), "key").changed
    assert time.monotonic() - started < 60
    assert len(two_models.history) == 3
    assert "the deployment stands, but MLflow's alias 'live' lags behind" in caplog.text


@pytest.mark.slow
def test_a_server_that_never_answers(two_models: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alias_module, "MIRROR_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert deploy(checked_deploy("churn", "rollback"), "key").changed
        assert time.monotonic() - started < 20
    assert len(two_models.history) == 3


def test_a_server_that_asks_to_come_back_later(two_models: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", "600")
            self.end_headers()

        do_POST = do_GET  # noqa: N815  (the server calls it so)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as busy:
        Thread(target=busy.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{busy.server_port}")
        started = time.monotonic()
        assert not alias_module.mirror_live("churn")
        assert time.monotonic() - started < alias_module.MIRROR_SECONDS
        busy.shutdown()


def test_what_mlflow_says_of_a_servers_pages_is_not_in_our_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            run = {"info": {"run_id": "r", "experiment_id": "1", "run_name": "n", "status": "FINISHED"}, "data": {}}
            said = json.dumps({"run": run}).encode()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST  # noqa: N815  (the server calls it so)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        runs.end_run("r", "FINISHED")
        server.shutdown()
    assert capsys.readouterr().out == ""


def test_a_store_that_another_process_never_finishes_making(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / ".frontrunner").mkdir()
    monkeypatch.setattr(store, "STORE_SECONDS", 0.2)
    with FileLock(".frontrunner/mlflow.db.lock"), pytest.raises(TrackingUnavailable), store.translated():
        store.client()


def test_a_local_store_that_does_not_exist_is_not_created_by_a_deploy(
    two_models: Story, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "frontrunner"):
        assert deploy(checked_deploy("churn", "rollback"), "key").changed
    path = workspace / ".frontrunner" / "mlflow.db"
    (message,) = caplog.messages
    assert message == (
        "the deployment stands, but MLflow's alias 'live' lags behind until the next deploy:"
        f" there is no MLflow store at {path}: set MLFLOW_TRACKING_URI, or train first"
    )
    assert not list(path.parent.glob("mlflow*"))
    assert queries.mirrored_seq("churn") is None


def test_reconcile_and_prune_report_that_the_local_store_does_not_exist(two_models: Story, workspace: Path) -> None:
    missing = f"there is no MLflow store at {workspace / '.frontrunner' / 'mlflow.db'}"
    (action,) = reconcile()
    assert (action.what, action.done) == ("MLflow", False)
    assert action.said.startswith(missing)
    (left,) = prune("churn", Keep()).left
    assert left.startswith(missing)
    with pytest.raises(TrackingUnavailable, match="there is no MLflow store"):
        alias_module.mirrored_model_id(two_models.snapshot.project_id)
    assert not list((workspace / ".frontrunner").glob("mlflow*"))
    assert queries.mirrored_seq("churn") is None


def test_it_takes_no_mlflow_to_find_that_there_is_no_store(two_models: Story) -> None:
    code = """
import sys
from tasks.tracking.alias import mirror_live
print(mirror_live("churn"), "mlflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False False\n"
    assert "there is no MLflow store at" in done.stderr


def test_a_database_store_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, mlflow_store: Path) -> None:
    (mlflow_store / "mlflow.db").write_bytes(b"it is no database any more " * 100)
    with (
        pytest.raises(TrackingUnavailable, match=r"MLflow at sqlite:///.* failed") as caught,
        store_module.translated(),
    ):
        store_module.client()
    assert "\n" not in str(caught.value)


def test_another_registrys_model_is_left_alone(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    client.create_registered_model(
        "frontrunner-1", tags={"frontrunner.project": "churn", "frontrunner.created_at": "2026-01-01T00:00:00+00:00"}
    )
    Story().trained_and_promoted(0.7)
    with caplog.at_level(logging.WARNING, "frontrunner"):
        assert not alias_module.mirror_live("churn")
    assert "registered model frontrunner-1 belongs to another registry" in caplog.text
    assert client.get_registered_model("frontrunner-1").aliases == {}


@pytest.mark.slow
def test_the_next_deploy_puts_the_alias_right(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, prefect: str
) -> None:
    from flows.train import train

    train("iris", Task.CLASSIFICATION, "sklearn:iris", "target", algorithms=["ada_boost"])
    train("iris", algorithms=["svm"])
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        rolled_back = deploy(checked_deploy("iris", "rollback"), "key")
    client = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    name = alias_module.registered_name(1)

    def alias() -> str:
        return client.get_model_version_by_alias(name, "live").tags["frontrunner.model_id"]

    assert alias() != str(rolled_back.model_id)
    deploy(
        checked_deploy("iris", "rollback"), "key"
    )  # the same request again: nothing is deployed, but the mirror is mended
    assert alias() == str(rolled_back.model_id)


class TestANewStore:
    def test_it_has_only_mlflows_own_experiment(self, workspace: Path) -> None:
        assert [each.name for each in store_module.client().search_experiments()] == ["Default"]
        assert {path.name for path in (workspace / ".frontrunner").glob("mlflow.db*")} == {
            "mlflow.db",
            "mlflow.db.lock",
        }

    def test_several_processes_create_one(self, workspace: Path) -> None:
        code = "from tasks.tracking.store import client; client().create_experiment(str(__import__('os').getpid()))"
        with ExitStack() as stack:
            processes = [
                stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE))
                for _ in range(3)
            ]
            errors = [process.communicate(timeout=120)[1].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], errors
        assert len(store_module.client().search_experiments()) == 4

    def test_what_a_killed_process_left_is_not_used(self, workspace: Path) -> None:
        (workspace / ".frontrunner").mkdir()
        with closing(sqlite3.connect(workspace / ".frontrunner" / "mlflow.db.new")) as half:
            half.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        assert store_module.client().create_experiment("mine")

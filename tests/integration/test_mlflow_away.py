"""MLflow unreachable during a deploy: the deploy stands, in bounded time, and the alias catches up later."""

import logging
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from registry import settings
from registry.vocabulary import Task
from tasks import tracking
from tasks.promotion import deploy
from tests.support.story import Story


@pytest.fixture
def two_models() -> Story:
    story = Story()
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8)
    return story


def test_a_server_that_is_down(two_models: Story, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "frontrunner"):
        assert deploy("churn", "rollback", None, "key").changed
    assert time.monotonic() - started < 60
    assert len(two_models.history) == 3
    assert "the deployment stands, but MLflow's alias 'live' lags behind" in caplog.text


@pytest.mark.slow
def test_a_server_that_never_answers(two_models: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.BOUNDS, "MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert deploy("churn", "rollback", None, "key").changed
        assert time.monotonic() - started < 60
    assert len(two_models.history) == 3


@pytest.mark.slow
def test_the_next_deploy_puts_the_alias_right(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, prefect: str
) -> None:
    from flows.train import train

    train("iris", Task.CLASSIFICATION, "sklearn:iris", "target", algorithms=["ada_boost"])
    train("iris", algorithms=["svm"])
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        rolled_back = deploy("iris", "rollback", None, "key")
    client = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    name = tracking.registered_name(1)

    def alias() -> str:
        return client.get_model_version_by_alias(name, "live").tags["frontrunner.model_id"]

    assert alias() != str(rolled_back.model_id)
    deploy("iris", "rollback", None, "key")  # the same request again: nothing is deployed, but the mirror is mended
    assert alias() == str(rolled_back.model_id)

"""A run's page that cannot be made is a warning: the result is returned, and what was deployed stands."""

from pathlib import Path

import httpx
import pytest
from prefect import flow

from flows.deploy import rollback
from flows.train import train
from registry import queries
from tasks.reporting import deploy, live_scores, publish
from tasks.reporting import train as training_report
from tests.support.story import Story

pytestmark = pytest.mark.slow


def fails(*_: object, **__: object) -> None:
    raise ZeroDivisionError("it cannot be\ndrawn")


@pytest.fixture
def story(prefect: str, workspace: Path) -> Story:
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8, "svm")
    return story


def test_a_page_of_a_deploy_that_cannot_be_made(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deploy, "deploy_page", fails)
    state = rollback("churn", return_state=True)
    assert state.is_completed()
    assert state.result().model_id == story.live == 1
    assert "the run's page has no deploy: ZeroDivisionError: it cannot be drawn" in caplog.text


def test_a_chart_that_cannot_be_drawn(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []
    monkeypatch.setattr(live_scores, "live_scores", fails)
    monkeypatch.setattr(publish, "create_markdown_artifact", lambda page, **_: made.append(page))
    assert rollback("churn").model_id == story.live == 1
    assert "the page has no chart: ZeroDivisionError" in caplog.text
    assert "To undo it" in made[0]


@pytest.mark.parametrize("error", [httpx.ConnectError("Connection refused"), RuntimeError("the server is odd")])
def test_artifacts_that_prefect_does_not_take(
    story: Story, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(publish, "create_markdown_artifact", refused)
    assert rollback("churn").model_id == story.live == 1
    assert f"the run's page has no deploy: {type(error).__name__}: {error}" in caplog.text


def test_everything_that_a_training_shows_fails(
    prefect: str, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("training_page", "snapshot_page", "_note", "_baseline"):
        monkeypatch.setattr(training_report, name, fails)
    result = train("iris", "classification", "sklearn:iris", "target", algorithms=["ada_boost"])
    assert (result.deployed, result.live_model_id, result.baseline) == (True, queries.live_model("iris").id, {})
    for part in ("leaderboard has no baseline", "page has no leaderboard", "page has no snapshot", "run has no note"):
        assert part in caplog.text


def test_predictions_whose_page_cannot_be_made(
    prefect: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publish, "create_markdown_artifact", fails)

    @flow(name="shows")
    def shows() -> str:
        publish.publish("predictions", "churn", "5 rows", lambda: "5 rows")
        return "done"

    assert shows() == "done"
    assert "the run's page has no predictions" in caplog.text

"""What `frontrunner doctor` finds, and the mend that it names."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import doctor
from flows.cli.doctor import Finding, examine
from registry import queries, session
from registry.settings import mlflow_ui
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.tracking.alias import mirror_live, mirrored_model_id
from tests.support.story import Story

pytestmark = pytest.mark.slow


def found(part: str) -> Finding:
    return next(finding for finding in examine() if finding.part == part)


@pytest.fixture
def story(workspace: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Two models were live, and MLflow knows of it."""
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8, "svm")
    assert mirror_live("churn")
    return story


@pytest.fixture
def no_prefect() -> Iterator[None]:
    """As if no test of this process had a server."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


def test_an_empty_folder_is_neither_good_nor_bad(no_prefect: None, workspace: Path) -> None:
    assert {finding.ok for finding in examine()} == {None}
    assert not (workspace / ".frontrunner").exists()


def test_all_is_well(no_prefect: None, story: Story) -> None:
    assert {finding.part: finding.ok for finding in examine()} == {
        "registry": True, "MLflow": True, "Prefect": None, "alias of churn": True, "files of churn": True,
        "leftovers of churn": True,
    }  # fmt: skip


def test_an_alias_that_lags_behind(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        deploy(checked_deploy("churn", "rollback"), "key")
        assert found("MLflow").ok is False
        assert "http://127.0.0.1:1 failed" in found("MLflow").said
    alias = found("alias of churn")
    assert alias == Finding("alias of churn", False, "names model 2, but model 1 is live: run `frontrunner reconcile`")
    assert mirror_live("churn")
    assert found("alias of churn").ok is True
    assert mirrored_model_id(queries.project("churn").id) == 1


def test_a_file_that_is_not_what_was_recorded(story: Story) -> None:
    model = queries.model(1)  # what a rollback would bring back
    assert model.artifact is not None
    Path(model.artifact.uri.removeprefix("file://")).write_bytes(b"another")
    files = found("files of churn")
    assert files.ok is False
    assert "is not the file that was recorded" in files.said or "bytes" in files.said


def test_a_registry_of_another_version(story: Story, workspace: Path) -> None:
    session.close()
    with sqlite3.connect(workspace / ".frontrunner" / "registry.db") as connection:
        connection.execute("UPDATE frontrunner_version SET version_num = '0000'")
    assert found("registry").said.endswith("is at version 0000, this is 0003: run `frontrunner upgrade`")
    assert found("registry").ok is False


def test_a_prefect_server_that_is_away(workspace: Path) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        prefect = found("Prefect")
    assert prefect.ok is False
    assert "does not answer" in prefect.said


def test_a_prefect_server_without_a_worker(prefect: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "POOL", "of-nobody")  # other tests share the server
    assert found("Prefect").ok is True
    worker = found("worker")
    assert worker.ok is False
    assert "`frontrunner up`, or `prefect worker start --pool of-nobody`" in worker.said
    assert found("deployments").ok is None
    (workspace / "prefect.yaml").write_text("deployments: [{name: never-applied, entrypoint: 'flows/train.py:train'}]")
    deployments = found("deployments")
    assert deployments.ok is False
    assert "not on the server: train/never-applied; run `prefect --no-prompt deploy --all`" in deployments.said


def test_the_version_in_mlflow_is_described_by_its_deployment(story: Story) -> None:
    from tasks.tracking.store import client

    name = f"frontrunner-{queries.project('churn').id}"
    assert (
        client()
        .get_model_version_by_alias(name, "live")
        .description.startswith("svm, F1 0.8000: model 2 of 'churn'. Deployment 2, ")
    )
    deploy(checked_deploy("churn", "rollback", reason="it was odd"), "key")
    now = client().get_model_version_by_alias(name, "live").description
    assert now.startswith("linear, F1 0.7000: model 1 of 'churn'. Deployment 3, ")
    assert "rollback by " in now
    assert now.endswith(": it was odd")


def test_links_to_mlflow_have_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_UI_URL", raising=False)
    assert mlflow_ui() is None, "the local store has no pages"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org/")
    assert mlflow_ui() == "https://mlflow.example.org"

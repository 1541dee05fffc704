"""A real MLflow server behind a line that breaks, in every step that needs it: bounded time, one clear line, and the
same again is clean. tests/integration/test_mlflow_away.py has servers that were never there."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from mlflow import MlflowClient

from flows.train import train
from registry import Predictor, queries
from registry.errors import AllCandidatesFailed, ArtifactMissing, TrackingUnavailable
from registry.vocabulary import Status
from tasks.data import snapshots
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.tracking import alias
from tasks.tracking.alias import mirrored_model_id
from tasks.training import candidates
from tests.support.hostile import TORTURE
from tests.support.mlflow_server import mlflow_server
from tests.support.proxy import FAULTS, Proxy, proxy

pytestmark = pytest.mark.slow

IRIS = {"task": "classification", "relation_name": "sklearn:iris", "y_column_name": "target"}
SECONDS = 90  # with the limits below: a training waits for some five requests, each of them twice


def faults(*some: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", FAULTS if TORTURE else some)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, made_mlflow_store: Path) -> Iterator[Proxy]:
    """To a server that keeps the files as well."""
    with mlflow_server(tmp_path_factory.mktemp("server"), made_mlflow_store) as url, proxy(url) as line:
        MlflowClient(url, url).search_experiments()  # its first answer takes seconds
        yield line


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all: registries do not share an MLflow."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/registry.db"


@pytest.fixture(autouse=True)
def client(line: Proxy, registry: str, prefect: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """It is less patient than usual, and a step is not tried again: tests/integration/test_flow_runs.py has that."""
    monkeypatch.setenv("REGISTRY_URL", registry)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for step in (candidates.train_candidate, snapshots.take_snapshot):
        monkeypatch.setattr(step, "retries", 0)
    return MlflowClient(line.url, line.url)


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """Of this test alone."""
    return request.node.name


@faults("503")
def test_a_training_that_finds_it_away_records_nothing(line: Proxy, project: str, fault: str) -> None:
    started = monotonic()
    with line.broken(fault), pytest.raises(TrackingUnavailable, match="MLflow at http://127.* failed") as caught:
        train(project, **IRIS, algorithms=["ridge"])
    assert monotonic() - started < SECONDS
    assert str(caught.value).isprintable()
    assert queries.find_project(project) is None
    assert train(project, **IRIS, algorithms=["ridge"]).deployed


@faults("hangs", "500")
def test_a_training_that_loses_it_in_the_middle_deploys_nothing(
    line: Proxy, project: str, fault: str, client: MlflowClient
) -> None:
    """The model is fitted by then, and cannot be saved."""
    live = train(project, **IRIS, algorithms=["ada_boost"], hyperparams={"ada_boost": {"n_estimators": 1}})
    started = monotonic()
    with (
        line.broken(fault, begins_at="logged-models"),
        pytest.raises(AllCandidatesFailed, match="svm: MLflow at http://127.* failed") as caught,
    ):
        train(project, algorithms=["svm"])
    assert monotonic() - started < SECONDS
    assert line.begun
    assert str(caught.value).isprintable()
    assert [model.status for model in queries.models(project)] == [Status.FAILED, Status.TRAINED]
    assert queries.live_model(project).id == live.deployed_model_id
    assert len(queries.history(project)) == 1
    again = train(project, algorithms=["svm"])
    assert again.deployed
    assert mirrored_model_id(queries.project(project).id) == again.deployed_model_id


@faults("500")
def test_a_deployment_stands_when_only_the_mirror_failed(
    line: Proxy, project: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a training that loses it at its very end, and of a rollback; predictions go on meanwhile."""
    first = train(project, **IRIS, algorithms=["ada_boost"], hyperparams={"ada_boost": {"n_estimators": 1}})
    with Predictor(project) as predictor, caplog.at_level(logging.WARNING, "frontrunner"):
        rows = [[5.1, 3.5, 1.4, 0.2]]
        before, started = predictor.predict(rows), monotonic()
        with line.broken(fault, begins_at="runs/update"):
            better = train(project, algorithms=["svm"])
            assert better.deployed
            assert predictor.refresh().id == better.deployed_model_id
            back = deploy(checked_deploy(project, "rollback"), "back")
            assert predictor.refresh().id == back.model_id == first.deployed_model_id
            assert (predictor.predict(rows) == before).all()
        assert monotonic() - started < SECONDS
    warned = [record.getMessage() for record in caplog.records if record.name == "frontrunner"]
    assert sum("the deployment stands" in warning for warning in warned) == 2
    assert all(warning.isprintable() for warning in warned)
    assert alias.mirror_live(project)
    assert mirrored_model_id(queries.project(project).id) == first.deployed_model_id


@faults("refuses")
def test_a_model_whose_file_cannot_be_fetched(line: Proxy, project: str, fault: str) -> None:
    train(project, **IRIS, algorithms=["ridge"])
    shutil.rmtree(Path(".frontrunner") / "cache")
    started = monotonic()
    with line.broken(fault), pytest.raises(ArtifactMissing, match="cannot be fetched") as caught:
        Predictor(project)
    assert monotonic() - started < SECONDS
    assert str(caught.value).isprintable()
    assert Predictor(project).predict([[5.1, 3.5, 1.4, 0.2]]).shape == (1,)


def test_a_server_that_takes_its_time(line: Proxy, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "seconds", 0.1)
    assert train(project, **IRIS, algorithms=["ridge"]).deployed

"""A pipeline's file, read by several threads at once."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from registry.errors import ArtifactMissing
from registry.serving.artifacts import describe, load_pipeline
from registry.values import Artifact


@pytest.fixture
def _other_threads_run_while_this_one_parses():
    """The collector may run in the middle of parsing; what is called by it lets the other threads go on."""

    def let_others_run(_phase: str, _info: dict[str, int]) -> None:
        sleep(1e-5)

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*before)
    gc.callbacks.remove(let_others_run)


@pytest.mark.usefixtures("_other_threads_run_while_this_one_parses")
def test_threads_that_load_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(RandomForestClassifier(4, random_state=0).fit(*load_iris(return_X_y=True)), path)
    artifact = describe(path, path.as_uri())
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load_pipeline, [artifact] * 24))
    assert all(model.n_estimators == 4 for model in loaded)


def test_a_store_that_cannot_be_reached_is_named_without_a_password(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://worker:secret@127.0.0.1:1")
    with pytest.raises(ArtifactMissing, match="//127.0.0.1:1/") as caught:
        load_pipeline(Artifact("mlflow-artifacts:/1/m-1/artifacts/model.skops", "0" * 64, 1))
    assert "secret" not in str(caught.value)

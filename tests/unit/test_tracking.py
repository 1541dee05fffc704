"""Files of a training in MLflow's local store."""

import errno
import os
from pathlib import Path

import pytest

from registry.serving.artifacts import local_path, verified
from tasks.tracking import runs
from tasks.values import MlflowRun


@pytest.fixture
def run(mlflow_store: Path) -> MlflowRun:
    return runs.start_import("churn", "a run")


def test_a_file_on_the_disk_of_the_store_is_not_copied(run: MlflowRun, tmp_path: Path) -> None:
    path = tmp_path / "rows é.parquet"
    path.write_bytes(b"rows")
    saved = runs.save_file(run, path, "snapshot")
    there = local_path(saved.uri)
    assert there
    assert there.samefile(path)
    path.unlink()
    with verified(saved) as found:
        assert found.read_bytes() == b"rows"


def test_a_file_on_another_disk_is_copied(run: MlflowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"rows")
    with verified(runs.save_file(run, path, "snapshot")) as found:
        assert not found.samefile(path)
        assert found.read_bytes() == b"rows"


def test_a_file_that_is_sent_again_takes_the_place_of_the_first(run: MlflowRun, tmp_path: Path) -> None:
    for said in (b"first", b"second"):
        path = tmp_path / "rows.parquet"
        path.unlink(missing_ok=True)
        path.write_bytes(said)
        with verified(runs.save_file(run, path, "snapshot")) as found:
            assert found.read_bytes() == said

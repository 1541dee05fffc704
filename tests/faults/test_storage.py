"""The registry's database and the artifact store: read only, locked, full, away. Each is one clear line in bounded
time, nothing is half recorded, and the same again works once the fault is over."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import Engine, create_engine, event, text

from registry import Predictor, queries, session
from registry.errors import RegistryUnavailable
from tests.support.hosts import with_mounts
from tests.support.story import Story

ROOT = Path(__file__).parents[2]
LONG = "so " * 50_000  # more than the free space of any page


@contextmanager
def full() -> Iterator[None]:
    """SQLite may not make its file larger, as on a disk that is full."""

    def limit(connection, _record) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@pytest.fixture
def story(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Model 1 was live, model 2 is; on SQLite."""
    monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{workspace / 'home' / 'registry.db'}")
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8)
    session.close()
    return story


class TestFull:
    def test_no_write_leaves_a_part_of_itself(self, story: Story) -> None:
        model_id = story.started().id
        with full():
            for write in (
                lambda: story.deploys("rollback", reason=LONG),
                lambda: story.finish(model_id, 0.9, story.file.__class__(LONG, "0" * 64, 1)),
                lambda: story.deploys("rollback", quarantine=True, reason=LONG),
            ):
                with pytest.raises(RegistryUnavailable, match="cannot be used: database or disk is full") as caught:
                    write()
                assert "\n" not in str(caught.value)
        session.close()
        assert story.live == 2
        assert len(story.history) == 2
        assert queries.model(model_id).artifact is None
        assert story.deploys("rollback", reason="so").changed
        assert story.finish(model_id, 0.9).score == 0.9

    @pytest.mark.slow
    def test_a_rollback_on_a_full_disk(self, story: Story, workspace: Path) -> None:
        """A real one: SQLite cannot make its files beside the database either."""
        said = commands(
            workspace,
            """
            cp home/registry.db copy.db; mount -t tmpfs -o size=1m none home; cp copy.db home/registry.db
            dd if=/dev/zero of=home/ballast bs=4k 2> /dev/null
            """,
            "rm home/ballast",
        )
        assert_refused(said[0])
        assert_rolled_back(said[1])

    @pytest.mark.slow
    def test_an_artifact_store_that_is_full(self, workspace: Path, mlflow_store: Path) -> None:
        """The candidate is failed, with nothing that could be deployed; the same again trains it."""
        (mlflow_store / "artifacts").mkdir()
        script = f"mount -t tmpfs -o size=1m none .frontrunner/artifacts; exec {sys.executable} train.py"
        (workspace / "train.py").write_text(FILLED)
        done = subprocess.run(
            with_mounts(script), env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        failed, again = json.loads(done.stdout.splitlines()[-1])
        assert failed["status"] == "failed"
        assert "No space left on device" in failed["reason"]
        assert (failed["artifact"], failed["runs"], failed["models"]) == (None, ["FAILED"], ["FAILED"])
        assert (again["status"], again["reason"], again["id"]) == ("trained", None, failed["id"])


FILLED = """
import json
import sys
import warnings
from pathlib import Path
from mlflow import MlflowClient
from registry import queries, settings
from registry.errors import CandidateFailed
from tasks.parameters import TrainParameters
from tasks.training.requests import checked_request
from tasks.data.snapshots import take_snapshot
from tasks.training.fit import train_one
warnings.simplefilter("ignore")
given = TrainParameters("iris", "classification", "sklearn:iris", "target", ["ridge"])
training = take_snapshot.fn(checked_request(given), "key")
ballast = Path(".frontrunner/artifacts/ballast")
client = MlflowClient(settings.tracking_uri())
try:
    with ballast.open("wb", 0) as file:
        while file.write(b"0" * 4096):
            pass
except OSError:
    pass
told = []
for _ in range(2):
    try:
        train_one(training, "ridge", 1)
    except CandidateFailed:
        pass
    model = queries.models("iris")[0]
    runs = client.search_runs([training.run.experiment_id], "tags.`frontrunner.algorithm` = 'ridge'")
    logged = client.search_logged_models([training.run.experiment_id])
    told.append({"id": model.id, "status": model.status, "reason": model.reason, "artifact": model.artifact,
        "runs": [run.info.status for run in runs], "models": [str(each.status.value) for each in logged]})
    ballast.unlink(missing_ok=True)
    told[-1]["artifact"] = model.artifact and model.artifact.uri
print(json.dumps(told))
"""


@pytest.mark.slow
def test_a_rollback_on_a_disk_that_is_read_only(story: Story, workspace: Path) -> None:
    said = commands(workspace, "mount --bind home home; mount -o remount,bind,ro home", "umount home")
    assert_refused(said[0])
    assert_rolled_back(said[1])


def test_a_database_that_another_process_keeps_locked(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "BUSY_SECONDS", 1)
    engine = create_engine(os.environ["REGISTRY_URL"], isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        started = monotonic()
        with pytest.raises(RegistryUnavailable, match="cannot be used: database is locked"):
            story.deploys("rollback", key="r")
        assert monotonic() - started < 10
        assert story.live == 2, "who reads does not wait"
        other.execute(text("ROLLBACK"))
    engine.dispose()
    assert story.deploys("rollback", key="r").model_id == 1


def test_postgresql_is_away_and_comes_back(
    postgres: str, postgres_url: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_URL", postgres_url)
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7)
    story.trained_and_promoted(0.8)
    predictor = Predictor("churn")
    admin = create_engine(postgres.format(database="postgres"), isolation_level="AUTOCOMMIT")
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        started = monotonic()
        for ask in (lambda: story.deploys("rollback", key="r"), predictor.refresh, lambda: Predictor("churn")):
            with pytest.raises(RegistryUnavailable, match="cannot be used: ") as caught:
                ask()
            assert "\n" not in str(caught.value)
        assert monotonic() - started < 20
        assert predictor.predict([[1.0]]).tolist() == [0]
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    admin.dispose()
    assert story.deploys("rollback", key="r").model_id == 1
    assert predictor.refresh().id == 1


def commands(folder: Path, fault: str, mend: str) -> list[subprocess.CompletedProcess[str]]:
    """A rollback during the fault and the same after it, each as it ended."""
    frontrunner = Path(sys.executable).parent / "frontrunner"

    def one(number: int, command: str) -> str:
        return f"{frontrunner} {command} > {number}.out 2> {number}.err; echo $? > {number}.code\n"

    script = fault + "\n" + one(0, "rollback churn") + mend + "\n" + one(1, "rollback churn --json")
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    subprocess.run(with_mounts(script), env=os.environ | away, cwd=folder, check=False, timeout=120)
    return [
        subprocess.CompletedProcess(
            [],
            int((folder / f"{number}.code").read_text()),
            (folder / f"{number}.out").read_text(),
            (folder / f"{number}.err").read_text(),
        )
        for number in range(2)
    ]


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the registry sqlite:///")
    assert done.stderr.count("\n") == 1


def assert_rolled_back(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing came between: what was live is still the one before."""
    assert done.returncode == 0, done
    row = json.loads(done.stdout)
    assert (row["model_id"], row["previous_model_id"], row["changed"]) == (1, 2, True)

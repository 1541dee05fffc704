"""A project goes from one registry and MLflow to another, as one file: all of it, as it was, or nothing."""

import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import chdir
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from registry import Predictor, history, lifecycle, queries, session
from registry import transfer as rows_of
from registry.errors import (
    ArtifactMissing,
    ExportDamaged,
    ExportTooNew,
    FrontrunnerError,
    InvalidInput,
    ProjectExists,
    ProjectImported,
    TrackingUnavailable,
    UnknownProject,
)
from registry.schema import Base, Deployment, Model, Snapshot
from registry.values import Terms
from registry.vocabulary import Task
from tasks.data.predicted import predictions_kept
from tasks.data.snapshots import take_snapshot
from tasks.promotion.automatic import decide, replay
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.tracking import runs as runs_module
from tasks.tracking import store as store_module
from tasks.tracking.alias import mirrored_model_id
from tasks.training.fit import train_one
from tasks.upkeep import archive, transfer
from tasks.upkeep.transfer import export_project, import_project
from tests.support.requests import request
from tests.support.story import Story

pytestmark = pytest.mark.slow

NAME = "../../shop ✓"  # a project's name is never a path
TERMS = Terms(confidence=0.95)


def rows(count: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, count))
    return pd.DataFrame(
        {"a": a, "b": b, "shop": draw.choice(["n", "s"], count), "sold": 2 * a + b + draw.normal(size=count) / 5}
    )


def train(frame: pd.DataFrame | None, *algorithms: str, name: str = NAME) -> None:
    """A training, without Prefect; without rows it is on those of the newest snapshot."""
    if frame is not None:
        Path("data").mkdir(exist_ok=True)
        frame.to_parquet("data/rows.parquet")
    asked = request(
        Task.REGRESSION,
        project_name=name,
        relation_name="files:rows.parquet",
        y_column_names=("sold",),
        algorithms=algorithms,
        hyperparams={algorithm: {} for algorithm in algorithms},
        snapshot=None if frame is not None else queries.newest_snapshot(name),
        terms=TERMS,
    )
    training = take_snapshot.fn(asked, uuid4().hex)
    with runs_module.training_run(training.run), predictions_kept():
        models = [queries.model(train_one(training, algorithm, 1).model_id) for algorithm in algorithms]
        decide(name, Task.REGRESSION, models, TERMS, training.key)


def rolled_back(name: str = NAME, **how: Any) -> None:
    deploy(checked_deploy(name, "rollback", **how), uuid4().hex)


class Facts(NamedTuple):
    """What must be the same everywhere: everything but ids."""

    deployments: list[tuple]
    models: list[tuple]
    decisions: list[tuple]
    answers: list[float]

    @classmethod
    def of(cls, name: str) -> "Facts":
        place = {model.id: number for number, model in enumerate(sorted(queries.models(name), key=lambda it: it.id))}
        deployments = [astuple(replace(row, model_id=place[row.model_id])) for row in queries.history(name)]
        models = [
            (place[it.id], it.algorithm, it.hyperparams, it.status, it.score, it.metrics, it.reason, it.created_at,
             it.quarantine, it.artifact and (it.artifact.sha256, it.artifact.bytes), queries.golden(it.id))
            for it in queries.models(name)
        ]  # fmt: skip
        decisions = [
            (place[it.challenger_id], it.terms, it.deployed, it.reason, it.decided_by, it.code_version, it.decided_at,
             it.seed, it.evidence.interval, it.evidence.live_score, [place[i] for i in it.evidence.candidate_ids])
            for it in queries.decisions(name)
        ]  # fmt: skip
        with Predictor(name) as predictor:
            answers = predictor.predict(rows(50, 9).drop(columns="sold")).tolist()
        return cls(deployments, models, decisions, answers)


class Export(NamedTuple):
    file: Path
    facts: Facts


@pytest.fixture(scope="module")
def export(made_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A project with a past, on SQLite, exported once."""
    folder = tmp_path_factory.mktemp("past")
    shutil.copytree(made_mlflow_store, folder / ".frontrunner")
    with chdir(folder):
        Story("other").trained(0.5)  # so that ids differ
        train(rows(300, 0), "knn")
        train(rows(300, 1), "linear", "knn")
        train(None, "knn")
        failed = lifecycle.start_model(queries.newest_snapshot(NAME), "svm", {"C": 10.0}, uuid4().hex)
        lifecycle.fail_model(failed.id, "it could not be fitted", None)
        rolled_back(reason="a customer called", quarantine=True)
        history.release(max(it.id for it in queries.models(NAME) if it.quarantine), by="the night shift")
        export_project(NAME, folder / "shop.zip")
        facts = Facts.of(NAME)
        session.close()
    assert len(facts.deployments) == 3
    return Export(folder / "shop.zip", facts)


@pytest.fixture
def elsewhere(registry_url: str, mlflow_store: Path) -> str:
    """Another registry, on each database in turn, where other projects are, and another MLflow."""
    for score in (0.1, 0.2):
        Story("churn").trained_and_promoted(score)
    return registry_url


def in_it() -> dict[str, int]:
    """How many rows each table has."""
    with session.transaction(write=True) as opened:
        return {name: opened.scalar(select(func.count()).select_from(it)) for name, it in Base.metadata.tables.items()}


def deployed_algorithms(name: str) -> list[str]:
    """As the deployments themselves say, the newest first."""
    of_project = Deployment.project_id == queries.project(name).id
    with session.transaction() as opened:
        return list(opened.scalars(select(Deployment.algorithm).where(of_project).order_by(Deployment.seq.desc())))


class TestElsewhere:
    def test_everything_is_as_it_was_but_the_ids(
        self, export: Export, elsewhere: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = import_project(export.file)
        assert Facts.of(NAME) == export.facts
        assert done.live_model_id == queries.live_model(NAME).id
        assert done.mirrored
        assert mirrored_model_id(queries.project(NAME).id) == done.live_model_id
        assert queries.live_model("churn").score == 0.2
        # … and back, or on: the next export says the same.
        again = export_project(NAME, workspace / "again.zip")
        assert (again.models, again.snapshots, again.deployments) == (5, 2, len(export.facts.deployments))
        monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{workspace / 'third.db'}")
        import_project(workspace / "again.zip", "shop")
        assert Facts.of("shop") == export.facts

    def test_life_goes_on(self, export: Export, elsewhere: str) -> None:
        import_project(export.file, "shop")
        assert any(decision.evidence.interval for decision in queries.decisions("shop")), "no random number is compared"
        for decision in queries.decisions("shop"):
            with predictions_kept():
                assert replay(decision.id).differences == ()
        before = queries.live_model("shop")
        rolled_back("shop")
        assert queries.live_model("shop").id != before.id
        rolled_back("shop", steps=1)
        assert queries.live_model("shop") == before
        assert mirrored_model_id(queries.project("shop").id) == before.id
        train(rows(300, 2), "linear", name="shop")
        newest = queries.decisions("shop")[0]
        assert newest.evidence.live_model_id == before.id
        assert newest.evidence.live_score is not None, newest.reason

    @pytest.mark.parametrize("said", [..., "of another model"])
    def test_a_deployment_is_of_its_models_algorithm_whatever_the_file_says(
        self, export: Export, elsewhere: str, said: Any
    ) -> None:
        """Before version 0003 it said nothing."""
        import_project(rewritten(export, "deployments", {"algorithm": said}), "shop")
        assert deployed_algorithms("shop") == [it.algorithm_name for it in queries.history("shop")]

    def test_a_project_comes_once(self, export: Export, elsewhere: str) -> None:
        with pytest.raises(ProjectExists, match="there is a project 'churn' already.* --as NEW-NAME"):
            import_project(export.file, "churn")
        import_project(export.file, "shop")
        there = in_it()
        for name in ("shop", "another"):
            with pytest.raises(ProjectImported, match="is here already, as 'shop'"):
                import_project(export.file, name)
        assert in_it() == there

    def test_what_has_no_file_any_more(self, elsewhere: str, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
        """Its row goes without it, and forgets where the file was: it is another store's."""
        story = Story("old")
        failed = story.failed()
        with session.transaction(write=True) as opened:
            opened.get_one(Snapshot, story.snapshot.id).artifact_uri = ""
            opened.get_one(Snapshot, story.snapshot.id).hashes_uri = ""
            opened.get_one(Model, failed).artifact_uri = "file:///somewhere/else/model.skops"
        assert export_project("old", Path("old.zip")).files == 0
        monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{workspace / 'third.db'}")
        assert import_project(Path("old.zip")).models == 1
        with session.transaction() as opened:
            assert opened.scalars(select(Model.artifact_uri)).all() == [None]
            assert opened.scalars(select(Snapshot.artifact_uri)).all() == [""]


class TestTheFile:
    def test_a_large_one_tells_how_far_it_is(
        self, export: Export, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(transfer, "PROGRESS_SECONDS", -1)
        with caplog.at_level("INFO", "frontrunner"):
            import_project(export.file)
            export_project(NAME, Path("shop.zip"))
        assert {line.split()[0] for line in caplog.messages} >= {"verified", "sent", "written"}

    def test_it_is_the_same_file_every_time_and_only_its_owners(self, export: Export, mlflow_store: Path) -> None:
        import_project(export.file)
        for name in ("one.zip", "two.zip"):
            export_project(NAME, Path(name))
        assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()
        assert Path("one.zip").stat().st_mode & 0o777 == 0o600

    def test_what_it_replaces_stays_until_it_is_whole(self, workspace: Path) -> None:
        Story()
        Path("churn.zip").write_text("the export of yesterday")
        with pytest.raises(ArtifactMissing, match="nowhere"):
            export_project("churn", Path("churn.zip"))
        assert Path("churn.zip").read_text() == "the export of yesterday"
        assert [path.name for path in Path().glob("*.zip")] == ["churn.zip"]
        assert not list(Path().glob(".frontrunner-*"))

    @pytest.mark.parametrize("output", ["nowhere/churn.zip", "."])
    def test_where_nothing_can_be_written(self, workspace: Path, output: str) -> None:
        Story()
        with pytest.raises((InvalidInput, ArtifactMissing)):
            export_project("churn", Path(output))
        with pytest.raises(UnknownProject):
            export_project("nobody", Path("nobody.zip"))
        assert not Path("nobody.zip").exists()

    def test_as_commands(self, export: Export, mlflow_store: Path) -> None:
        from typer.testing import CliRunner

        from flows.cli.main import app

        def frontrunner(*words: str) -> dict[str, Any]:
            done = CliRunner().invoke(app, [*words, "--json"])
            assert done.exit_code == 0, done.output
            return json.loads(done.stdout)

        imported = frontrunner("import", str(export.file), "--as", "shop")
        assert (imported["project_name"], imported["models"], imported["mirrored"]) == ("shop", 5, True)
        exported = frontrunner("export", "shop", "--output", "shop.zip")
        assert exported == {
            "project_name": "shop",
            "output": "shop.zip",
            "snapshots": 2,
            "models": 5,
            "deployments": imported["deployments"],
            "files": 8,
            "bytes": Path("shop.zip").stat().st_size,
        }
        for command in ("export", "import"):
            assert f"frontrunner {command} digits" in CliRunner().invoke(app, [command, "--help"]).output


class TestOneMoment:
    def test_what_is_deployed_meanwhile_is_in_it_with_all_that_it_needs_or_not_at_all(
        self, story: Story, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = story.trained_and_promoted(0.5)
        with rows_of.read_project(story.project) as read:
            assert len(list(read("projects"))) == 1
            story.trained_and_promoted(0.9)
            assert [row["id"] for row in read("models")] == [first]
            assert [row["model_id"] for row in read("deployments")] == [first]
            assert len(list(read("decisions"))) == 1
        with rows_of.read_project(story.project) as read:
            assert len(list(read("deployments"))) == 2


def nothing_came(store: Path) -> bool:
    """Neither a row nor a run of MLflow's."""
    runs = store_module.client().search_runs([it.experiment_id for it in store_module.client().search_experiments()])
    return not any(in_it().values()) and not runs and not (store / "artifacts").exists()


Entries = dict[str, bytes]


def entries_of(file: Path) -> Entries:
    with zipfile.ZipFile(file) as source:
        return {name: source.read(name) for name in source.namelist()}


def written(entries: Entries) -> Path:
    """What an enemy would write: a zip that is whole."""
    with zipfile.ZipFile("enemy.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in entries.items():
            out.writestr(name, content)
    return Path("enemy.zip")


def rewritten(export: Export, table: str, change: dict[str, Any]) -> Path:
    """An export with other values in a table's rows (`...`: none)."""
    entries = entries_of(export.file)
    rows_there = [json.loads(line) | change for line in entries[f"{table}.jsonl"].splitlines()]
    lines = [json.dumps({name: value for name, value in row.items() if value is not ...}) for row in rows_there]
    return written(entries | {f"{table}.jsonl": "\n".join(lines).encode()})


def with_manifest(file: Path, **said: Any) -> Path:
    """An export with other values in its manifest."""
    entries = entries_of(file)
    return written(entries | {"manifest.json": json.dumps(json.loads(entries["manifest.json"]) | said).encode()})


def with_declared_size(file: Path, name: str, declared: int) -> Path:
    """An export whose directory understates the size of an entry: what it unpacks to is hidden."""
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as source:
        size = source.getinfo(name).file_size
    place = data.rindex(name.encode()) - 46  # the entry of the central directory
    assert data[place : place + 4] == b"PK\x01\x02"
    assert int.from_bytes(data[place + 24 : place + 28], "little") == size
    data[place + 24 : place + 28] = declared.to_bytes(4, "little")
    Path("lying.zip").write_bytes(data)
    return Path("lying.zip")


class TestOnlyWhatWasWritten:
    """Whatever is wrong with a file is said in one line, before anything is written."""

    @pytest.fixture(autouse=True)
    def store(self, mlflow_store: Path) -> Path:
        return mlflow_store

    def refused(self, path: Path, said: str, store: Path, error: type[FrontrunnerError] = ExportDamaged) -> None:
        with pytest.raises(error, match=said) as caught:
            import_project(path)
        assert "\n" not in str(caught.value)
        assert nothing_came(store)

    @pytest.mark.parametrize("length", [0, 1, 1000, -1, -100])
    def test_a_truncated_file(self, export: Export, store: Path, length: int) -> None:
        Path("cut.zip").write_bytes(export.file.read_bytes()[:length])
        self.refused(Path("cut.zip"), r"cut.zip cannot be imported: ", store)

    def test_what_is_no_file_or_no_export(self, store: Path) -> None:
        self.refused(Path("nowhere.zip"), "there is no file nowhere.zip", store, InvalidInput)
        with zipfile.ZipFile("other.zip", "w") as other:
            other.writestr("holiday.txt", "sun")
        self.refused(Path("other.zip"), "manifest.json cannot be read", store)

    def test_a_newer_one(self, export: Export, store: Path) -> None:
        self.refused(with_manifest(export.file, format=3), "format 3, this is 2.*upgrade this one", store, ExportTooNew)
        self.refused(with_manifest(export.file, revision="9999"), "registry 9999, this is", store, ExportTooNew)

    def test_a_file_that_is_another(self, export: Export, store: Path) -> None:
        entries = entries_of(export.file)
        name = next(name for name in entries if name.startswith("files/"))
        other = bytes(len(entries[name]))
        self.refused(written(entries | {name: other}), f"{name} is not the file of that SHA-256", store)

    @pytest.mark.parametrize(
        "name", ["../../evil", "/tmp/evil", "files/../../evil", "files/x", "C:\\evil", "evil.jsonl"]
    )
    def test_a_name_that_leads_elsewhere(self, export: Export, store: Path, name: str) -> None:
        self.refused(
            written(entries_of(export.file) | {name: b"evil"}), "it has an entry '.*', which no export has", store
        )
        assert not list(Path("..").glob("evil*"))

    def test_more_than_the_directory_says(self, export: Export, store: Path) -> None:
        name = f"files/{'0' * 64}"
        path = written(entries_of(export.file) | {name: bytes(50_000_000)})
        assert path.stat().st_size < 1_000_000
        self.refused(with_declared_size(path, name, 1000), f"{name} cannot be read: Bad CRC-32", store)

    def test_a_bomb_whose_directory_is_honest(
        self, export: Export, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "HARMLESS_BYTES", 10_000_000)
        path = written(entries_of(export.file) | {f"files/{'0' * 64}": bytes(50_000_000)})
        self.refused(path, "it would unpack to more than 100 times its size", store)

    def test_a_manifest_without_end(self, export: Export, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "MANIFEST_BYTES", 1000)
        self.refused(with_manifest(export.file, more="x" * 1000), "its manifest has more than 1,000 bytes", store)

    @pytest.mark.parametrize("missing", ["files/", "models.jsonl", "projects.jsonl"])
    def test_an_entry_is_missing(self, export: Export, store: Path, missing: str) -> None:
        entries = entries_of(export.file)
        less = written({name: content for name, content in entries.items() if not name.startswith(missing)})
        reason = "it lacks a file of row 2 of snapshots" if missing == "files/" else f"{missing} cannot be read"
        self.refused(less, reason, store)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        flips=st.lists(
            st.tuples(st.integers(-4000, -1) | st.integers(0, 2**31), st.integers(1, 255)), min_size=0, max_size=3
        ),
        cut=st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2**31)),
    )
    def test_random_damage_is_an_error_or_does_no_harm(
        self,
        export: Export,
        store: Path,
        monkeypatch: pytest.MonkeyPatch,
        flips: list[tuple[int, int]],
        cut: int | None,
    ) -> None:
        data = bytearray(export.file.read_bytes())
        for place, bits in flips:
            data[place % len(data)] ^= bits
        Path("damaged.zip").write_bytes(data if cut is None else data[: cut % len(data)])
        try:
            import_project(Path("damaged.zip"), NAME)
        except FrontrunnerError:
            assert not any(in_it().values())
        else:
            assert Facts.of(NAME) == export.facts
            monkeypatch.setenv("REGISTRY_URL", f"sqlite:///{Path(f'{uuid4().hex}.db').absolute()}")


def test_an_export_of_format_1_is_imported(export: Export, mlflow_store: Path) -> None:
    """Its manifest has a digest of every entry, which nobody needs."""
    entries = entries_of(export.file)
    digests = {name: {"sha256": "0" * 64, "bytes": len(content)} for name, content in entries.items()}
    import_project(with_manifest(export.file, format=1, entries=digests), NAME)
    assert Facts.of(NAME) == export.facts


class TestAllOrNothing:
    def test_rows_that_a_constraint_refuses(self, export: Export, elsewhere: str) -> None:
        there = in_it()
        with pytest.raises(FrontrunnerError, match="the registry refused the row"):
            import_project(rewritten(export, "deployments", {"seq": -1}), "shop")
        assert in_it() == there
        [run] = runs_of("shop", "tags.`mlflow.parentRunId` IS NULL")
        assert run.info.status == "FAILED"

    @pytest.mark.parametrize(
        ("table", "change"),
        [
            ("models", {"more": 1}),
            ("models", {"snapshot_id": 999}),
            ("models", {"algorithm": 7}),
            ("models", {"status": "perfect"}),
            ("decisions", {"candidate_ids": [999]}),
            ("deployments", {"deployed_at": "yesterday"}),
        ],
    )
    def test_rows_of_another_form(self, export: Export, mlflow_store: Path, table: str, change: dict[str, Any]) -> None:
        path = rewritten(export, table, change)
        with pytest.raises(ExportDamaged, match=rf"enemy.zip cannot be imported: .*{table}"):
            import_project(path, "shop")
        assert not any(in_it().values())

    def test_a_store_that_takes_nothing(self, export: Export, mlflow_store: Path) -> None:
        (mlflow_store / "artifacts").write_text("this is no folder")
        with pytest.raises(TrackingUnavailable):
            import_project(export.file, "shop")
        assert not any(in_it().values())
        assert {run.info.status for run in runs_of("shop")} == {"FAILED"}

    @pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)  # a process takes seconds to start
    def test_a_process_that_is_killed_before_the_end(self, export: Export, elsewhere: str) -> None:
        there = in_it()
        session.close()
        code = (
            "import os, sys; from pathlib import Path\n"
            "from sqlalchemy import event; from sqlalchemy.orm import Session\n"
            "from tasks.upkeep.transfer import import_project\n"
            "@event.listens_for(Session, 'before_commit')\n"
            "def end(opened): opened.info.get('wrote') and os.kill(os.getpid(), 9)\n"
            "@event.listens_for(Session, 'do_orm_execute')\n"
            "def wrote(state): state.session.info.update(wrote=state.is_insert)\n"
            "import_project(Path(sys.argv[1]), 'shop')"
        )
        killed = subprocess.run([sys.executable, "-c", code, str(export.file)], check=False, capture_output=True)
        assert killed.returncode == -9, killed.stderr
        assert in_it() == there
        import_project(export.file, "shop")
        assert Facts.of("shop") == export.facts


def runs_of(project_name: str, which: str = "") -> list[Any]:
    store = store_module.client()
    experiment = store.get_experiment_by_name(f"frontrunner/{project_name}")
    return list(store.search_runs([experiment.experiment_id], which))

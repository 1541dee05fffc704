"""Predictions from the live model: every form of rows, what is refused, deploys meanwhile, faults."""

import gc
import json
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.dummy import DummyClassifier

from flows.deploy import rollback
from flows.train import train
from registry import Predictor, history, queries
from registry.choices import DeployRequest
from registry.errors import (
    ArtifactChanged,
    ArtifactMissing,
    ArtifactUnusable,
    BadRows,
    InvalidInput,
    MissingColumns,
    NoProbabilities,
    NothingDeployed,
    RegistryUnavailable,
    UnknownProject,
)
from registry.serving.artifacts import describe, load_pipeline
from registry.serving.served_pipeline import ServedPipeline
from registry.vocabulary import Strategy
from tests.support.story import Story

FEATURES = ["number", "color", "flag", "day"]


def stones(n: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame({
        "number": np.where(draw.random(n) < 0.1, np.nan, draw.normal(size=n)),
        "color": pd.Series(draw.choice(["red", "green"], n), dtype="str"),
        "flag": draw.random(n) < 0.5,
        "day": pd.date_range("2026-01-01", periods=n),
        "kind": draw.choice(["gem", "pebble"], n),
    })  # fmt: skip


@pytest.fixture
def predictor(prefect: str, mlflow_store: Path, workspace: Path) -> Predictor:
    (workspace / "data").mkdir()
    stones().to_parquet(workspace / "data" / "stones.parquet")
    train("stones", "classification", "files:stones.parquet", "kind", algorithms=["random_forest"])
    return Predictor("stones")


def deploy(project: str, algorithm: str) -> None:
    history.deploy(
        DeployRequest(project, Strategy.MOST_RECENT, algorithm), request_key=str(monotonic()), deployed_by="a test"
    )


def until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = monotonic() + seconds
    while not done():
        assert monotonic() < end, "it never came"
        sleep(0.01)


@pytest.mark.slow
class TestRows:
    def expected(self, predictor: Predictor, rows: pd.DataFrame) -> np.ndarray:
        return load_pipeline(predictor.model.artifact).predict_proba(rows[FEATURES].astype({"flag": "int8"}))

    FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
        "a frame": lambda rows: rows,
        "55 other order": lambda rows: rows[FEATURES[::-1]],
        "57 more columns": lambda rows: rows.assign(more=[[1]] * len(rows)),
        "columns": lambda rows: {name: rows[name].tolist() for name in FEATURES},
        "records": lambda rows: rows.to_dict("records"),
        "56 an array in training order": lambda rows: rows[FEATURES].to_numpy(dtype=object),
        "lists": lambda rows: rows[FEATURES].to_numpy(dtype=object).tolist(),
        "JSON": lambda rows: json.loads(rows.to_json(orient="records", date_format="iso")),
        "types that pandas converts to": lambda rows: rows.convert_dtypes(),
        "other numbers": lambda rows: rows.assign(flag=rows.flag.astype(float)),
        "categories": lambda rows: rows.assign(color=rows.color.astype("category")),
        "an index of its own": lambda rows: rows.set_axis([f"row {n}" for n in range(len(rows))]),
        "coarser dates": lambda rows: rows.assign(day=rows.day.astype("datetime64[s]")),
    }

    def test_every_form_of_the_same_rows_has_the_same_answers(self, predictor: Predictor) -> None:
        rows = stones()
        expected = self.expected(predictor, rows)
        for what, form in self.FORMS.items():
            assert np.array_equal(predictor.predict_proba(form(rows)), expected), what
        labels = predictor.predict(rows)
        assert np.array_equal(labels, predictor.classes[expected.argmax(axis=1)])
        assert set(labels) == {"gem", "pebble"}

    def test_what_training_never_saw(self, predictor: Predictor) -> None:
        rows = stones(4).assign(color=["blue", "", None, "été"], number=None)
        assert predictor.predict_proba(rows).shape == (4, 2)

    def test_no_rows(self, predictor: Predictor) -> None:
        for rows in (stones().head(0), [], {name: [] for name in FEATURES}, np.empty((0, 4))):
            assert predictor.predict(rows).tolist() == []
            assert predictor.predict(rows).dtype == predictor.classes.dtype
            assert predictor.predict_proba(rows).shape == (0, 2)

    REFUSED: dict[str, tuple[Callable[[pd.DataFrame], Any], type[Exception], str]] = {
        "54 a missing column": (lambda rows: rows.drop(columns="color"), MissingColumns, "lack 'color'.*they have"),
        "54 a record without one": (lambda rows: [*rows.to_dict("records"), {"number": 1}], MissingColumns, "'color'"),
        "56 another width": (lambda rows: np.ones((2, 3)), BadRows, "need 4 values each.*number, color.*these have 3"),
        "56 rows of unequal width": (lambda rows: [[1, "red", 0], [1]], BadRows, "these have 1 or 3"),
        "56 one row without brackets": (lambda rows: [1, 2, 3, 4], BadRows, "these have no"),
        "59 text for a number": (lambda rows: rows.assign(number="7"), BadRows, "'number' was numbers.*have '7'"),
        "59 a number for text": (lambda rows: rows.assign(color=7), BadRows, "'color' was text.*have '7'"),
        "59 a number for a date": (lambda rows: rows.assign(day=7), BadRows, "'day' was dates.*have '7'"),
        "59 no date": (lambda rows: rows.assign(day="soon"), BadRows, "'day' cannot be read as dates"),
        "59 a time zone": (lambda rows: rows.assign(day=rows.day.dt.tz_localize("UTC")), BadRows, "without a time"),
        "59 lists": (lambda rows: rows.assign(number=[[1]] * len(rows)), BadRows, "'number'"),
        "59 complex numbers": (lambda rows: rows.assign(number=1j), BadRows, "'number' was numbers"),
        "infinity": (lambda rows: rows.assign(number=np.inf), BadRows, "'number' has values that are infinite"),
        "beyond float32": (lambda rows: rows.assign(number=1e39), BadRows, "beyond 3.4e38"),
        "columns of unequal length": (lambda rows: {"number": [1], "color": []}, BadRows, "do not make a table"),
        "columns that are values": (lambda rows: dict.fromkeys(FEATURES, 1), BadRows, "do not make a table"),
        "two columns of one name": (lambda rows: rows[[*FEATURES, "color"]], BadRows, "two columns named 'color'"),
        "names and none": (lambda rows: [{"number": 1}, [1]], BadRows, "some rows have names"),
        "one text": (lambda rows: "rows.csv", BadRows, "not a str"),
        "nothing": (lambda rows: None, BadRows, "not a NoneType"),
    }  # fmt: skip

    def test_what_is_refused_names_the_column(self, predictor: Predictor) -> None:
        for what, (form, error, said) in self.REFUSED.items():
            for ask in (predictor.predict, predictor.predict_proba):
                with pytest.raises(error, match=said) as caught:
                    ask(form(stones(3)))
                assert "\n" not in str(caught.value), what

    def test_gaps_that_training_called_an_error(self, predictor: Predictor) -> None:
        filled = stones().fillna({"number": 0})
        filled.to_parquet("data/filled.parquet")
        train(
            "filled",
            "classification",
            "files:filled.parquet",
            "kind",
            ["linear"],
            preprocess={"number": {"impute": "error"}},
        )
        assert len(Predictor("filled").predict(filled)) == 60
        with pytest.raises(BadRows, match="'number' has missing values"):
            Predictor("filled").predict(stones())

    def test_joint_targets_and_a_regression_has_no_probabilities(self, prefect: str, mlflow_store: Path) -> None:
        train("body", "regression", "sklearn:linnerud", ["Weight", "Waist"], algorithms=["linear"])
        predictor = Predictor("body")
        rows = {"Chins": [5, 6], "Situps": [100, 120], "Jumps": [40, 50], "Pulse": [50, 60]}
        assert predictor.predict(rows).shape == (2, 2)
        assert predictor.model.y_column_names == ("Weight", "Waist")
        assert predictor.predict({name: [] for name in rows}).shape == (0, 2)
        with pytest.raises(NoProbabilities, match="is a regression"):
            predictor.predict_proba(rows)

    def test_an_estimator_without_probabilities(self, predictor: Predictor) -> None:
        train("stones", algorithms=["linear_svm"])
        deploy("stones", "linear_svm")
        with pytest.raises(NoProbabilities, match="linear_svm .* gives labels"):
            Predictor("stones").predict_proba(stones())


class TestProjects:
    def test_an_unknown_project_and_no_deployment_are_two_errors(self, story: Story) -> None:
        with pytest.raises(UnknownProject, match="there is no project 'chrun'; there are 'churn'"):
            Predictor("chrun")
        story.trained(0.5)
        with pytest.raises(NothingDeployed, match="'churn' has no live model yet"):
            Predictor("churn")

    @pytest.mark.parametrize("seconds", [0, -1, True, "1", float("nan")])
    def test_refresh_seconds(self, seconds: Any, story: Story) -> None:
        with pytest.raises(InvalidInput, match="refresh_seconds"):
            Predictor("churn", refresh_seconds=seconds)

    def test_a_file_that_is_gone_or_another(self, story: Story) -> None:
        story.trained_and_promoted(0.5)
        with pytest.raises(ArtifactMissing, match="cannot be read"):
            Predictor("churn")


@pytest.mark.slow
class TestDeploysMeanwhile:
    @pytest.fixture
    def project(self, prefect: str, mlflow_store: Path) -> str:
        """Two models that answer differently; ridge is live."""
        train("iris", "classification", "sklearn:iris", "target", algorithms=["linear", "ridge"])
        deploy("iris", "linear")
        deploy("iris", "ridge")
        return "iris"

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(queries.newest_snapshot("iris").artifact.uri.removeprefix("file://")).drop(
            columns="target"
        )

    def test_a_session_keeps_its_model_until_it_refreshes(self, project: str) -> None:
        with Predictor(project) as pinned:
            before, first = pinned.predict(self.rows()), pinned.model
            rollback(project)
            assert (pinned.predict(self.rows()) == before).all()
            assert pinned.model == first
            after = pinned.refresh()
            assert (after.algorithm, after.seq) == ("linear", first.seq + 1)
            assert not (pinned.predict(self.rows()) == before).all()

    def test_a_refreshing_one_follows_within_its_bound(self, project: str) -> None:
        with Predictor(project, refresh_seconds=0.05) as following:
            assert following.model.algorithm == "ridge"
            rollback(project)
            until(lambda: following.model.algorithm == "linear", 2)

    def test_one_that_nobody_has_any_more_asks_no_more(self, project: str) -> None:
        before = threading.active_count()
        predictor = Predictor(project, refresh_seconds=0.05)
        assert threading.active_count() == before + 1
        del predictor
        gc.collect()
        until(lambda: threading.active_count() == before)

    def test_each_answer_is_of_exactly_one_model_while_others_roll_back(self, project: str) -> None:
        rows = self.rows()
        answers = {model.id: load_pipeline(model.artifact).predict(rows).tolist() for model in queries.models(project)}
        assert len(set(map(tuple, answers.values()))) == 2
        stop, seen = threading.Event(), set()

        def ask() -> int:
            asked = 0
            while not stop.is_set():
                model, answer = predictor.answer(rows)
                assert answer.tolist() == answers[model.id]
                seen.add(model.id)
                asked += 1
            return asked

        with Predictor(project, refresh_seconds=0.02) as predictor, ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            try:
                for number in range(20):
                    history.deploy(
                        DeployRequest(project, Strategy.ROLLBACK), request_key=f"r{number}", deployed_by="a test"
                    )
                    sleep(0.05)
            finally:
                stop.set()
            assert all(future.result() > 0 for future in asking)
        assert seen == set(answers)

    def test_faults_meanwhile(
        self, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The registry goes down, then the file of the model that goes live is gone: the old one answers on."""
        linear = next(model for model in queries.models(project) if model.algorithm == "linear")
        with Predictor(project, refresh_seconds=0.02) as predictor, caplog.at_level(logging.WARNING, "frontrunner"):
            before = predictor.predict(self.rows())
            rows = self.rows()
            with monkeypatch.context() as away:
                away.setenv("REGISTRY_URL", "postgresql://127.0.0.1:1/away")
                until(lambda: "keeps answering" in caplog.text)
                assert (predictor.predict(rows) == before).all()
                started = monotonic()
                with pytest.raises(RegistryUnavailable):
                    Predictor(project)
                assert monotonic() - started < 10
            path = Path(linear.artifact.uri.removeprefix("file://"))
            path.rename(path.with_suffix(".away"))
            rollback(project, force=True, reason="it lies elsewhere")
            until(lambda: "cannot be read" in caplog.text)
            assert predictor.model.algorithm == "ridge"
            with pytest.raises(ArtifactMissing):
                predictor.refresh()
            assert (predictor.predict(rows) == before).all()
            path.with_suffix(".away").rename(path)
            until(lambda: predictor.model.algorithm == "linear")
        assert caplog.text.count("cannot be read") == 1


class TestNothingIsExecuted:
    """Whoever can write to the artifact store must not be able to run code here."""

    @pytest.fixture
    def live(self, story: Story, tmp_path: Path) -> Path:
        path = tmp_path / "model.skops"
        skops.io.dump(DummyClassifier().fit([[0], [1]], [0, 1]), path)
        story.finish(story.started().id, 0.5, describe(path, path.as_uri()))
        story.deploys("most_recent")
        return path

    @pytest.mark.parametrize("what", ["a pickle", "a flipped bit", "half of it", "another model"])
    def test_a_file_that_was_swapped_is_not_opened(self, live: Path, what: str, tmp_path: Path) -> None:
        trap = tmp_path / "trapped"
        swapped = {
            "a pickle": pickle.dumps(_Touch(trap)),
            "a flipped bit": bytes([live.read_bytes()[0] ^ 1]) + live.read_bytes()[1:],
            "half of it": live.read_bytes()[: len(live.read_bytes()) // 2],
            "another model": skops.io.dumps(DummyClassifier(strategy="uniform").fit([[0], [1]], [0, 1])),
        }
        live.write_bytes(swapped[what])
        with pytest.raises(ArtifactChanged, match="is not the file that was recorded"):
            Predictor("churn")
        assert not trap.exists()

    def test_a_file_of_types_that_are_not_ours_to_trust_is_not_loaded_even_when_it_is_recorded(
        self, story: Story, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.skops"
        skops.io.dump(_Touch(tmp_path / "trapped"), path)
        with pytest.raises(ArtifactUnusable, match="_Touch"):
            load_pipeline(describe(path, path.as_uri()))
        assert not (tmp_path / "trapped").exists()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_an_application_needs_neither_prefect_nor_mlflow_nor_the_tasks(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(DummyClassifier().fit([[0], [1]], ["no", "no"]), path)
    story.finish(story.started().id, 0.5, describe(path, path.as_uri()))
    story.deploys("most_recent")
    code = (
        "import sys; from registry import Predictor; print(Predictor('churn').predict([[0.5]]).tolist());"
        "print({'prefect', 'mlflow', 'tasks'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stderr


@pytest.mark.slow
class TestSeveralRequestsAtOnce:
    def test_each_has_the_answers_that_it_has_alone(self, predictor: Predictor) -> None:
        tables = [stones().head(3), stones().tail(2).to_dict("records"), stones().iloc[40:41]]
        model, found = predictor.answer_all(tables)
        assert model == predictor.model
        assert [each.tolist() for each in found] == [predictor.predict(table).tolist() for table in tables]

    def test_a_wrong_one_is_wrong_alone(self, predictor: Predictor) -> None:
        good, bad = stones().head(3), stones().head(3).drop(columns="flag")
        _, found = predictor.answer_all([good, bad, good, stones().head(0)])
        assert isinstance(found[1], MissingColumns)
        assert found[0].tolist() == found[2].tolist() == predictor.predict(good).tolist()
        assert found[3].tolist() == []

    def test_what_the_model_cannot_take_does_not_harm_the_others(self, predictor: Predictor) -> None:
        loaded = predictor._loaded
        good, odd = stones().head(2), stones().head(2).assign(number=1e6)
        expected = predictor.predict(good).tolist()
        predictor._loaded = replace(
            loaded, served=ServedPipeline(Choosy(loaded.served.pipeline), loaded.served.features)
        )
        _, found = predictor.answer_all([good, odd])
        assert found[0].tolist() == expected
        assert isinstance(found[1], ValueError)


def test_requests_with_gaps_and_without_are_answered_together_each_in_its_turn(
    prefect: str, mlflow_store: Path, workspace: Path
) -> None:
    """They are asked for by two calls: of the model alone, and of the whole pipeline."""
    (workspace / "data").mkdir()
    draw = np.random.default_rng(0).normal(size=(60, 3))
    pd.DataFrame(draw, columns=["a", "b", "y"]).to_parquet(workspace / "data" / "plain.parquet")
    train("plain", "regression", "files:plain.parquet", "y", algorithms=["linear"])
    predictor = Predictor("plain")
    whole, gap, wrong = [{"a": 1, "b": 2.5}], [{"a": None, "b": 2}, {"a": 3.5, "b": 2}], [{"a": 1}]
    requests = [gap, whole, wrong, [[7, 8]], whole, [], gap]
    _, found = predictor.answer_all(requests)
    assert isinstance(found[2], MissingColumns)
    alone = [predictor.predict(rows) for rows in requests if rows is not wrong]
    assert [np.allclose(ours, its, rtol=1e-12) for ours, its in zip(found[:2] + found[3:], alone, strict=True)] == [
        True
    ] * 6
    pipeline = load_pipeline(predictor.model.artifact)
    assert np.array_equal(predictor.predict(whole), pipeline.predict(pd.DataFrame({"a": [1.0], "b": [2.5]})))


class Choosy:
    """A model that does not take large numbers."""

    def __init__(self, pipeline):
        self.pipeline, self.classes_ = pipeline, pipeline.classes_

    def predict(self, X):
        if (X["number"] > 1000).any():
            raise ValueError("too large")
        return self.pipeline.predict(X)

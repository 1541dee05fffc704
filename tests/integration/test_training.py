"""A training as it is run: a real Prefect server, a real MLflow store, every candidate recorded in all three."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from flows.deploy import deploy, rollback
from flows.train import train
from registry import Predictor, history, queries, settings
from registry.choices import DeployRequest
from registry.errors import (
    AllCandidatesFailed,
    ArtifactMissing,
    BadData,
    BadHyperparameter,
    InvalidInput,
    TrackingUnavailable,
    UnknownRelation,
    UnknownValue,
)
from registry.serving import artifacts
from registry.serving.artifacts import load_pipeline, verified
from registry.vocabulary import Strategy
from tasks.data import snapshots, sources
from tasks.tracking import alias
from tasks.training import fit, threads
from tasks.values import Outcome
from tests.support import planted
from tests.support.mlflow_server import mlflow_server
from tests.support.processes import answers, free_port, running

pytestmark = pytest.mark.slow

IRIS = {"task": "classification", "relation_name": "sklearn:iris", "y_column_name": "target"}
IMPOSSIBLE = {"nu_svm": {"nu": 0.999}}  # "specified nu is infeasible" for digits' unequal classes


@pytest.fixture
def client(prefect: str, mlflow_store: Path) -> MlflowClient:
    return MlflowClient(settings.tracking_uri(), settings.tracking_uri())


class TestOneTraining:
    def test_every_candidate_is_on_the_leaderboard_the_best_first(self, client: MlflowClient) -> None:
        result = train("iris", **IRIS, algorithms=["knn", "svm", "random_forest"])
        scores = [row.score for row in result.leaderboard]
        assert scores == sorted(scores, reverse=True)
        assert {row.algorithm for row in result.leaderboard} == {"knn", "svm", "random_forest"}
        assert all(row.status == "trained" and row.metrics["fit_time"] > 0 for row in result.leaderboard)
        assert result.deployed
        assert result.deployed_model_id == result.live_model_id == queries.live_model("iris").id
        assert "first one live" in result.reason

    def test_the_longest_begins_first_and_the_ids_are_in_the_order_asked(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Of equal scores the newest id wins, so it must not depend on which candidate came to be first."""
        asked = ["knn", "linear", "random_forest"]
        monkeypatch.setattr(train.task_runner, "_max_workers", 1)
        with caplog.at_level(logging.INFO, "frontrunner"):
            train("iris", **IRIS, algorithms=asked)
        begun = [message.partition(":")[0] for message in caplog.messages if message.endswith(": training")]
        assert begun == ["random_forest", "knn", "linear"]
        assert [model.algorithm for model in sorted(queries.models("iris"), key=lambda model: model.id)] == asked

    def test_mlflow_has_it_all_below_the_trainings_run(self, client: MlflowClient) -> None:
        result = train("iris", **IRIS, algorithms=["svm", "xgboost"], hyperparams={"svm": {"C": 10}})
        experiment = client.get_experiment_by_name("frontrunner/iris")
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        parent, svm = runs["train iris"], runs["svm"]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert svm.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert svm.data.tags["frontrunner.project"] == "iris"
        assert svm.data.tags["frontrunner.snapshot_id"] == str(result.snapshot_id)
        assert re.fullmatch("[0-9a-f-]{36}", svm.data.tags["prefect.flow_run_id"])
        assert svm.data.params == {"C": "10"}
        assert svm.data.tags["frontrunner.algorithm"] == "svm"
        by_algorithm = {row.algorithm: row for row in result.leaderboard}
        assert svm.data.metrics == by_algorithm["svm"].metrics
        assert svm.inputs.dataset_inputs[0].dataset.name == "sklearn:iris"
        model = queries.model(by_algorithm["xgboost"].model_id)
        logged = client.get_logged_model(model.mlflow_model_id)
        assert logged.status == "READY"
        assert logged.source_run_id == model.mlflow_run_id

    def test_the_model_in_mlflow_says_what_it_needs_and_takes(self, client: MlflowClient) -> None:
        from mlflow.models import Model

        result = train("iris", **IRIS, algorithms=["xgboost"])
        artifact = queries.model(result.deployed_model_id).artifact
        folder = Path(artifact.uri.removeprefix("file://")).parent
        saved = Model.load(folder)
        assert saved.signature.inputs.input_names()[0] == "sepal length (cm)"
        needs = (folder / "requirements.txt").read_text()
        assert all(
            re.search(f"^{name}==", needs, re.MULTILINE) for name in ("scikit-learn", "skops", "xgboost", "mlflow")
        )

    def test_the_saved_pipeline_answers_with_the_original_labels(self, client: MlflowClient, workspace: Path) -> None:
        (workspace / "data").mkdir()
        frame = (
            sources.read("sklearn:iris")
            .to_pandas()
            .assign(kind=lambda it: np.array(["rose", "lily", "iris"])[it.target])
        )
        frame.drop(columns="target").to_csv("data/flowers.csv", index=False)
        for algorithm in ("xgboost", "svm", "lightgbm"):
            result = train("flowers", "classification", "files:flowers.csv", "kind", algorithms=[algorithm])
            model = queries.model(result.leaderboard[0].model_id)
            predicted = load_pipeline(model.artifact).predict(frame.drop(columns=["target", "kind"]))
            assert (predicted == frame["kind"]).mean() > 0.9

    def test_gaps_and_text_work_by_the_defaults(self, client: MlflowClient, workspace: Path) -> None:
        draw = np.random.default_rng(0)
        x = draw.normal(size=300)
        frame = pd.DataFrame({
            "x": np.where(draw.random(300) < 0.2, np.nan, x),
            "colour": draw.choice(["red", "green", None], 300),
            "town": [f"town {n}" for n in draw.integers(0, 40, 300)],
            "price": 3 * x + draw.normal(size=300) / 10,
            "odd [name] <": draw.random(300),
        })  # fmt: skip
        (workspace / "data").mkdir()
        frame.to_parquet("data/prices.parquet")
        algorithms = ["linear", "knn", "random_forest", "hist_gradient_boosting", "xgboost", "svm"]
        result = train("prices", "regression", "files:prices.parquet", "price", algorithms=algorithms)
        assert {row.status for row in result.leaderboard} == {"trained"}
        loaded = load_pipeline(queries.live_model("prices").artifact)
        unseen = frame.assign(town="elsewhere", colour="blue").sample(frac=1, axis="columns", random_state=0)
        assert np.isfinite(loaded.predict(unseen)).all()


class TestASearch:
    def test_the_winner_is_fitted_on_all_training_rows_and_all_trials_are_on_its_run(
        self, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "frontrunner"):
            result = train(
                "iris", **IRIS, algorithms=["svm", "knn"], hyperparams={"svm": {"kernel": "rbf"}}, search="random",
                search_params={"svm": {"C": [0.001, 1, 100], "gamma": ["scale", 0.01]}}, search_args={"n_iter": 4},
            )  # fmt: skip
        rows = {row.algorithm: row for row in result.leaderboard}
        model = queries.model(rows["svm"].model_id)
        assert set(model.hyperparams) == {"kernel", "C", "gamma"}
        fitted = load_pipeline(model.artifact)[-1]
        assert model.hyperparams["C"] == fitted.C
        assert fitted.shape_fit_[0] == 112
        run_id = rows["svm"].mlflow_run_id
        table = json.loads(Path(client.download_artifacts(run_id, "search.json", str(tmp_path))).read_text())
        assert table["columns"] == ["trial", "C", "gamma", "mean", "std", "fit_time", "state"]
        assert len(table["data"]) == 4
        assert client.get_run(run_id).data.params["C"] == str(model.hyperparams["C"])
        plots = {file.path for file in client.list_artifacts(run_id, "plots")}
        assert {"plots/search.png", "plots/confusion_matrix.png"} <= plots
        assert queries.model(rows["knn"].model_id).hyperparams == {}
        assert sum("svm: trial" in message for message in caplog.messages) == 4

    def test_optuna(self, client: MlflowClient) -> None:
        result = train(
            "iris", **IRIS, algorithms=["xgboost"], search="optuna", search_args={"n_trials": 3, "cv": 2},
            search_params={"max_depth": {"low": 1, "high": 4}, "learning_rate": {"low": 0.01, "high": 1, "log": True}},
        )  # fmt: skip
        hyperparams = queries.model(result.live_model_id).hyperparams
        assert 1 <= hyperparams["max_depth"] <= 4
        assert 0.01 <= hyperparams["learning_rate"] <= 1


class TestTheSnapshot:
    def test_training_again_uses_exactly_the_same_rows(self, client: MlflowClient) -> None:
        first = train("iris", **IRIS, algorithms=["svm"])
        again = train("iris", algorithms=["svm"])
        assert again.snapshot_id == first.snapshot_id
        assert again.leaderboard[0].score == first.leaderboard[0].score
        assert "ties with" in again.reason

    def test_it_is_a_verified_file_with_the_training_rows_first(self, client: MlflowClient) -> None:
        result = train("iris", **IRIS, algorithms=["linear"], test_sampling="last", test_size=30)
        snapshot = queries.snapshot(result.snapshot_id)
        assert (snapshot.train_rows, snapshot.test_rows) == (120, 30)
        with verified(snapshot.artifact) as path:
            pd.testing.assert_frame_equal(pd.read_parquet(path), sources.read("sklearn:iris").to_pandas())

    def test_the_scores_are_those_of_a_bare_fit_on_the_same_rows(self, client: MlflowClient) -> None:
        from sklearn.metrics import f1_score
        from sklearn.model_selection import train_test_split

        result = train("iris", **IRIS, algorithms=["linear"], seed=3)
        frame = sources.read("sklearn:iris").to_pandas()
        X, y = frame.drop(columns="target"), frame["target"]
        split = train_test_split(X, y, test_size=0.25, random_state=3, stratify=y)
        bare = LogisticRegression(random_state=3).fit(split[0], split[2])
        assert result.leaderboard[0].score == f1_score(split[3], bare.predict(split[1]), average="macro")


class TestAutomaticDeploy:
    def test_only_an_improvement_goes_live_and_a_rollback_brings_the_first_back(self, client: MlflowClient) -> None:
        first = train("digits", "classification", "sklearn:digits", "target", algorithms=["ada_boost"])
        assert first.deployed
        better = train("digits", algorithms=["svm", "knn"])
        assert better.deployed
        worse = train("digits", algorithms=["ada_boost"])
        assert not worse.deployed
        assert worse.live_model_id == better.deployed_model_id
        assert rollback("digits").model_id == first.deployed_model_id

    def test_off_only_records(self, client: MlflowClient) -> None:
        result = train("iris", **IRIS, algorithms=["svm"], automatic_deploy=False)
        assert not result.deployed
        assert queries.live_model("iris") is None
        assert "automatic_deploy is off" in result.reason
        assert deploy("iris").model_id == result.leaderboard[0].model_id

    def test_the_result_row_of_a_deploy(self, client: MlflowClient) -> None:
        result = train("iris", **IRIS, algorithms=["svm"], automatic_deploy=False)
        model = result.leaderboard[0]
        row = deploy("iris", "best_score", "svm")
        assert (row.project_name, row.strategy, row.algorithm_name, row.seq) == ("iris", "best_score", "svm", 1)
        assert (row.model_id, row.score, row.previous_model_id) == (model.model_id, model.score, None)
        assert (row.changed, row.planned) == (True, False)
        assert [str(entry.strategy) for entry in queries.history("iris")] == ["best_score"]
        assert queries.history("iris")[0].deployed_by.startswith("flow run ")


@pytest.mark.parametrize("name", ["'; DROP TABLE projects; --", "a/b:../..", "prix 💶"])
def test_odd_project_names_work_all_the_way(client: MlflowClient, name: str) -> None:
    result = train(name, **IRIS, algorithms=["svm"])
    assert queries.live_model(name).id == result.deployed_model_id
    assert client.get_model_version_by_alias(alias.registered_name(1), "live")
    assert client.get_experiment_by_name(f"frontrunner/{name}")


def test_a_real_mlflow_server_that_keeps_the_files(
    prefect: str, workspace: Path, made_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a team has it: files go through its artifact proxy."""
    with mlflow_server(workspace, made_mlflow_store) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        first = train("iris", **IRIS, algorithms=["ada_boost"], hyperparams={"ada_boost": {"n_estimators": 1}})
        better = train("iris", algorithms=["svm"])
        assert better.deployed
        rollback("iris")
        model = queries.live_model("iris")
        assert model.id == first.deployed_model_id
        assert model.artifact.uri.startswith("mlflow-artifacts:/")
        assert len(load_pipeline(model.artifact).classes_) == 3
        version = MlflowClient(address, address).get_model_version_by_alias(alias.registered_name(1), "live")
        assert version.tags["frontrunner.model_id"] == str(model.id)
        # Bounded: with room for nothing, only the file that is in use stays.
        cache = workspace / ".frontrunner" / "cache"
        assert len(list(cache.iterdir())) > 1
        (cache / model.artifact.sha256).write_bytes(b"another")
        monkeypatch.setattr(artifacts, "CACHE_BYTES", 0)
        assert Predictor("iris").model.id == model.id
        assert [path.name for path in cache.iterdir()] == [model.artifact.sha256]
    # The store is down: what was fetched is there, what was not is missing in one line and soon.
    assert Predictor("iris").model.id == model.id
    history.deploy(DeployRequest("iris", Strategy.ROLLBACK), request_key="down", deployed_by="a test")
    started = monotonic()
    with pytest.raises(ArtifactMissing, match="cannot be fetched"):
        Predictor("iris")
    assert monotonic() - started < 60
    assert not (workspace / ".frontrunner" / "mlflow.db").exists()


class TestTheCoresAreShared:
    def test_a_candidate_fits_and_is_scored_with_its_share(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An estimator of the test's own looks at the limits; as its type is not trusted, it cannot be saved."""
        monkeypatch.setattr(fit, "train_alone", planted.with_limits)
        monkeypatch.setattr(threads, "cpu_count", lambda: 2)
        with pytest.raises(AllCandidatesFailed, match=r"cannot be saved.*Limits"):
            train("diabetes", "regression", "sklearn:diabetes", "target", algorithms=["lasso", "ridge"])
        for name in ("lasso", "ridge"):  # fit, predict to score, and for the golden rows
            assert json.loads(Path(f"{name}.json").read_text()) == [[[1], [1], 1]] * 3


class TestFailures:
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_one_failing_candidate_is_recorded_and_does_not_sink_the_run(self, client: MlflowClient) -> None:
        result = train(
            "digits", "classification", "sklearn:digits", "target", algorithms=["nu_svm", "knn"], hyperparams=IMPOSSIBLE
        )
        knn, failed = result.leaderboard
        assert (knn.algorithm, knn.status) == ("knn", "trained")
        assert result.deployed_model_id == knn.model_id
        assert (failed.status, failed.score) == ("failed", None)
        assert "nu is infeasible" in failed.reason
        run = client.get_run(failed.mlflow_run_id)
        assert run.info.status == "FAILED"
        assert "nu is infeasible" in run.data.tags["mlflow.note.content"]

    def test_a_run_in_which_all_fail_fails(self, client: MlflowClient) -> None:
        with pytest.raises(AllCandidatesFailed, match="nu_svm: ValueError: specified nu is infeasible"):
            train("digits", "classification", "sklearn:digits", "target", algorithms=["nu_svm"], hyperparams=IMPOSSIBLE)
        assert queries.live_model("digits") is None
        assert [model.status for model in queries.models("digits")] == ["failed"]
        experiment = client.get_experiment_by_name("frontrunner/digits")
        assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"FAILED"}

    @pytest.mark.parametrize(
        ("plant", "reason"),
        [
            (planted.with_plots_that_raise, "ZeroDivisionError: no such colour"),
            (planted.with_plots_that_crash, "its process was killed by SIGSEGV"),
        ],
    )
    def test_a_plot_that_cannot_be_drawn_fails_no_candidate(
        self,
        client: MlflowClient,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        plant: Callable[..., Outcome],
        reason: str,
    ) -> None:
        """The model is fitted, scored and saved: what comes afterwards is there for people to look at."""
        monkeypatch.setattr(fit, "train_alone", plant)
        result = train("iris", **IRIS, algorithms=["svm", "knn"])
        assert {row.status for row in result.leaderboard} == {"trained"}
        assert result.deployed
        assert {f"{name} is trained, but its MLflow run is incomplete: {reason}" for name in ("svm", "knn")} <= {
            *caplog.messages
        }
        for row in result.leaderboard:
            run = client.get_run(row.mlflow_run_id)
            assert run.info.status == "FINISHED"
            assert run.data.metrics == row.metrics
        assert len(Predictor("iris").predict(np.zeros((2, 4)))) == 2

    REFUSED = {
        "an unknown relation": ({"relation_name": "sklearn:irises"}, UnknownRelation, "has no data set 'irises'"),
        "an unknown column": ({"y_column_name": "species"}, BadData, "has no column 'species'"),
        "an unknown algorithm": ({"algorithms": ["svn"]}, UnknownValue, "unknown classification algorithm 'svn'"),
        "an unknown task": ({"task": "clustering"}, UnknownValue, "unknown task 'clustering'"),
        "a test size as text": ({"test_size": "0.2"}, InvalidInput, "test_size is a share"),
        "an unknown hyperparameter": (
            {"hyperparams": {"xgboost": {"depth": 3}}},
            BadHyperparameter,
            "xgboost has no hyperparameter 'depth'",
        ),
    }

    @pytest.mark.parametrize("what", REFUSED)
    def test_what_is_wrong_is_one_clear_line_and_nothing_is_recorded(self, client: MlflowClient, what: str) -> None:
        changes, error, reason = self.REFUSED[what]
        with pytest.raises(error, match=reason) as caught:
            train("iris", **(IRIS | changes))
        assert "\n" not in str(caught.value)
        assert queries.projects() == []
        assert [experiment.name for experiment in client.search_experiments()] == ["Default"]

    def test_mlflow_away_at_a_training_leaves_nothing(self, prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        monkeypatch.setattr(snapshots.take_snapshot, "retries", 0)  # they are tests/integration/test_flow_runs.py's
        with pytest.raises(TrackingUnavailable, match="MLflow at http://127.0.0.1:1"):
            train("iris", **IRIS, algorithms=["svm"])
        assert queries.projects() == []


def test_what_mlflow_says_of_a_model_is_never_asked(client: MlflowClient, workspace: Path) -> None:
    """Its description in the store is not covered by our digest: one that would load code changes nothing."""
    train("iris", **IRIS, algorithms=["svm"])
    described = Path(queries.live_model("iris").artifact.uri.removeprefix("file://")).with_name("MLmodel")
    code = "import pathlib; pathlib.Path('trapped').touch()"
    described.write_text(f"flavors:\n  python_function:\n    loader_module: os\n    code: {code!r}\n")
    assert len(Predictor("iris").predict(np.zeros((2, 4)))) == 2
    assert not (workspace / "trapped").exists()


def test_nothing_of_ours_loads_a_pickle_or_a_model_by_mlflow() -> None:
    """But for an error that a candidate's process sends to the one that started it."""
    own = {"tasks/training/processes.py": r"import pickle$|pickle\.loads\(pickle\.dumps\(error\)\)"}
    root = Path(__file__).parents[2]
    paths = [path for folder in ("flows", "tasks", "registry") for path in (root / folder).rglob("*.py")]
    sources = {str(path.relative_to(root)): path.read_text() for path in paths}
    assert len(sources) > 30
    for name, allowed in own.items():
        sources[name], found = re.subn(allowed, "", sources[name], flags=re.MULTILINE)
        assert found
    for call in (r"\bpickle\.", r"\bjoblib\.load", r"load_model\(", r"import (cloud)?pickle"):
        assert not [name for name, source in sources.items() if re.search(call, source)], call


class TestTheMirror:
    def live_version(self, client: MlflowClient) -> str:
        name = alias.registered_name(1)
        return client.get_model_version_by_alias(name, "live").tags["frontrunner.model_id"]

    def test_the_alias_follows_every_deploy(self, client: MlflowClient) -> None:
        first = train("iris", **IRIS, algorithms=["ada_boost"], hyperparams={"ada_boost": {"n_estimators": 1}})
        assert self.live_version(client) == str(first.live_model_id)
        second = train("iris", algorithms=["svm"])
        assert second.deployed
        assert self.live_version(client) == str(second.live_model_id)
        rollback("iris")
        assert self.live_version(client) == str(first.live_model_id)
        assert len(client.search_model_versions("name = 'frontrunner-1'")) == 2

    def test_mlflows_own_server_gives_the_same_answers(self, client: MlflowClient, workspace: Path) -> None:
        """`mlflow models serve` on the alias, asked for rows with gaps and text."""
        draw = np.random.default_rng(0)
        rows = pd.DataFrame({
            "x": np.where(draw.random(80) < 0.2, np.nan, draw.normal(size=80)),
            "colour": pd.Series(draw.choice(["red", "green"], 80), dtype="str"),
            "kind": draw.choice(["gem", "pebble"], 80),
        })  # fmt: skip
        (workspace / "data").mkdir()
        rows.to_parquet("data/stones.parquet")
        train("stones", "classification", "files:stones.parquet", "kind", algorithms=["xgboost"])
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/frontrunner-1@live"]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        # Its switch against pickles covers skops files as well.
        env = os.environ | {
            "MLFLOW_TRACKING_URI": settings.tracking_uri(),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it looks for uvicorn there
        }
        asked = {"dataframe_split": json.loads(rows.drop(columns="kind").to_json(orient="split"))}
        with running(command, lambda: answers(f"http://127.0.0.1:{port}/ping"), workspace / "serve.log", env=env):
            answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json=asked, timeout=60)
        assert answer.json() == {"predictions": Predictor("stones").predict(rows).tolist()}
        model = client.get_logged_model(queries.live_model("stones").mlflow_model_id)
        files = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
        assert {"MLmodel", "model.skops", "input_example.json"} <= files

"""What has to be so before a model goes live: compared on unseen rows, proven to answer, planned, recorded."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, r2_score

from flows.deploy import best_score, deploy, most_recent, rollback
from flows.train import train
from registry import Predictor, history, queries, session
from registry.choices import DeployRequest
from registry.errors import (
    ArtifactChanged,
    ArtifactMissing,
    FrontrunnerError,
    InvalidInput,
    NoCandidate,
    PlanChanged,
    Unproven,
)
from registry.schema import Model
from registry.serving import proof
from registry.serving.artifacts import describe as describe_file
from registry.serving.artifacts import load_pipeline
from registry.session import transaction
from registry.values import ModelRecord, Terms
from registry.vocabulary import Basis, Compare, Strategy, Task
from tasks.data import predicted
from tasks.promotion import comparison
from tasks.promotion.automatic import decide, replay
from tasks.promotion.comparison import compare
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy as deploy_now
from tasks.promotion.manual import describe
from tasks.promotion.rule import apply_rule
from tests.support.story import Story

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect", "mlflow_store")]


def rows(count: int, seed: int = 0, *, noise: float = 1.0, flip: bool = False) -> pd.DataFrame:
    """Rows that never repeat: `sold` is a number and `kept` a label that a and b tell something of."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, count))
    sold = (-1 if flip else 1) * (2 * a + b) + noise * draw.normal(size=count)
    return pd.DataFrame({"a": a, "b": b, "shop": draw.choice(["n", "s"], count), "sold": sold, "kept": sold > 0})


@pytest.fixture
def data(workspace: Path) -> Path:
    (workspace / "data").mkdir()
    return workspace / "data"


def trained_on(data: Path, frame: pd.DataFrame, y: str = "sold", **asked: Any):
    """One more training of the project, on these rows; the other target is left out."""
    frame.drop(columns={"sold", "kept"} - {y}, errors="ignore").to_parquet(data / "rows.parquet")
    task = "regression" if y == "sold" else "classification"
    return train("shop", task, "files:rows.parquet", y, **({"algorithms": ["linear"]} | asked))


def live() -> int | None:
    model = queries.live_model("shop")
    return model.id if model else None


def model_of(result) -> ModelRecord:
    return queries.model(result.leaderboard[0].model_id)


class TestTheSameRows:
    @pytest.mark.parametrize(("y", "metric"), [("sold", r2_score), ("kept", f1_score)])
    def test_both_models_are_scored_on_what_neither_was_trained_on(self, data: Path, y: str, metric: Callable) -> None:
        month, next_month = rows(1200).iloc[:1000], rows(1200).iloc[200:]
        first = trained_on(data, month, y)
        old = queries.snapshot(first.snapshot_id)
        seen = pd.read_parquet(old.artifact.uri.removeprefix("file://")).iloc[: old.train_rows]
        second = trained_on(data, next_month, y, algorithms=["linear", "knn"])
        new = queries.snapshot(second.snapshot_id)
        test = pd.read_parquet(new.artifact.uri.removeprefix("file://")).iloc[new.train_rows :]
        left = test[~test["a"].isin(seen["a"])]
        scores = [
            metric(left[y], load_pipeline(model_of(each).artifact).predict(left.drop(columns=y)))
            for each in (second, first)
        ]
        [receipt, _] = queries.decisions("shop")
        found = receipt.evidence
        assert (found.basis, found.live_model_id) == (Basis.SAME_ROWS, model_of(first).id)
        assert (found.rows_compared, found.rows_excluded) == (len(left), len(test) - len(left))
        assert 0 < found.rows_excluded < len(test)
        assert [found.challenger_score, found.live_score] == pytest.approx(scores, abs=1e-12)
        assert second.deployed is (scores[0] > scores[1])
        assert f"on {len(left)} rows that neither was trained on" in second.reason
        assert second.decision_id == receipt.id

    def test_a_lucky_record_does_not_keep_a_better_model_out(self, data: Path) -> None:
        """The seed's rule freezes when the world changes; scored on today's rows the old model has no chance."""
        trained_on(data, rows(1000, noise=0.1))
        changed = rows(1000, seed=1, noise=2.0, flip=True)
        assert not trained_on(data, changed, compare="recorded").deployed
        assert trained_on(data, changed, seed=1).deployed

    def test_a_memory_of_the_test_rows_does_not_win(self, data: Path) -> None:
        """The live model was trained on most of the challenger's test rows, and remembers each of them."""
        frame = rows(1000, noise=3.0)
        by_heart = trained_on(data, frame, algorithms=["knn"], hyperparams={"knn": {"n_neighbors": 1}}, test_size=0.2)
        honest = trained_on(data, frame, test_size=0.5, seed=5)
        new = queries.snapshot(honest.snapshot_id)
        test = pd.read_parquet(new.artifact.uri.removeprefix("file://")).iloc[new.train_rows :]
        everywhere = load_pipeline(model_of(by_heart).artifact).predict(test.drop(columns="sold"))
        assert r2_score(test["sold"], everywhere) > 0.7  # what a comparison that minds nothing would see
        found = queries.decisions("shop")[0].evidence
        assert found.rows_excluded > 350
        assert found.live_score < found.challenger_score
        assert honest.deployed

    def test_rows_are_known_in_another_order_of_columns_and_beside_a_new_column(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MIN_COMPARED_ROWS", "10")
        frame = rows(800)
        first = trained_on(data, frame)
        wider = frame[["sold", "shop", "b", "a"]].assign(new=np.arange(800.0))
        second = trained_on(data, wider, seed=1)
        found = queries.decisions("shop")[0].evidence
        old, new = queries.snapshot(first.snapshot_id), queries.snapshot(second.snapshot_id)
        frames = [pd.read_parquet(each.artifact.uri.removeprefix("file://")) for each in (old, new)]
        expected = frames[1].iloc[new.train_rows :]["a"].isin(frames[0].iloc[: old.train_rows]["a"]).sum()
        assert found.rows_excluded == expected > 0

    def test_the_same_rows_frozen_twice_are_one_snapshot(self, data: Path) -> None:
        frame = rows(120)
        trained_on(data, frame, algorithms=["knn"])
        again = trained_on(data, frame, algorithms=["linear"])
        found = queries.decisions("shop")[0].evidence
        assert (found.basis, found.rows_compared, found.rows_excluded) == (Basis.SAME_ROWS, 30, 0)
        assert found.challenger_score == model_of(again).score
        assert "on the same 30 rows" in again.reason

    def test_the_live_model_alone_is_asked_again(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = trained_on(data, rows(1000))
        loaded = []

        def watched(artifact):
            loaded.append(artifact)
            return load_pipeline(artifact)

        monkeypatch.setattr(comparison, "load_pipeline", watched)
        trained_on(data, rows(1000, seed=1), algorithms=["linear", "knn"], confidence=0.95)
        assert loaded == [model_of(first).artifact]


class TestWhatCannotBeCompared:
    def kept(self, result, said: str) -> None:
        first, *_ = reversed(queries.history("shop"))
        assert not result.deployed
        assert live() == first.model_id
        assert said in result.reason
        assert "stays live" in result.reason
        receipt = queries.decisions("shop")[0]
        assert receipt.evidence.basis in (Basis.NOT_COMPARABLE, Basis.UNREACHABLE)
        assert receipt.evidence.challenger_score is receipt.evidence.live_score is None
        assert receipt.reason == result.reason

    def test_too_few_rows_are_left(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = rows(300)
        trained_on(data, frame)
        self.kept(
            trained_on(data, frame, seed=1), "test rows were in no training, and 50 are needed (MIN_COMPARED_ROWS)"
        )
        monkeypatch.setenv("MIN_COMPARED_ROWS", "10")
        assert "that neither was trained on" in trained_on(data, frame, seed=1).reason
        monkeypatch.setenv("MIN_COMPARED_ROWS", "ten")
        with pytest.raises(InvalidInput, match="MIN_COMPARED_ROWS is a whole number above 0, not 'ten'"):
            trained_on(data, frame)

    def test_a_class_is_missing(self, data: Path) -> None:
        """All rows of the rare class stay, all others are new: those that are tested were trained on before."""
        rare = rows(12, seed=9).assign(kept="rare")
        others = [rows(1000, seed=seed).astype({"kept": str}) for seed in (0, 1)]
        trained_on(data, pd.concat([rare, others[0]]), "kept", test_size=2, test_sampling="last")
        result = trained_on(data, pd.concat([others[1], rare]), "kept", test_size=300, test_sampling="stratified")
        self.kept(result, "no test row of class rare is left that was in no training")

    def test_a_column_is_gone(self, data: Path) -> None:
        trained_on(data, rows(400))
        self.kept(trained_on(data, rows(400, seed=1).drop(columns="shop")), "has no column 'shop' any more")

    def test_a_column_has_another_type(self, data: Path) -> None:
        trained_on(data, rows(400))
        self.kept(
            trained_on(data, rows(400, seed=1).assign(shop=1.5)),
            "column 'shop' was string at its training and is double",
        )

    def test_a_float_of_another_width_is_another_number(self, data: Path) -> None:
        trained_on(data, rows(400))
        result = trained_on(data, rows(400).astype({"a": "float32"}), seed=1)
        self.kept(result, "column 'a' was double at its training and is float now")

    def test_it_predicts_another_target(self, data: Path) -> None:
        trained_on(data, rows(400))
        changed = rows(400, seed=1).rename(columns={"sold": "earned"})
        changed.drop(columns="kept").to_parquet(data / "rows.parquet")
        result = train("shop", None, "files:rows.parquet", "earned", algorithms=["linear"])
        self.kept(result, "it predicts sold, and the challenger earned")

    def test_its_labels_are_of_another_type(self, data: Path) -> None:
        trained_on(data, rows(400).astype({"kept": int}), "kept")
        texts = rows(400, seed=1).assign(kept=lambda each: np.where(each["kept"], "yes", "no"))
        self.kept(trained_on(data, texts, "kept"), "column 'kept' was int64 at its training and is string now")

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no model")])
    def test_an_outage_is_never_read_as_nothing_is_live(self, data: Path, damage: Callable[[Path], Any]) -> None:
        first = trained_on(data, rows(1000, noise=5.0))
        damage(Path(model_of(first).artifact.uri.removeprefix("file://")))
        self.kept(trained_on(data, rows(1000, seed=1, noise=0.1)), "the two could not be compared")

    def test_the_rows_that_it_was_trained_on_are_not_known(self, data: Path) -> None:
        first = trained_on(data, rows(1000, noise=5.0))
        Path(queries.snapshot(first.snapshot_id).hashes.uri.removeprefix("file://")).unlink()
        self.kept(trained_on(data, rows(1000, seed=1, noise=0.1)), "the two could not be compared")

    def test_recorded_scores_need_none_of_it(self, data: Path) -> None:
        first = trained_on(data, rows(400, noise=5.0))
        Path(model_of(first).artifact.uri.removeprefix("file://")).unlink()
        result = trained_on(data, rows(400, seed=1, noise=0.1), compare="recorded")
        assert result.deployed
        assert "different rows" in result.reason
        assert queries.decisions("shop")[0].evidence.basis is Basis.RECORDED


class TestConfidence:
    def test_the_interval_is_wherever_the_decision_is(self, data: Path) -> None:
        trained_on(data, rows(1000, noise=0.5), algorithms=["knn"], hyperparams={"knn": {"n_neighbors": 200}})
        result = trained_on(data, rows(1000, seed=1, noise=0.5), algorithms=["linear", "knn"], confidence=0.95)
        receipt = queries.decisions("shop")[0]
        low, high = result.interval
        assert receipt.evidence.interval == result.interval
        assert 0 < low < receipt.evidence.challenger_score - receipt.evidence.live_score < high
        assert result.deployed
        assert f"95 % interval {low:+.2g} to {high:+.2g}" in result.reason

    def test_a_small_gain_on_few_rows_is_not_enough(self, data: Path) -> None:
        trained_on(data, rows(400, noise=2.0))
        seeds = [trained_on(data, rows(400, seed=seed, noise=2.0), confidence=0.95).deployed for seed in range(1, 6)]
        assert not any(seeds)

    def test_on_one_snapshot_too(self, data: Path) -> None:
        trained_on(data, rows(400), algorithms=["knn"])
        result = train("shop", algorithms=["linear"], confidence=0.9)
        assert result.interval is not None
        assert queries.decisions("shop")[0].evidence.rows_excluded == 0

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"confidence": 95}, "confidence is a number from 0.5 to 0.999, as 0.95, not 95"),
            ({"confidence": True}, "confidence is a number"),
            ({"confidence": 0.95, "compare": "recorded"}, "confidence requires comparing on the same rows"),
            ({"compare": "latest"}, "choose one of same_rows, recorded"),
            ({"min_improvement": -0.1}, "min_improvement is a number of at least 0"),
            ({"min_improvement": float("nan")}, "min_improvement is a number of at least 0"),
            ({"must_beat_baseline": "yes"}, "must_beat_baseline is true or false"),
        ],
    )
    def test_what_cannot_be_asked_for(self, data: Path, asked: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            trained_on(data, rows(100), **asked)
        assert queries.projects() == []


class TestTheBaseline:
    def test_it_is_on_every_leaderboard(self, data: Path) -> None:
        result = trained_on(data, rows(400), "kept", algorithms=["linear", "knn"])
        snapshot = queries.snapshot(result.snapshot_id)
        frame = pd.read_parquet(snapshot.artifact.uri.removeprefix("file://"))
        commonest = frame["kept"].iloc[: snapshot.train_rows].mode()[0]
        test = frame["kept"].iloc[snapshot.train_rows :]
        assert result.baseline["f1"] == f1_score(test, np.full(len(test), commonest))
        assert result.baseline["accuracy"] == (test == commonest).mean()
        assert len(result.leaderboard) == 2

    def test_as_a_gate_nothing_worse_goes_live_not_even_first(self, data: Path) -> None:
        noise = rows(200).assign(sold=np.random.default_rng(3).normal(size=200))
        tree = {"algorithms": ["xgboost"], "must_beat_baseline": True}
        refused = trained_on(data, noise, **tree)
        assert not refused.deployed
        assert live() is None
        assert "does not beat the baseline: R2" in refused.reason
        assert trained_on(data, rows(200), **tree).deployed
        assert queries.decisions("shop")[0].terms.must_beat_baseline


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prefect: str, made_mlflow_store: Path) -> Path:
    """A workspace with two models, the second one live; what each test gets is put back from a copy."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(made_mlflow_store, folder / ".frontrunner")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained_on(folder / "data", rows(400), algorithms=["knn"])
        train("shop", algorithms=["linear"])
        session.close()
    shutil.copytree(folder, folder.with_name(f"as_{folder.name}"))
    return folder


@pytest.fixture
def two(made: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelRecord, ModelRecord]:
    shutil.rmtree(made)
    shutil.copytree(made.with_name(f"as_{made.name}"), made)
    monkeypatch.chdir(made)
    newest, oldest = queries.models("shop")
    assert live() == newest.id
    return oldest, newest


def file_of(model: ModelRecord) -> Path:
    return Path(model.artifact.uri.removeprefix("file://"))


TO_THE_OTHER: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "best_score": (best_score, {"algorithm_name": "knn"}),
    "most_recent": (most_recent, {"algorithm_name": "knn"}),
    "rollback": (rollback, {}),
    "steps": (rollback, {"steps": 1}),
    "to_seq": (rollback, {"to_seq": 1}),
    "specific": (deploy, {"strategy": "specific", "model_id": 1}),
}


def by_flow(way: str, **asked: Any):
    flow, wish = TO_THE_OTHER[way]
    return flow("shop", **wish, **asked)


def by_step(way: str, **asked: Any):
    """The same without Prefect."""
    flow, wish = TO_THE_OTHER[way]
    strategy = wish.get("strategy", flow.name.replace("-", "_"))
    wish = {name: value for name, value in wish.items() if name != "strategy"}
    return deploy_now(checked_deploy("shop", strategy, **wish, **asked), uuid4().hex)


class TestADeployProvesItself:
    @pytest.mark.parametrize("way", TO_THE_OTHER)
    @pytest.mark.parametrize(
        ("damage", "error"),
        [
            (Path.unlink, ArtifactMissing),
            (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), ArtifactChanged),
        ],
    )
    def test_a_file_that_is_missing_or_corrupt_is_refused_on_every_strategy(
        self, two: tuple[ModelRecord, ModelRecord], way: str, damage: Callable, error: type[Exception]
    ) -> None:
        target, now_live = two
        predictor, before = Predictor("shop"), queries.history("shop")
        asked = rows(5).drop(columns=["sold", "kept"])
        answers = predictor.predict(asked).tolist()
        damage(file_of(target))
        with pytest.raises(error, match=rf"knn \(model {target.id}\) cannot be deployed.*use force with a reason"):
            by_step(way)
        assert queries.history("shop") == before
        assert live() == now_live.id
        predictor.refresh()
        assert predictor.predict(asked).tolist() == answers
        assert by_step(way, force=True, reason="the store comes back at noon").changed
        row = queries.history("shop")[0]
        assert (row.model_id, row.forced, row.reason) == (target.id, True, "the store comes back at noon")

    def test_a_file_that_answers_otherwise_than_at_training(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        """Whole by its digest, and yet another model: as when a library was upgraded, or rows went astray."""
        target, now_live = two
        other = describe_file(file_of(now_live), now_live.artifact.uri)
        with transaction(write=True) as writing:
            row = writing.get_one(Model, target.id)
            row.artifact_uri, row.artifact_sha256, row.artifact_bytes = other.uri, other.sha256, other.bytes
        with pytest.raises(Unproven, match=rf"model {target.id} answers otherwise than at training"):
            rollback("shop")
        assert live() == now_live.id

    def test_it_takes_no_longer_than_its_limit(
        self, two: tuple[ModelRecord, ModelRecord], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target, now_live = two
        file_of(target).unlink()
        os.mkfifo(file_of(target))  # whoever opens it waits for ever
        monkeypatch.setattr(proof, "PROOF_SECONDS", 0.5)
        with pytest.raises(ArtifactMissing, match=r"could not be loaded and tested within 0.5 s"):
            by_step("rollback")
        assert live() == now_live.id

    def test_the_automatic_deploy_too(self, data: Path) -> None:
        trained_on(data, rows(400), algorithms=["knn"])
        recorded = train("shop", algorithms=["linear"], automatic_deploy=False)
        assert recorded.decision_id is None
        challenger = model_of(recorded)
        file_of(challenger).unlink()
        decision = decide("shop", Task.REGRESSION, [challenger], Terms(), "key")
        assert (decision.deployed, decision.live_model_id, live()) == (False, 1, 1)
        assert "linear (model 2) cannot be deployed" in decision.reason
        assert queries.decisions("shop")[0].evidence.basis is Basis.UNPROVEN

    def test_what_is_live_already_needs_no_proof(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        file_of(two[1]).unlink()
        assert not best_score("shop", "linear").changed


class TestWhatHappensBetween:
    """Somebody deploys after this deploy was looked at and before it is written."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        from tasks.promotion import automatic

        def arrange(model_id: int) -> None:
            deployed = history.deploy

            def late(*arguments, **named):
                monkeypatch.setattr(automatic.history, "deploy", deployed)
                deployed(
                    DeployRequest("shop", Strategy.SPECIFIC, model_id=model_id),
                    request_key=uuid4().hex,
                    deployed_by="they",
                )
                return deployed(*arguments, **named)

            monkeypatch.setattr(automatic.history, "deploy", late)

        return arrange

    def test_what_was_live_and_needed_no_proof_is_proven_once_it_is_not(
        self, two: tuple[ModelRecord, ModelRecord], meanwhile: Callable[[int], None]
    ) -> None:
        file_of(two[1]).unlink()
        meanwhile(two[0].id)
        with pytest.raises(ArtifactMissing):
            deploy_now(checked_deploy("shop", "best_score", "linear"), "me")
        assert live() == two[0].id

    def test_what_a_plan_named_is_not_taken_for_what_went_live_instead(
        self, two: tuple[ModelRecord, ModelRecord], meanwhile: Callable[[int], None]
    ) -> None:
        meanwhile(two[0].id)
        with pytest.raises(PlanChanged, match="the plan was model 1, which is live already"):
            deploy_now(checked_deploy("shop", "rollback", expect_model_id=1), "me")
        assert live() == 1

    def test_nobody_is_quarantined_who_was_not_meant(
        self, two: tuple[ModelRecord, ModelRecord], meanwhile: Callable[[int], None]
    ) -> None:
        meanwhile(two[0].id)
        with pytest.raises(PlanChanged, match="went live in the meantime instead of model 2"):
            deploy_now(checked_deploy("shop", "rollback", quarantine=True, reason="bad"), "me")
        assert [model.quarantine for model in queries.models("shop")] == [None, None]

    def test_there_is_nothing_to_quarantine_where_nothing_changes(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        with pytest.raises(InvalidInput, match=r"linear \(model 2\) is live already and stays"):
            deploy_now(checked_deploy("shop", "rollback", to_seq=2, quarantine=True, reason="bad"), "me")
        planned = checked_deploy("shop", "rollback", quarantine=True, reason="bad", plan=True)
        words = describe(deploy_now(planned, "me"), planned)
        assert "instead of model 2, which would go into quarantine" in words


class TestOddModels:
    def test_forests_of_many_threads_are_scored_the_same_again(self, data: Path) -> None:
        forest = {"algorithms": ["random_forest"], "hyperparams": {"random_forest": {"n_jobs": 4, "n_estimators": 60}}}
        trained_on(data, rows(1500), **forest)
        result = trained_on(data, rows(1500, seed=1), **forest)
        for _ in range(8):
            predicted._predictions.clear()
            assert replay(result.decision_id).differences == ()

    def test_catboost_with_labels_of_text_can_be_challenged(self, data: Path) -> None:
        texts = [
            rows(400, seed=seed).assign(kept=lambda each: np.where(each["sold"] > 1, "yes", "no")) for seed in (0, 1)
        ]
        trained_on(data, texts[0], "kept", algorithms=["catboost"], hyperparams={"catboost": {"iterations": 20}})
        result = trained_on(data, texts[1], "kept", algorithms=["linear"], confidence=0.8)
        assert queries.decisions("shop")[0].evidence.basis is Basis.SAME_ROWS
        assert result.interval is not None

    def test_the_baseline_is_measured_with_the_labels_of_the_others(self, data: Path) -> None:
        """The live model knows three labels, the new rows have two: all three scores are means over what is there."""
        three = rows(600).assign(kept=lambda each: np.digitize(each["sold"], [-1, 1]))
        two = rows(600, seed=1).assign(kept=lambda each: np.digitize(each["sold"], [1.5]))
        trained_on(data, three, "kept")
        trained_on(data, two, "kept", must_beat_baseline=True)
        found = queries.decisions("shop")[0].evidence
        snapshot = queries.snapshot(2)
        test = pd.read_parquet(snapshot.artifact.uri.removeprefix("file://")).iloc[snapshot.train_rows :]["kept"]
        assert found.baseline_score == pytest.approx(f1_score(test, np.zeros(len(test)), average="macro"))

    def test_dates_beyond_the_calendar_of_python(self, data: Path) -> None:
        days = np.full(200, "2026-01-01", "datetime64[us]")
        days[::2] = np.datetime64("14645-06-30", "us")
        result = trained_on(data, rows(200).assign(day=days))
        assert result.deployed
        assert len(queries.golden(result.deployed_model_id)[1]) == 5


class TestHeldReceipts:
    def test_the_best_that_is_not_in_quarantine_challenges(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        worse, better = two
        deploy_now(checked_deploy("shop", "rollback"), "me")
        history.quarantine(better.id, "leaks", by="me")
        decision = decide("shop", Task.REGRESSION, [worse, better], Terms(), "k")
        assert (decision.challenger_id, decision.reason) == (worse.id, f"knn (model {worse.id}) is live already")

    def test_where_all_are_it_is_said_and_replayed_so(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        better = two[1]
        deploy_now(checked_deploy("shop", "rollback"), "me")
        history.quarantine(better.id, "leaks", by="me")
        decision = decide("shop", Task.REGRESSION, [better], Terms(), "k")
        assert not decision.deployed
        assert "is in quarantine (leaks)" in decision.reason
        history.release(better.id, by="me")
        assert replay(decision.id).differences == ()

    def test_an_unproven_challenger_of_a_model_in_quarantine(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        challenger, now_live = two
        history.quarantine(now_live.id, "leaks", by="me")
        file_of(challenger).unlink()
        decision = decide("shop", Task.REGRESSION, [challenger], Terms(), "k")
        assert not decision.deployed
        assert replay(decision.id).differences == ()


class TestAPlan:
    @pytest.mark.parametrize("way", TO_THE_OTHER)
    def test_it_says_what_would_be_and_writes_nothing_and_the_run_does_that(
        self, two: tuple[ModelRecord, ModelRecord], way: str
    ) -> None:
        before = queries.history("shop")
        planned = by_flow(way, plan=True)
        assert (planned.planned, planned.changed, planned.model_id) == (True, True, two[0].id)
        assert queries.history("shop") == before
        done = by_flow(way, expect_model_id=planned.model_id)
        [row, *_] = queries.history("shop")
        added = {"seq": row.seq, "deployed_at": row.deployed_at, "deployed_by": row.deployed_by}
        assert replace(planned, planned=False, **added) == done

    def test_it_is_refused_as_the_run_would_be(self, two: tuple[ModelRecord, ModelRecord]) -> None:
        file_of(two[0]).unlink()
        with pytest.raises(ArtifactMissing):
            rollback("shop", plan=True)
        assert rollback("shop", plan=True, force=True, reason="try").planned

    def test_what_changed_meanwhile_is_said_and_nothing_is_done(self, data: Path) -> None:
        trained_on(data, rows(400), algorithms=["knn"])
        train("shop", algorithms=["linear"])
        planned = rollback("shop", plan=True)
        train("shop", algorithms=["hist_gradient_boosting"], automatic_deploy=False)
        deploy("shop", "specific", model_id=3)
        with pytest.raises(PlanChanged, match=rf"the plan was model {planned.model_id}, but rollback now chooses"):
            rollback("shop", expect_model_id=planned.model_id)
        assert live() == 3
        with pytest.raises(PlanChanged, match="the plan was model 3, which is live already"):
            rollback("shop", expect_model_id=3)

    def test_another_choice_between_the_proof_and_the_deployment_is_proven_too(
        self, two: tuple[ModelRecord, ModelRecord], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While model 1 is proven, somebody deploys it: the last one that was live is model 2 by then."""
        from tasks.promotion import manual

        proven, prove = [], manual.prove

        def slow(model: ModelRecord) -> None:
            prove(model)
            if not proven:
                history.deploy(
                    DeployRequest("shop", Strategy.SPECIFIC, model_id=1), request_key="they", deployed_by="they"
                )
            proven.append(model.id)

        monkeypatch.setattr(manual, "prove", slow)
        result = deploy_now(checked_deploy("shop", "rollback"), "me")
        assert proven == [1, 2]
        assert (result.model_id, result.previous_model_id) == (2, 1)
        assert [row.model_id for row in reversed(queries.history("shop"))] == [1, 2, 1, 2]


@pytest.fixture
def pool(data: Path) -> list[ModelRecord]:
    """Models of three snapshots whose windows overlap; only the first is live."""
    frame = rows(2000, noise=1.5)
    for start, algorithms in ((0, ["linear", "knn"]), (300, ["linear", "knn"]), (900, ["linear", "knn", "xgboost"])):
        trained_on(data, frame.iloc[start : start + 1000], algorithms=algorithms, automatic_deploy=start == 0)
    return queries.models("shop")


def test_a_replay_comes_to_the_same_verdict_and_the_same_digits(pool: list[ModelRecord]) -> None:
    """For any challenger, live model and terms; the receipt is of a fresh comparison, the replay is another."""
    terms = st.builds(
        Terms,
        compare=st.sampled_from([Compare.SAME_ROWS, Compare.SAME_ROWS, Compare.RECORDED]),
        min_improvement=st.sampled_from([0.0, 0.01, 0.2]),
        confidence=st.none(),
        must_beat_baseline=st.booleans(),
        min_rows=st.sampled_from([50, 245]),
    )
    sure = st.builds(
        Terms, confidence=st.sampled_from([0.5, 0.8, 0.95]), min_rows=st.just(50), must_beat_baseline=st.booleans()
    )
    verdicts, bases = set(), set()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(st.sampled_from(pool), st.sampled_from(pool), terms | sure)
    def check(challenger: ModelRecord, now_live: ModelRecord, asked: Terms) -> None:
        key = uuid4()
        history.deploy(
            DeployRequest("shop", Strategy.SPECIFIC, model_id=now_live.id),
            request_key=f"live {key}",
            deployed_by="a test",
        )
        run = [each for each in pool if each.snapshot_id == challenger.snapshot_id and each.score <= challenger.score]
        decision = decide("shop", Task.REGRESSION, run, asked, str(key))
        predicted._predictions.clear()  # as in another process
        again = replay(decision.id)
        assert again.differences == ()
        assert again.verdict.deploy == decision.deployed == (live() == challenger.id != now_live.id)
        verdicts.add(decision.deployed)
        bases.add(again.evidence.basis)

    check()
    assert verdicts == {True, False}
    assert bases >= {Basis.SAME_ROWS, Basis.RECORDED, Basis.NOT_COMPARABLE}


def test_a_replay_says_what_is_different(pool: list[ModelRecord]) -> None:
    challenger = next(model for model in pool if model.snapshot_id == 3)
    decision = decide("shop", Task.REGRESSION, [challenger], Terms(), "k")
    file_of(queries.model(queries.decision(decision.id).evidence.live_model_id)).unlink()
    again = replay(decision.id)
    assert any(said.startswith("basis was same_rows, is unreachable") for said in again.differences)


def test_on_one_snapshot_same_rows_and_recorded_always_agree(registry_url: str) -> None:
    story = Story(task=Task.REGRESSION)
    scores = st.floats(-5, 1, allow_nan=False)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(scores, scores, st.sampled_from([0.0, 0.1]))
    def check(mine: float, its: float, min_improvement: float) -> None:
        challenger, now_live = (
            replace(queries.model(each), score=score) for each, score in zip(ids, (mine, its), strict=True)
        )
        verdicts = set()
        for mode in Compare:
            asked = Terms(mode, min_improvement)
            evidence = compare(Task.REGRESSION, challenger, now_live, [challenger], asked)
            verdicts.add(apply_rule(Task.REGRESSION, challenger, now_live, evidence, asked))
        assert len(verdicts) == 1
        assert verdicts.pop().deploy is (mine > its and mine - its > min_improvement)

    ids = [story.trained(0.1), story.trained(0.2)]
    check()


def test_what_is_in_quarantine_is_never_chosen_and_a_plan_is_what_the_run_does(
    registry_url: str, workspace: Path
) -> None:
    """Any story of trainings, deploys, quarantines and releases."""
    steps = st.lists(
        st.one_of(
            st.tuples(st.just("train"), st.sampled_from([0.1, 0.5, 0.5, 0.9])),
            st.tuples(st.sampled_from(["best_score", "most_recent", "rollback"]), st.sampled_from([1, 1, 2])),
            st.tuples(st.just("specific"), st.integers(0, 5)),
            st.tuples(st.just("to_seq"), st.integers(1, 6)),
            st.tuples(st.sampled_from(["quarantine", "release"]), st.integers(0, 5)),
        ),
        min_size=8,
        max_size=25,
    )
    done = {"planned": 0, "refused": 0}
    numbers = iter(range(10**6))

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    @given(steps)
    def check(told: list[tuple[str, Any]]) -> None:
        story = Story(f"p{next(numbers)}")
        models = [story.trained_and_promoted(0.3), story.trained_and_promoted(0.4)]
        for what, value in told:
            if what == "train":
                models.append(story.trained(value))
                held = queries.live_model(story.project).quarantine
                assert story.promoted(models[-1]).deployed or not held
            elif what in ("quarantine", "release"):
                try:
                    chosen = models[value % len(models)]
                    history.quarantine(chosen, "odd", by="me") if what == "quarantine" else history.release(
                        chosen, by="me"
                    )
                except InvalidInput:
                    pass
            else:
                self_deploy(story, models, what, value)

    def self_deploy(story: Story, models: list[int], what: str, value: int) -> None:
        named = {"specific": {"model_id": models[value % len(models)]}, "to_seq": {"to_seq": value}}
        extra = named.get(what) or ({"steps": value} if what == "rollback" else {})
        strategy = "rollback" if what == "to_seq" else what
        ask = {"force": True, "reason": "no files", **extra}
        before = story.history
        try:
            planned = deploy_now(checked_deploy(story.project, strategy, **ask, plan=True), "plan")
        except NoCandidate as error:
            with pytest.raises(NoCandidate, match=f"^{re.escape(str(error))}$"):
                story.deploys(strategy, **extra)
            assert story.history == before
            done["refused"] += 1
            return
        assert story.history == before
        found = story.deploys(strategy, **extra)
        added = {name: getattr(found, name) for name in ("seq", "deployed_at", "deployed_by", "forced", "reason")}
        assert replace(planned, planned=False, **added) == found
        assert queries.model(found.model_id).quarantine is None
        done["planned"] += 1

    check()
    assert min(done.values()) > 20


def test_the_error_of_a_refused_deploy_is_one_line(two: tuple[ModelRecord, ModelRecord]) -> None:
    file_of(two[0]).write_bytes(b"")
    with pytest.raises(FrontrunnerError) as refused:
        by_step("rollback")
    assert "\n" not in str(refused.value)

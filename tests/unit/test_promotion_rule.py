"""The automatic rule, by itself."""

import dataclasses
from datetime import UTC, datetime

import pytest

from registry.values import Evidence, ModelRecord, Terms
from registry.vocabulary import Basis, Status, Task
from tasks.promotion.automatic import best_model
from tasks.promotion.rule import apply_rule, beats


@pytest.mark.parametrize(
    ("score", "live", "wins"),
    [
        (0.8, 0.7, True),
        (0.7, 0.7, False),
        (0.6, 0.7, False),
        (-0.1, -0.5, True),
        (0.0, None, True),
        (-3.0, None, True),
        (None, None, False),
        (None, -1.0, False),
    ],
)
def test_higher_is_better_a_tie_keeps_the_live_model_and_no_score_never_wins(score, live, wins) -> None:
    assert beats(score, live) is wins


def model(model_id: int, score: float | None, status: Status = Status.TRAINED, snapshot_id: int = 1) -> ModelRecord:
    now = datetime.now(UTC)
    return ModelRecord(model_id, 1, snapshot_id, "svm", {}, {}, status, score, {}, None, None, None, None, now)


def test_the_best_of_a_run_is_the_one_that_best_score_would_choose() -> None:
    assert best_model([model(1, 0.7), model(2, 0.9), model(3, 0.9), model(4, None, Status.FAILED)]).id == 3
    assert best_model([model(1, None, Status.FAILED)]) is None
    assert best_model([]) is None


def verdict(challenger: ModelRecord, live: ModelRecord | None, terms: Terms | None = None, **found):
    """What is judged of the recorded scores, or of what was found."""
    same = live is not None and live.snapshot_id == challenger.snapshot_id
    measured = {
        "basis": Basis.NOTHING_LIVE if live is None else Basis.SAME_ROWS if same else Basis.RECORDED,
        "live_model_id": live.id if live else None,
        "candidate_ids": (challenger.id,),
        "challenger_score": challenger.score,
        "live_score": live.score if live else None,
        "rows_compared": 38 if same else None,
        "rows_excluded": 0 if same else None,
    }
    return apply_rule(Task.REGRESSION, challenger, live, Evidence(**(measured | found)), terms or Terms())


def test_the_verdict_is_in_words_that_can_be_checked() -> None:
    assert verdict(model(2, 0.5), model(1, 0.4)).reason == (
        "svm (model 2) replaces svm (model 1): R2 0.5000 against 0.4000 (+0.1)"
    )
    assert verdict(model(1, -0.5), None).reason.endswith("live: R2 -0.5000; it is worse than predicting the mean")
    assert "different rows: snapshots 2 and 1" in verdict(model(2, 0.5, snapshot_id=2), model(1, 0.4)).reason
    unseen = verdict(
        model(2, 0.9, snapshot_id=2),
        model(1, 0.9),
        basis=Basis.SAME_ROWS,
        challenger_score=0.5,
        live_score=0.4,
        rows_compared=1200,
        rows_excluded=300,
    )
    assert unseen.reason.endswith(
        "R2 0.5000 against 0.4000 (+0.1); on 1,200 rows that neither was trained on (300 left out)"
    )


@pytest.mark.parametrize(
    ("gain", "asked", "deployed"), [(0.05, 0.0, True), (0.05, 0.04, True), (0.05, 0.06, False), (0.0, 0.0, False)]
)
def test_the_improvement_has_to_be_more_than_what_was_asked_for(gain: float, asked: float, deployed: bool) -> None:
    found = verdict(model(2, 0.5 + gain), model(1, 0.5), Terms(min_improvement=asked))
    assert found.deploy is deployed
    assert ("more than 0.06 was asked for" in found.reason) is (asked == 0.06)


@pytest.mark.parametrize(
    ("interval", "min_improvement", "deployed"),
    [((0.01, 0.2), 0.0, True), ((-0.01, 0.2), 0.0, False), ((0.01, 0.2), 0.02, False), ((0.0, 0.2), 0.0, False)],
)
def test_with_confidence_the_whole_interval_has_to_be_above(interval, min_improvement, deployed) -> None:
    terms = Terms(confidence=0.95, min_improvement=min_improvement)
    found = verdict(model(2, 0.6), model(1, 0.5), terms, interval=interval)
    assert found.deploy is deployed
    assert f"95 % interval {interval[0]:+.2g} to +0.2" in found.reason
    assert ("is not shown with that confidence" in found.reason) is not deployed


@pytest.mark.parametrize(("base", "deployed"), [(0.1, True), (0.6, False), (0.7, False)])
@pytest.mark.parametrize("live", [model(1, 0.5), None])
def test_the_baseline_is_a_gate_where_it_is_asked_for(base: float, deployed: bool, live: ModelRecord | None) -> None:
    gated = verdict(model(2, 0.6), live, Terms(must_beat_baseline=True), baseline_score=base)
    assert gated.deploy is deployed
    assert ("does not beat the baseline" in gated.reason) is not deployed
    assert verdict(model(2, 0.6), live, baseline_score=base).deploy


def test_what_could_not_be_compared_keeps_the_live_model_whatever_was_recorded() -> None:
    for basis in (Basis.NOT_COMPARABLE, Basis.UNREACHABLE, Basis.UNPROVEN):
        found = verdict(model(2, 0.9), model(1, 0.1), basis=basis, obstacle="the disk is gone")
        assert (found.deploy, found.reason) == (False, "svm (model 1) stays live: the disk is gone")
    assert verdict(model(2, 0.9), None, basis=Basis.UNPROVEN, obstacle="why").reason == "nothing goes live: why"


def test_a_live_model_in_quarantine_does_not_defend_itself_and_a_challenger_in_it_never_wins() -> None:
    held = dataclasses.replace(model(1, 0.9), quarantine="wrong labels")
    found = verdict(model(2, 0.1), held, basis=Basis.QUARANTINED, live_score=None, live_quarantined=True)
    assert found.deploy
    assert "replaces svm (model 1), which is in quarantine" in found.reason
    assert not verdict(held, model(2, 0.1)).deploy


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        model(1, 0.5).score = 0.9

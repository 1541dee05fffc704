"""The automatic rule, by itself."""

import dataclasses
from datetime import UTC, datetime

import pytest

from registry.values import ModelRecord
from registry.vocabulary import Status, Task
from tasks.promotion import beats, best, recorded_scores


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
    assert best([model(1, 0.7), model(2, 0.9), model(3, 0.9), model(4, None, Status.FAILED)]).id == 3
    assert best([model(1, None, Status.FAILED)]) is None
    assert best([]) is None


def test_the_verdict_is_in_words_that_can_be_checked() -> None:
    rule = recorded_scores(Task.REGRESSION)
    assert rule(model(2, 0.5), model(1, 0.4)).reason == (
        "svm (model 2) replaces svm (model 1): R2 0.5000 against 0.4000 (+0.1)"
    )
    assert rule(model(1, -0.5), None).reason.endswith("live: R2 -0.5000; it is worse than predicting the mean")
    assert "different rows: snapshots 2 and 1" in rule(model(2, 0.5, snapshot_id=2), model(1, 0.4)).reason


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        model(1, 0.5).score = 0.9

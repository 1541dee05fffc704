"""Eight processes at once, on SQLite and PostgreSQL: what they write must read as if they had taken turns."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from registry import queries

PROCESSES, ROUNDS = 8, 12

WORKER = """
import random, sys
from registry import session
from registry.errors import NoCandidate
from tests.support.story import Story
from registry.vocabulary import Strategy

number, rounds, by_hand = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
draw = random.Random(number)
Story.key = staticmethod(lambda keys=iter(range(10**6)): f"process-{number}-{next(keys)}")
story = Story()
for _ in range(rounds):
    story.promoted(story.trained(draw.random(), draw.choice(["svm", "linear"])))
    if by_hand:
        try:
            story.deploys(draw.choice(["best_score", "most_recent", "rollback"]))
        except NoCandidate:
            pass
session.close()
"""


def at_once(*, by_hand: bool) -> None:
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(number), str(ROUNDS), str(by_hand)],
            cwd=root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    failures = [error for process in processes if (error := process.communicate(timeout=300)[1])]
    assert not failures, failures[0][-2000:]


@pytest.mark.slow
def test_automatic_promotions_strictly_improve_and_the_best_is_live(registry_url: str) -> None:
    at_once(by_hand=False)
    rows = list(reversed(queries.history("churn")))
    scores = [row.score for row in rows]
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert all(earlier < later for earlier, later in pairwise(scores))
    best = max(draw for number in range(PROCESSES) for draw in _scores(number))
    assert queries.live_model("churn").score == best == scores[-1]
    assert len(queries.models("churn")) == PROCESSES * ROUNDS


@pytest.mark.slow
def test_with_people_deploying_meanwhile_each_promotion_still_beats_what_was_live(registry_url: str) -> None:
    at_once(by_hand=True)
    rows = list(reversed(queries.history("churn")))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    for earlier, later in pairwise(rows):
        assert later.model_id != earlier.model_id, "deploying what is live adds nothing"
        if later.strategy == "new_score":
            assert later.score > earlier.score
    for position, row in enumerate(rows):
        if row.strategy == "rollback":
            assert row.model_id == rows[position - 2].model_id


def _scores(number: int) -> list[float]:
    """What that process drew, in its order."""
    draw = random.Random(number)
    scores = []
    for _ in range(ROUNDS):
        scores.append(draw.random())
        draw.choice(["svm", "linear"])
    return scores

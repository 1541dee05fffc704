"""(c) An automatic deployment strictly improves on what was live at that very moment."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event

from registry.errors import RegistryConflict
from tests.support.expected_history import every_promise_is_kept, promotions_improve, rows_of
from tests.support.fork_server import ForkServer
from tests.support.size import sized, tell
from tests.support.story import Story
from tests.support.workers import Workers


@pytest.mark.parametrize("score", [0.7, 0.0, -0.3, 5e-324, 1e308])
def test_a_tie_keeps_the_live_model(story: Story, score: float) -> None:
    live = story.trained_and_promoted(score)
    assert not story.promoted(story.trained(score)).deployed
    assert story.history == [(1, "new_score", live)]


def test_zero_is_zero_whatever_its_sign(story: Story) -> None:
    live = story.trained_and_promoted(-0.0)
    assert not story.promoted(story.trained(0.0)).deployed
    assert story.live == live


@pytest.mark.parametrize(("lower", "higher"), [(0.7, math.nextafter(0.7, 1)), (-5e-324, 0.0), (-1e308, 1e308)])
def test_the_smallest_and_the_largest_gain_win(story: Story, lower: float, higher: float) -> None:
    story.trained_and_promoted(lower)
    assert story.promoted(story.trained(higher)).deployed


def test_scores_are_numbers_not_texts(story: Story) -> None:
    """As texts 9.5e-05 would be above 0.91, and -0.5 above -0.1."""
    lowest, low, tiny, high = (story.trained(score) for score in (-0.5, -0.1, 9.5e-05, 0.91))
    assert story.deploys("best_score").model_id == high
    story.deploys("specific", model_id=lowest)
    assert [story.promoted(model).deployed for model in (low, tiny, high)] == [True, True, True]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_wins(story: Story, score: float) -> None:
    live, odd = story.trained_and_promoted(0.7), story.started()
    with pytest.raises(RegistryConflict):
        story.finish(odd.id, score)
    assert not story.promoted(odd.id).deployed
    assert not story.deploys("best_score").changed
    assert story.live == live


def test_a_promotion_that_another_one_overtakes(story: Story) -> None:
    """The first has read what is live, and waits; meanwhile a better one comes. It has to wait, too: else the first
    would go live on top of it."""
    story.trained_and_promoted(0.5)
    slow, better = story.trained(0.6), story.trained(0.9)
    paused, overtaken = threading.Event(), threading.Event()

    def pause(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        here = threading.current_thread().name.startswith("slow") and not paused.is_set()
        reads_live = statement.startswith("SELECT") and "ORDER BY deployments.seq DESC" in statement
        if here and reads_live and connection.get_execution_options().get("write"):
            paused.set()
            overtaken.wait(1.5)  # it is not where promotions take turns: then this is how long they take

    event.listen(Engine, "after_cursor_execute", pause)
    try:
        with ThreadPoolExecutor(1, "slow") as one, ThreadPoolExecutor(1, "quick") as other:
            first = one.submit(story.promoted, slow)
            assert paused.wait(30)
            second = other.submit(story.promoted, better)
            second.add_done_callback(lambda _: overtaken.set())
            assert first.result(60).deployed
            assert second.result(60).deployed
    finally:
        event.remove(Engine, "after_cursor_execute", pause)
    promotions_improve("churn", rows_of("churn"))
    assert story.live == better


@pytest.mark.slow
def test_sixteen_processes_at_once(registry_url: str, fork_server: ForkServer) -> None:
    workers = Workers(fork_server, 16, seed=1)
    workers.work(actions=sized(300))
    workers.go_home()
    rows = every_promise_is_kept()
    tell(test="sixteen", registry=registry_url.partition(":")[0], acknowledged=workers.done(), deployments=len(rows))
    assert {row.strategy for row in rows} == {"new_score", "best_score", "most_recent", "rollback", "specific"}

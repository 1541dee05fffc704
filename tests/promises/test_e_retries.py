"""(e) Retries are idempotent: the same request again adds nothing and is answered as before."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import history, lifecycle, queries
from tests.support.story import Story


@pytest.mark.parametrize("strategy", ["best_score", "most_recent", "rollback", "specific"])
def test_a_deploy_again_whatever_came_between(story: Story, strategy: str) -> None:
    oldest = story.trained_and_promoted(0.3)
    middle = story.trained_and_promoted(0.4)
    story.trained(0.9)
    wish = {"model_id": oldest} if strategy == "specific" else {}
    once = story.deploys(strategy, key="one click", **wish)
    assert once.changed
    story.deploys("specific", model_id=middle)
    story.trained_and_promoted(0.95)
    before = story.history
    assert story.deploys(strategy, key="one click", **wish) == history.find_deployment("one click") == once
    assert story.history == before


def test_a_promotion_again_whatever_came_between(story: Story) -> None:
    model, other = story.trained(0.7), story.trained(0.2)
    assert story.promoted(model, "run").deployed
    story.deploys("specific", model_id=other)
    again = story.promoted(model, "run")
    assert (again.deployed, again.live_model_id) == (True, other)
    assert [model_id for _, _, model_id in story.history] == [model, other]
    assert len(queries.decisions("churn")) == 1


def test_a_rejected_promotion_stays_rejected(story: Story) -> None:
    low, high = story.trained(0.1), story.trained_and_promoted(0.7)
    assert not story.promoted(low, "run").deployed
    story.deploys("specific", model_id=story.trained(0.05))
    assert not story.promoted(low, "run").deployed
    assert [model for _, _, model in story.history][:1] == [high]
    assert low not in [model for _, _, model in story.history]


def test_the_same_request_from_eight_at_once(story: Story) -> None:
    for score in (0.6, 0.7):
        story.trained_and_promoted(score)
    best = story.trained(0.9)
    with ThreadPoolExecutor(8) as pool:
        deploys = list(pool.map(lambda _: story.deploys("rollback", key="one click"), range(8)))
        promotions = list(pool.map(lambda _: story.promoted(best, "run"), range(8)))
        starts = list(pool.map(lambda _: lifecycle.start_model(story.snapshot, "svm", {}, "run:svm").id, range(8)))
    assert len(set(deploys)) == len(set(promotions)) == len(set(starts)) == 1
    assert [strategy for _, strategy, _ in story.history] == ["new_score", "new_score", "rollback", "new_score"]


def test_a_deploy_that_changed_nothing_is_asked_for_anew(story: Story) -> None:
    """It left nothing behind: the same request later is as if it had come later."""
    low, high = story.trained(0.1), story.trained_and_promoted(0.7)
    assert not story.deploys("best_score", key="one click").changed
    assert history.find_deployment("one click") is None
    story.deploys("specific", model_id=low)
    assert story.deploys("best_score", key="one click").model_id == high
    assert len(story.history) == 3

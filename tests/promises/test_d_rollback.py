"""(d) A rollback goes between the last two distinct models."""

from random import Random

import pytest

from registry.errors import NoCandidate
from tests.support.story import Story


def test_there_and_back_again_and_again(story: Story) -> None:
    first, second, third = (story.trained_and_promoted(score) for score in (0.6, 0.7, 0.8))
    assert [story.deploys("rollback").model_id for _ in range(5)] == [second, third, second, third, second]
    assert first not in [model for _, _, model in story.history[1:]]


def test_it_never_brings_back_what_is_live(story: Story) -> None:
    story.trained_and_promoted(0.6)
    story.trained_and_promoted(0.7)
    for _ in range(4):
        before, result = story.live, story.deploys("rollback")
        assert result.changed
        assert result.previous_model_id == before != result.model_id == story.live


def test_of_any_history_it_is_the_last_model_that_is_another(story: Story) -> None:
    draw, models = Random(0), [story.trained(0.5) for _ in range(4)]
    for _ in range(25):
        story.deploys("specific", model_id=draw.choice(models))
        lived = [model for _, _, model in story.history]
        others = [model for model in lived if model != lived[-1]]
        if not others:
            with pytest.raises(NoCandidate):
                story.deploys("rollback")
        elif draw.random() < 0.5:
            assert story.deploys("rollback").model_id == others[-1]

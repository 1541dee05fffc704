"""(b) The history is append-only, gapless and ordered."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import pytest
from sqlalchemy import text

from registry import queries, schema
from registry.errors import NoCandidate, RegistryConflict
from registry.session import transaction
from tests.support.expected_history import it_is_gapless, rows_of
from tests.support.story import Story


class Backwards(datetime):
    """A clock that goes back by an hour whenever it is looked at."""

    time = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        cls.time -= timedelta(hours=1)
        return cls.time.astimezone(tz)


class StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 1, 1, tzinfo=tz)


@pytest.mark.parametrize("clock", [Backwards, StoppedClock])
def test_the_clock_has_no_say_in_what_is_live(
    registry_url: str, monkeypatch: pytest.MonkeyPatch, clock: type[datetime]
) -> None:
    monkeypatch.setattr(schema, "datetime", clock)
    story = Story()
    first, second = story.trained_and_promoted(0.6), story.trained_and_promoted(0.7)
    newest = story.trained(0.5)
    assert story.live == queries.live_deployment("churn").id == second
    assert story.deploys("most_recent").model_id == newest
    assert story.deploys("rollback").model_id == second
    assert story.history == [
        (1, "new_score", first),
        (2, "new_score", second),
        (3, "most_recent", newest),
        (4, "rollback", second),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE deployments SET model_id = (SELECT min(id) FROM models)",
        "UPDATE deployments SET seq = seq + 1000",
        "UPDATE deployments SET deployed_at = '1999-01-01 00:00:00'",
        "DELETE FROM deployments",
        "DELETE FROM deployments WHERE seq = 2",
        "DELETE FROM models",
        "UPDATE decisions SET deployed = NOT deployed",
        "DELETE FROM decisions",
    ],
)
def test_nobody_rewrites_it_by_sql(story: Story, statement: str) -> None:
    models = [story.trained_and_promoted(score) for score in (0.6, 0.7)]
    with pytest.raises(RegistryConflict), transaction(write=True) as session:
        session.execute(text(statement))
    assert story.history == [(1, "new_score", models[0]), (2, "new_score", models[1])]


def test_what_is_refused_leaves_no_gap(story: Story) -> None:
    story.trained_and_promoted(0.6)
    with pytest.raises(NoCandidate):
        story.deploys("rollback")
    story.trained_and_promoted(0.5)  # it does not win
    story.deploys("best_score")  # it is live already
    taken = story.trained(0.7)
    story.deploys("specific", model_id=taken, key="taken")
    with pytest.raises(RegistryConflict):
        story.deploys("best_score", key="taken")
    story.trained_and_promoted(0.8)
    rows = rows_of("churn")
    it_is_gapless(rows)
    assert [row.strategy for row in rows] == ["new_score", "specific", "new_score"]

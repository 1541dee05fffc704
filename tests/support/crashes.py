"""A crash at every point of every write: the writes, and a process that kills itself at a given point.

The points are SQLAlchemy's events in writing transactions: after each statement, before the commit and after it. The
point before a statement is equivalent to the one after the previous statement; `TORTURE` tries both.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from registry import lifecycle, queries
from registry.schema import Decision, Deployment, Model, Project, Quarantine, Snapshot
from registry.session import transaction
from tests.support.actions import Retold
from tests.support.fork_server import killed
from tests.support.size import TORTURE
from tests.support.story import Story


def scene(project: str) -> dict[str, Any]:
    """Create a project for every write: two models were live, one is better, one is worse, one is being trained."""
    story = Story(project)
    for score in (0.5, 0.7):
        story.trained_and_promoted(score)
    return {"better": story.trained(0.9), "worse": story.trained(0.1), "begun": story.started().id}


# The writes, each on a scene and with a key. The same key again is a retry of the product.
WRITES: dict[str, Callable[[Story, dict[str, Any], str], Any]] = {
    "record_snapshot": lambda story, _, key: queries.find_snapshot(key) or story.new_snapshot(key),
    "start_model": lambda story, _, key: lifecycle.start_model(story.snapshot, "svm", {}, key),
    "finish_model": lambda story, models, _: story.finish(models["begun"], 0.8),
    "fail_model": lambda _, models, __: lifecycle.fail_model(models["begun"], "it could not be fitted", None),
    "promote": lambda story, models, key: story.promoted(models["better"], key),
    "promote, rejected": lambda story, models, key: story.promoted(models["worse"], key),
    "deploy": lambda story, _, key: story.deploys("rollback", key=key),
    "deploy with quarantine": lambda story, _, key: story.deploys(
        "rollback", key=key, quarantine=True, reason="it was bad"
    ),
}


def write(name: str, project: str, models: dict[str, Any], key: str, crash_at: int) -> None:
    """Run a write and crash at its `crash_at`-th point, or complete it if it has fewer."""
    story, point = Retold(project), 0

    def at_a_point(*about: Any) -> None:
        nonlocal point
        if _is_writing(about[0]):
            point += 1
            if point == crash_at:
                killed()

    for point_name in ("before_cursor_execute", "after_cursor_execute") if TORTURE else ("after_cursor_execute",):
        event.listen(Engine, point_name, at_a_point)
    event.listen(Engine, "commit", at_a_point)
    event.listen(Session, "after_commit", at_a_point)
    WRITES[name](story, models, key)


def _is_writing(at: Any) -> bool:
    engine = at.get_bind() if isinstance(at, Session) else at
    return bool(engine.get_execution_options().get("write"))


def remembered(project: str) -> dict[str, list[Any]]:
    """Return everything that the registry has of a project, with positions for models' ids and without timestamps."""
    with transaction() as session:
        project_id = session.scalars(select(Project.id).where(Project.name == project)).one()

        def rows(*columns: Any) -> list[Any]:
            table = columns[0].class_
            return [
                tuple(row)
                for row in session.execute(select(*columns).where(table.project_id == project_id).order_by(table.id))
            ]

        place = {model_id: number for number, (model_id,) in enumerate(rows(Model.id))}
        return {
            "snapshots": [relation for (relation,) in rows(Snapshot.relation_name)],
            "models": rows(Model.algorithm, Model.status, Model.score, Model.reason, Model.artifact_sha256),
            "deployments": [
                (seq, why, place[m]) for seq, why, m in rows(Deployment.seq, Deployment.strategy, Deployment.model_id)
            ],
            "decisions": [(place[m], done) for m, done in rows(Decision.challenger_id, Decision.deployed)],
            "quarantines": [(place[m], why) for m, why in rows(Quarantine.model_id, Quarantine.reason)],
        }

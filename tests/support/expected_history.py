"""Check a history against the acknowledged actions and against every promise that it can show."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import select

from registry.schema import Decision, Deployment, Model, Project
from registry.session import transaction
from tests.support.actions import acknowledged


@dataclass(frozen=True, slots=True)
class Row:
    seq: int
    strategy: str
    model_id: int
    score: float
    request_key: str


def rows_of(project: str) -> list[Row]:
    """Return the history in the order in which it was written."""
    statement = (
        select(Deployment, Model.score)
        .join(Model, Model.id == Deployment.model_id)
        .join(Project, Project.id == Deployment.project_id)
        .where(Project.name == project)
        .order_by(Deployment.id)
    )
    with transaction() as session:
        return [
            Row(row.seq, str(row.strategy), row.model_id, score, row.request_key)
            for row, score in session.execute(statement).tuples()
        ]


def answers() -> list[dict[str, Any]]:
    """Return the acknowledged actions of every worker in this folder."""
    return [answer for log in sorted(Path().glob("worker-*")) for answer in acknowledged(log)]


def nothing_is_lost(rows: list[Row], answers: list[dict[str, Any]]) -> None:
    """Check (a) and (e): every acknowledged deployment has its acknowledged place, and none is stored twice."""
    by_key = {row.request_key: row for row in rows}
    assert len(by_key) == len(rows), "two deployments have one key"
    for answer in answers:
        row = by_key.get(answer["request_key"])
        if answer["changed"]:
            assert row is not None, f"{answer} was acknowledged and is lost"
            assert (row.seq, row.model_id) == (answer["seq"], answer["model"])
        else:
            assert row is None, f"{answer} changed nothing, and yet there is {row}"


def it_is_gapless(rows: list[Row]) -> None:
    """Check (b)."""
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))


def promotions_improve(project: str, rows: list[Row]) -> None:
    """Check (c): each automatic deployment against the previous row and its receipt."""
    statement = select(Decision).join(Project, Project.id == Decision.project_id).where(Project.name == project)
    with transaction() as session:
        receipts = {row.request_key: row for row in session.scalars(statement)}
    promoted = {row.request_key for row in rows if row.strategy == "new_score"}
    assert promoted == {key for key, receipt in receipts.items() if receipt.deployed}
    for before, row in pairwise([None, *rows]):
        if row is None or row.strategy != "new_score":
            continue
        assert receipts[row.request_key].live_model_id == (before.model_id if before else None)
        assert before is None or row.score > before.score, f"{row} does not improve on {before}"


def rollbacks_go_back(rows: list[Row]) -> None:
    """Check (d): each row has another model than the previous one, so a rollback returns to the row before that."""
    for before, row in pairwise(rows):
        assert row.model_id != before.model_id, "deploying what is live adds nothing"
    for position, row in enumerate(rows):
        if row.strategy == "rollback":
            assert row.model_id == rows[position - 2].model_id


def every_promise_is_kept(project: str = "churn") -> list[Row]:
    rows = rows_of(project)
    nothing_is_lost(rows, answers())
    it_is_gapless(rows)
    promotions_improve(project, rows)
    rollbacks_go_back(rows)
    return rows

"""Find and lock rows. A missing row raises an error that names it."""

from typing import TypeVar

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from registry.errors import UnknownModel, UnknownProject, UnknownSnapshot
from registry.schema import Base, Model, Project, Snapshot

Row = TypeVar("Row", bound=Base)

ID_LIMIT = 2**63  # no database accepts a larger id


def find_row(session: Session, kind: type[Row], row_id: int | None) -> Row | None:
    """Return the row with this id; None also for a number that no database accepts as an id."""
    return session.get(kind, row_id) if row_id is not None and 0 < row_id < ID_LIMIT else None


def project_row(session: Session, name: str) -> Project:
    """Return the project. Raises: UnknownProject."""
    row = session.scalar(select(Project).where(Project.name == name))
    if row is None:
        raise unknown_project(session, name)
    return row


def model_row(session: Session, model_id: int) -> Model:
    """Return the model. Raises: UnknownModel."""
    row = find_row(session, Model, model_id)
    if row is None:
        raise UnknownModel(model_id)
    return row


def snapshot_row(session: Session, snapshot_id: int) -> Snapshot:
    """Return the snapshot. Raises: UnknownSnapshot."""
    row = find_row(session, Snapshot, snapshot_id)
    if row is None:
        raise UnknownSnapshot(snapshot_id)
    return row


def lock_project(session: Session, which: ColumnElement[bool]) -> Project | None:
    """Lock a project until the transaction ends and return it; None if there is no such project.

    Its `revision` is updated: PostgreSQL then locks the row and SQLite takes its write lock. What is read next
    (the live model, the newest `seq`) therefore stays true until the deployment is inserted.
    """
    return session.scalar(update(Project).where(which).values(revision=Project.revision + 1).returning(Project))


def lock_project_named(session: Session, name: str) -> Project:
    """Lock the project of this name and return it. Raises: UnknownProject."""
    project = lock_project(session, Project.name == name)
    if project is None:
        raise unknown_project(session, name)
    return project


def unknown_project(session: Session, name: str) -> UnknownProject:
    return UnknownProject(name, session.scalars(select(Project.name).order_by(Project.name)))

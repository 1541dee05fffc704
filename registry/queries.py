"""Questions about what is remembered; each answers with frozen values, never with rows of a session."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from registry.errors import NothingDeployed, NothingToTrainOn, UnknownDecision, UnknownModel
from registry.records import (
    decision_record,
    deployment_record,
    model_record,
    project_record,
    record,
    snapshot_record,
)
from registry.rows import ID_LIMIT, model_row, project_row, snapshot_row
from registry.schema import Decision, Deployment, Model, Project, Snapshot
from registry.session import exists, transaction
from registry.strategies import TRAINED, live
from registry.values import DecisionRecord, DeploymentRecord, LiveModel, ModelRecord, ProjectRecord, SnapshotRecord
from registry.vocabulary import Status


@dataclass(frozen=True, slots=True)
class ProjectSummary:
    """A project and what is live in it; the last six are None when nothing is, `quarantine` also when it is free."""

    project_name: str
    task: str
    trained_models: int
    model_id: int | None
    algorithm_name: str | None
    score: float | None
    strategy: str | None
    deployed_at: datetime | None
    quarantine: str | None


@dataclass(frozen=True, slots=True)
class Training:
    """One run's candidates, whether one of them is being trained, and when something was last heard of them."""

    models: tuple[ModelRecord, ...]
    going_on: bool
    last_sign: datetime


def find_project(name: str) -> ProjectRecord | None:
    if not exists():
        return None
    with transaction() as session:
        row = session.scalar(select(Project).where(Project.name == name))
        return project_record(row) if row else None


def project(name: str) -> ProjectRecord:
    """Raises: UnknownProject."""
    with transaction() as session:
        return project_record(project_row(session, name))


def projects() -> list[ProjectSummary]:
    """Every project by name, with its live deployment."""
    newest = (
        select(Deployment.project_id, func.max(Deployment.seq).label("seq")).group_by(Deployment.project_id).subquery()
    )
    trained = select(func.count()).where(Model.project_id == Project.id, TRAINED).correlate(Project).scalar_subquery()
    statement = (
        select(Project, trained, Deployment, Model)
        .outerjoin(newest, newest.c.project_id == Project.id)
        .outerjoin(Deployment, (Deployment.project_id == Project.id) & (Deployment.seq == newest.c.seq))
        .outerjoin(Model, Model.id == Deployment.model_id)
        .order_by(Project.name)
    )
    if not exists():
        return []
    with transaction() as session:
        return [
            ProjectSummary(
                project_name=row.name,
                task=row.task,
                trained_models=count,
                model_id=model and model.id,
                algorithm_name=model and model.algorithm,
                score=model and model.score,
                strategy=deployment and deployment.strategy,
                deployed_at=deployment and deployment.deployed_at,
                quarantine=model and model.quarantine,
            )
            for row, count, deployment, model in session.execute(statement).tuples()
        ]


def models(project_name: str) -> list[ModelRecord]:
    """Every model of a project, the newest first. Raises: UnknownProject."""
    return _models(project_name, Model.id.is_not(None))


def run_models(project_name: str, request_prefix: str) -> list[ModelRecord]:
    """The candidates of one training run. Raises: UnknownProject."""
    return _models(project_name, Model.request_key.startswith(request_prefix, autoescape=True))


def model(model_id: int) -> ModelRecord:
    """Raises: UnknownModel."""
    with transaction() as session:
        return model_record(model_row(session, model_id))


def live_model(project_name: str) -> ModelRecord | None:
    """The model that answers for this project now; None when nothing is deployed. Raises: UnknownProject."""
    with transaction() as session:
        row = session.scalar(live(project_row(session, project_name).id))
        return model_record(row) if row else None


def live_deployment(project_name: str) -> LiveModel:
    """What answers for this project now. Raises: UnknownProject, NothingDeployed."""
    with transaction() as session:
        project = project_row(session, project_name)
        statement = (
            select(Deployment.seq, Model, Snapshot.y_column_names)
            .join(Model, Model.id == Deployment.model_id)
            .join(Snapshot, Snapshot.id == Model.snapshot_id)
            .where(Deployment.project_id == project.id)
            .order_by(Deployment.seq.desc())
            .limit(1)
        )
        row = session.execute(statement).tuples().first()
        if row is None:
            raise NothingDeployed(project_name)
        seq, model, targets = row
        return record(
            LiveModel, model, seq=seq, project_name=project.name, task=project.task, y_column_names=tuple(targets)
        )


def history(project_name: str, limit: int | None = None) -> list[DeploymentRecord]:
    """The deployments of a project, the newest first: all, or so many. Raises: UnknownProject."""
    with transaction() as session:
        statement = (
            select(Deployment, Model)
            .join(Model, Model.id == Deployment.model_id)
            .where(Deployment.project_id == project_row(session, project_name).id)
            .order_by(Deployment.seq.desc())
            .limit(limit)
        )
        return [deployment_record(*row) for row in session.execute(statement).tuples()]


def decisions(project_name: str) -> list[DecisionRecord]:
    """Every automatic deploy that was tried in a project, the newest first. Raises: UnknownProject."""
    with transaction() as session:
        return _decisions(session, Decision.project_id == project_row(session, project_name).id)


def decision_for(model_id: int) -> DecisionRecord | None:
    """The receipt of the automatic deploy that made a model live; None where it never was by itself."""
    with transaction() as session:
        found = _decisions(session, and_(Decision.challenger_id == model_id, Decision.deployed))
        return found[0] if found else None


def decision(decision_id: int) -> DecisionRecord:
    """Raises: UnknownDecision."""
    with transaction() as session:
        found = _decisions(session, Decision.id == decision_id) if 0 < decision_id < ID_LIMIT else []
        if not found:
            raise UnknownDecision(decision_id)
        return found[0]


def last_sign() -> ColumnElement[datetime]:
    """When something was last heard of a candidate's process."""
    return func.coalesce(Model.heartbeat_at, Model.created_at)


def silent_models(project_name: str, since: datetime) -> list[ModelRecord]:
    """The candidates that are being trained by a process of which nothing was heard since. Raises: UnknownProject."""
    return _models(project_name, and_(Model.status == Status.RUNNING, last_sign() <= since))


def unfinished_pruning(project_name: str) -> tuple[list[ModelRecord], list[SnapshotRecord]]:
    """What was pruned and may still have files or runs in MLflow. Raises: UnknownProject."""
    left = or_(Model.artifact_uri.is_not(None), Model.mlflow_run_id.is_not(None))
    models = _models(project_name, and_(Model.status == Status.PRUNED, left))
    with transaction() as session:
        of_project = Snapshot.project_id == project_row(session, project_name).id
        rows = select(Snapshot).where(of_project, Snapshot.pruned_at.is_not(None), Snapshot.artifact_uri != "")
        return models, [snapshot_record(row) for row in session.scalars(rows.order_by(Snapshot.id))]


def trainings(project_name: str) -> dict[str, Training]:
    """What is known of every training of a project, by the key that MLflow's runs carry. Raises: UnknownProject."""
    with transaction() as session:
        found: dict[str, Training] = {}
        models = select(Model).where(Model.project_id == project_row(session, project_name).id).order_by(Model.id)
        for row in session.scalars(models):
            key = row.request_key.rpartition(":")[0]
            before = found.get(key, Training((), False, row.created_at))
            signs = [sign for sign in (before.last_sign, row.heartbeat_at, row.finished_at) if sign]
            going_on = before.going_on or row.status is Status.RUNNING
            found[key] = Training((*before.models, model_record(row)), going_on, max(signs))
        return found


def mirrored_seq(project_name: str) -> int | None:
    """The newest deployment that MLflow's alias was made to name; None: none was. Raises: UnknownProject."""
    with transaction() as session:
        return session.scalar(select(Project.mirrored_seq).where(Project.id == project_row(session, project_name).id))


def golden(model_id: int) -> tuple[list[list[Any]], list[Any]]:
    """Some rows of a model's snapshot and what it answered for them at training. Raises: UnknownModel."""
    with transaction() as session:
        statement = (
            select(Snapshot.golden_rows, Model.golden)
            .join(Snapshot, Snapshot.id == Model.snapshot_id)
            .where(Model.id == model_id)
        )
        row = session.execute(statement).tuples().first()
        if row is None:
            raise UnknownModel(model_id)
        return row[0], row[1] or []


def snapshot(snapshot_id: int) -> SnapshotRecord:
    """Raises: UnknownSnapshot."""
    with transaction() as session:
        return snapshot_record(snapshot_row(session, snapshot_id))


def snapshot_statistics(snapshot_id: int) -> list[dict[str, Any]]:
    """Those of each column, in order. Raises: UnknownSnapshot."""
    with transaction() as session:
        return snapshot_row(session, snapshot_id).statistics


def find_snapshot(request_key: str) -> SnapshotRecord | None:
    """The rows that an earlier try of the same training froze, or those that its candidates began with."""
    candidates = select(Model.snapshot_id).where(Model.request_key.startswith(f"{request_key}:", autoescape=True))
    if not exists():
        return None
    with transaction() as session:
        statement = select(Snapshot).where((Snapshot.request_key == request_key) | Snapshot.id.in_(candidates))
        row = session.scalar(statement.order_by(Snapshot.id).limit(1))
        return snapshot_record(row) if row else None


def newest_snapshot(project_name: str) -> SnapshotRecord:
    """Raises: UnknownProject, NothingToTrainOn."""
    with transaction() as session:
        statement = (
            select(Snapshot)
            .where(Snapshot.project_id == project_row(session, project_name).id)
            .order_by(Snapshot.id.desc())
            .limit(1)
        )
        row = session.scalar(statement)
        if row is None:
            raise NothingToTrainOn(project_name)
        return snapshot_record(row)


def _decisions(session: Session, which: ColumnElement[bool]) -> list[DecisionRecord]:
    statement = (
        select(Decision, Project.name, Model.algorithm)
        .join(Project, Project.id == Decision.project_id)
        .join(Model, Model.id == Decision.challenger_id)
        .where(which)
        .order_by(Decision.id.desc())
    )
    return [decision_record(*row) for row in session.execute(statement).tuples()]


def _models(project_name: str, which: ColumnElement[bool]) -> list[ModelRecord]:
    with transaction() as session:
        statement = (
            select(Model)
            .where(Model.project_id == project_row(session, project_name).id, which)
            .order_by(Model.id.desc())
        )
        return [model_record(row) for row in session.scalars(statement)]

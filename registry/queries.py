"""Queries of the registry. They return frozen values, never rows of a session."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from registry.errors import NothingDeployed, NothingToTrainOn, UnknownDecision, UnknownModel
from registry.records import decision_record, deployment_record, model_record, record, snapshot_record
from registry.rows import ID_LIMIT, model_row, project_row, snapshot_row
from registry.schema import Decision, Deployment, Model, Project, Snapshot
from registry.session import exists, transaction
from registry.strategies import TRAINED, live
from registry.values import DecisionRecord, DeploymentRecord, LiveModel, ModelRecord, ProjectRecord, SnapshotRecord
from registry.vocabulary import Status


@dataclass(frozen=True, slots=True)
class ProjectSummary:
    """A project and its live model. The last six are None without one, `quarantine` also if it is not in quarantine."""

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
    """The candidates of one run, whether one is being trained, and the time of the last sign of life."""

    models: tuple[ModelRecord, ...]
    going_on: bool
    last_sign: datetime


def find_project(name: str) -> ProjectRecord | None:
    if not exists():
        return None
    with transaction() as session:
        row = session.scalar(select(Project).where(Project.name == name))
        return record(ProjectRecord, row) if row else None


def project(name: str) -> ProjectRecord:
    """Return a project. Raises: UnknownProject."""
    with transaction() as session:
        return record(ProjectRecord, project_row(session, name))


def projects() -> list[ProjectSummary]:
    """Return every project by name, with its live model."""
    newest = (
        select(Deployment.project_id, func.max(Deployment.seq).label("seq")).group_by(Deployment.project_id).subquery()
    )
    trained = select(func.count()).where(Model.project_id == Project.id, TRAINED).correlate(Project).scalar_subquery()
    statement = (
        select(
            Project.name.label("project_name"),
            Project.task,
            trained.label("trained_models"),
            Model.id.label("model_id"),
            Model.algorithm.label("algorithm_name"),
            Model.score,
            Deployment.strategy,
            Deployment.deployed_at,
            Model.quarantine,
        )
        .outerjoin(newest, newest.c.project_id == Project.id)
        .outerjoin(Deployment, (Deployment.project_id == Project.id) & (Deployment.seq == newest.c.seq))
        .outerjoin(Model, Model.id == Deployment.model_id)
        .order_by(Project.name)
    )
    if not exists():
        return []
    with transaction() as session:
        return [ProjectSummary(**row) for row in session.execute(statement).mappings()]


def models(project_name: str) -> list[ModelRecord]:
    """Return every model of a project, the newest first. Raises: UnknownProject."""
    return _models(project_name)


def run_models(project_name: str, request_prefix: str) -> list[ModelRecord]:
    """Return the candidates of one training run. Raises: UnknownProject."""
    return _models(project_name, Model.request_key.startswith(request_prefix, autoescape=True))


def model(model_id: int) -> ModelRecord:
    """Return a model. Raises: UnknownModel."""
    with transaction() as session:
        return model_record(model_row(session, model_id))


def live_model(project_name: str) -> ModelRecord | None:
    """Return the live model of a project; None if nothing is deployed. Raises: UnknownProject."""
    with transaction() as session:
        row = session.scalar(live(project_row(session, project_name).id))
        return model_record(row) if row else None


def live_deployment(project_name: str) -> LiveModel:
    """Return the live model with its deployment. Raises: UnknownProject, NothingDeployed."""
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
    """Return the deployments of a project, the newest first, at most `limit`. Raises: UnknownProject."""
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
    """Return the decisions of a project, the newest first. Raises: UnknownProject."""
    with transaction() as session:
        return _decisions(session, Decision.project_id == project_row(session, project_name).id)


def decision_for(model_id: int) -> DecisionRecord | None:
    """Return the receipt of the automatic deploy of a model; None if it was never deployed automatically."""
    with transaction() as session:
        found = _decisions(session, Decision.challenger_id == model_id, Decision.deployed.is_(True))
        return found[0] if found else None


def decision(decision_id: int) -> DecisionRecord:
    """Return the receipt of a decision. Raises: UnknownDecision."""
    with transaction() as session:
        found = _decisions(session, Decision.id == decision_id) if 0 < decision_id < ID_LIMIT else []
        if not found:
            raise UnknownDecision(decision_id)
        return found[0]


def last_sign() -> ColumnElement[datetime]:
    """Return the time of the last sign of life of a candidate's process, as an expression."""
    return func.coalesce(Model.heartbeat_at, Model.created_at)


def silent_models(project_name: str, since: datetime) -> list[ModelRecord]:
    """Return the running candidates whose process has given no sign of life since then. Raises: UnknownProject."""
    return _models(project_name, Model.status == Status.RUNNING, last_sign() <= since)


def unfinished_pruning(project_name: str) -> tuple[list[ModelRecord], list[SnapshotRecord]]:
    """Return pruned models and snapshots that may still have files or MLflow runs. Raises: UnknownProject."""
    left = or_(Model.artifact_uri.is_not(None), Model.mlflow_run_id.is_not(None))
    models = _models(project_name, Model.status == Status.PRUNED, left)
    with transaction() as session:
        of_project = Snapshot.project_id == project_row(session, project_name).id
        rows = select(Snapshot).where(of_project, Snapshot.pruned_at.is_not(None), Snapshot.artifact_uri != "")
        return models, [snapshot_record(row) for row in session.scalars(rows.order_by(Snapshot.id))]


def trainings(project_name: str) -> dict[str, Training]:
    """Return every training of a project, by the key that its MLflow runs carry. Raises: UnknownProject."""
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
    """Return the newest deployment that MLflow's alias was set for; None without one. Raises: UnknownProject."""
    with transaction() as session:
        return session.scalar(select(Project.mirrored_seq).where(Project.id == project_row(session, project_name).id))


def golden(model_id: int) -> tuple[list[list[Any]], list[Any]]:
    """Return golden rows of a model's snapshot and its answers for them at training. Raises: UnknownModel."""
    with transaction() as session:
        statement = select(Snapshot.golden_rows, Model.golden).join(Snapshot, Snapshot.id == Model.snapshot_id)
        row = session.execute(statement.where(Model.id == model_id)).tuples().first()
        if row is None:
            raise UnknownModel(model_id)
        return row[0], row[1] or []


def snapshot(snapshot_id: int) -> SnapshotRecord:
    """Return a snapshot. Raises: UnknownSnapshot."""
    with transaction() as session:
        return snapshot_record(snapshot_row(session, snapshot_id))


def snapshot_statistics(snapshot_id: int) -> list[dict[str, Any]]:
    """Return the statistics of each column, in order. Raises: UnknownSnapshot."""
    with transaction() as session:
        return snapshot_row(session, snapshot_id).statistics


def find_snapshot(request_key: str) -> SnapshotRecord | None:
    """Return the snapshot that an earlier attempt of a training recorded or its candidates use; None without one."""
    candidates = select(Model.snapshot_id).where(Model.request_key.startswith(f"{request_key}:", autoescape=True))
    if not exists():
        return None
    with transaction() as session:
        statement = select(Snapshot).where((Snapshot.request_key == request_key) | Snapshot.id.in_(candidates))
        row = session.scalar(statement.order_by(Snapshot.id).limit(1))
        return snapshot_record(row) if row else None


def newest_snapshot(project_name: str) -> SnapshotRecord:
    """Return the newest snapshot of a project. Raises: UnknownProject, NothingToTrainOn."""
    with transaction() as session:
        snapshots = select(Snapshot).where(Snapshot.project_id == project_row(session, project_name).id)
        row = session.scalar(snapshots.order_by(Snapshot.id.desc()).limit(1))
        if row is None:
            raise NothingToTrainOn(project_name)
        return snapshot_record(row)


def _decisions(session: Session, *conditions: ColumnElement[bool]) -> list[DecisionRecord]:
    statement = (
        select(Decision, Project.name, Model.algorithm)
        .join(Project, Project.id == Decision.project_id)
        .join(Model, Model.id == Decision.challenger_id)
        .where(*conditions)
        .order_by(Decision.id.desc())
    )
    return [decision_record(*row) for row in session.execute(statement).tuples()]


def _models(project_name: str, *conditions: ColumnElement[bool]) -> list[ModelRecord]:
    with transaction() as session:
        models = select(Model).where(Model.project_id == project_row(session, project_name).id, *conditions)
        return [model_record(row) for row in session.scalars(models.order_by(Model.id.desc()))]

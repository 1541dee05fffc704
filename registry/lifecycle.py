"""Record snapshots and models, and the changes of their status. Each function is one transaction."""

from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.errors import Pruned, TaskMismatch
from registry.queries import last_sign
from registry.records import model_record, snapshot_record
from registry.retention import Keep, prunable_models, prunable_snapshots
from registry.rows import lock_project_named, model_row
from registry.schema import Model, Project, Snapshot, now
from registry.session import transaction
from registry.values import Artifact, ModelRecord, NewSnapshot, Pruning, SnapshotRecord
from registry.vocabulary import Status, Task

Row = TypeVar("Row", Project, Model)

DONE = (Status.TRAINED, Status.PRUNED)  # such a model never changes again
UNDECIDED = (Status.RUNNING, Status.FAILED)  # a failed model may still be trained if its process only seemed lost


def record_snapshot(project_name: str, task: Task, new: NewSnapshot, request_key: str) -> SnapshotRecord:
    """Record frozen rows. The project is created with its first snapshot. Raises: TaskMismatch."""
    with transaction(write=True) as session:
        named = select(Project).where(Project.name == project_name)
        project = _find_or_add(session, named, Project(name=project_name, task=task))
        if project.task != task:
            raise TaskMismatch(project_name, project.task, task)
        columns = {field.name: getattr(new, field.name) for field in fields(new)}
        snapshot = Snapshot(project_id=project.id, request_key=request_key, **columns)
        session.add(snapshot)
        session.flush()
        return snapshot_record(snapshot)


def start_model(
    snapshot: SnapshotRecord, algorithm: str, hyperparams: dict[str, Any], request_key: str, *, again: bool = True
) -> ModelRecord:
    """Record a candidate as running, once for each key.

    With a repeated key, a trained candidate is returned as it is, and a failed or cancelled one starts again. With
    `again=False` a cancelled candidate stays cancelled, because its run is ending. Raises: Pruned.
    """
    with transaction(write=True) as session:
        rows = select(Snapshot.pruned_at).where(Snapshot.id == snapshot.id).with_for_update(read=True)
        if session.scalars(rows).one() is not None:  # the lock keeps a prune out until this ends
            raise Pruned(f"the rows of snapshot {snapshot.id} are gone, it was pruned: train on a relation")
        new = Model(
            project_id=snapshot.project_id,
            snapshot_id=snapshot.id,
            algorithm=algorithm,
            hyperparams=hyperparams,
            preprocessing={},
            metrics={},
            request_key=request_key,
            status=Status.RUNNING,
        )
        model = _find_or_add(session, select(Model).where(Model.request_key == request_key), new)
        if model.status not in DONE and (again or model.status is not Status.CANCELLED):
            model.status, model.reason, model.finished_at = Status.RUNNING, None, None
            model.snapshot_id, model.heartbeat_at = snapshot.id, now()
            session.flush()
        return model_record(model)


def finish_model(
    model_id: int,
    *,
    hyperparams: dict[str, Any],
    preprocessing: dict[str, dict[str, Any]],
    score: float,
    metrics: dict[str, float],
    golden: list[Any],
    artifact: Artifact,
    mlflow_run_id: str,
    mlflow_model_id: str,
) -> ModelRecord:
    """Record a candidate as trained, once; any strategy may choose it from now on.

    `hyperparams` are those that it was fitted with, including the result of a search. `golden` are its answers for the
    snapshot's golden rows.
    """
    with transaction(write=True) as session:
        model = model_row(session, model_id)
        if model.status in UNDECIDED:  # a trained model may be live, so it never changes
            model.status, model.reason, model.finished_at = Status.TRAINED, None, now()
            model.hyperparams, model.preprocessing = hyperparams, preprocessing
            model.score, model.metrics, model.golden = score, metrics, golden
            model.artifact = artifact
            model.mlflow_run_id, model.mlflow_model_id = mlflow_run_id, mlflow_model_id
            session.flush()
        return model_record(model)


def fail_model(model_id: int, reason: str, mlflow_run_id: str | None) -> ModelRecord:
    """Record a candidate as failed, unless it is trained or cancelled."""
    with transaction(write=True) as session:
        model = model_row(session, model_id)
        if model.status in UNDECIDED:  # another attempt may have trained the candidate
            model.status, model.finished_at = Status.FAILED, now()
            model.reason, model.mlflow_run_id = reason, mlflow_run_id
            session.flush()
        return model_record(model)


def beat(request_prefix: str) -> None:
    """Record that the process that trains these candidates is alive."""
    with transaction(write=True) as session:
        session.execute(update(Model).where(*_running(request_prefix)).values(heartbeat_at=now()))


def cancel_models(request_prefix: str, reason: str) -> None:
    """Record the running candidates of one run as cancelled; a retry of the run may start them again."""
    with transaction(write=True) as session:
        cancelled = {"status": Status.CANCELLED, "reason": reason, "finished_at": now()}
        session.execute(update(Model).where(*_running(request_prefix)).values(cancelled))


def fail_lost(model_id: int, silent_since: datetime) -> bool:
    """Record a candidate as failed if its process sent no heartbeat since then; return False if it did or has ended."""
    with transaction(write=True) as session:
        reason = f"its process was lost: there was no sign of it since {silent_since:%Y-%m-%d %H:%M:%S} UTC"
        lost = update(Model).where(Model.id == model_id, Model.status == Status.RUNNING, last_sign() <= silent_since)
        done = session.execute(lost.values(status=Status.FAILED, reason=reason, finished_at=now()).returning(Model.id))
        return done.first() is not None


def prune(project_name: str, keep: Keep) -> Pruning:
    """Mark everything that is not kept as pruned; the caller then deletes the files. Raises: UnknownProject."""
    with transaction(write=True) as session:
        project = lock_project_named(session, project_name)
        # With these locks, a candidate on one of the snapshots has started before and is seen, or is refused later.
        session.execute(select(Snapshot.id).where(Snapshot.project_id == project.id).with_for_update()).all()
        models = prunable_models(session, project.id, keep)
        for model in models:
            model.status = Status.PRUNED
        snapshots = prunable_snapshots(session, project.id, {model.id for model in models})
        for snapshot in snapshots:
            snapshot.pruned_at = now()
        return Pruning(tuple(model.id for model in models), tuple(snapshot.id for snapshot in snapshots))


def forget_model_files(model_id: int) -> None:
    """Record that the files and the MLflow run of a pruned model are gone."""
    with transaction(write=True) as session:
        model = model_row(session, model_id)
        assert model.status is Status.PRUNED, "only what was pruned loses its files"
        model.artifact = None
        model.mlflow_run_id = model.mlflow_model_id = None


def forget_snapshot_files(snapshot_id: int) -> None:
    """Record that the files of a pruned snapshot are gone."""
    with transaction(write=True) as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        assert snapshot.pruned_at is not None, "only what was pruned loses its files"
        snapshot.artifact_uri = snapshot.hashes_uri = ""


def _find_or_add(session: Session, statement: Select[tuple[Row]], new: Row) -> Row:
    """Return the row that the statement finds; add `new` if there is none."""
    found = session.scalar(statement)
    if found is not None:
        return found
    with suppress(IntegrityError), session.begin_nested():  # another process may have added it since
        session.add(new)
    return session.scalars(statement).one()


def _running(request_prefix: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Model.status == Status.RUNNING, Model.request_key.startswith(request_prefix, autoescape=True)

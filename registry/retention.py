"""What a prune keeps of a project, and what it takes; `lifecycle.prune` asks while every promotion has to wait."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry.queries import project
from registry.schema import Deployment, Model, Snapshot, now
from registry.session import transaction
from registry.strategies import TRAINED, live, rollback
from registry.values import Pruning
from registry.vocabulary import Status

BEGINS = timedelta(hours=1)  # a training that froze its rows has begun its candidates by then
PRUNABLE = (Status.TRAINED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class Keep:
    """How much is kept: the models of so many of the newest `deployments`, and so many `models` of the newest trained,
    and as many of the best."""

    deployments: int = 10
    models: int = 20


def prunable_models(session: Session, project_id: int, keep: Keep) -> list[Model]:
    """Those that are neither live, nor of one of the newest deployments, nor what a rollback would bring back, nor of
    the newest or the best of the trained; never one that is being trained."""
    kept: set[int] = set()
    for wanted in _kept(project_id, keep):
        kept.update(session.scalars(wanted))
    models = select(Model).where(Model.project_id == project_id, Model.status.in_(PRUNABLE)).order_by(Model.id)
    return [model for model in session.scalars(models) if model.id not in kept]


def prunable_snapshots(session: Session, project_id: int, without: set[int]) -> list[Snapshot]:
    """Those that are not the newest, and that only pruned models were trained on, those `without` among them; one that
    nothing was trained on after an hour.

    A decision that can be computed again needs no other: what it measured are models, on their own snapshots.
    """
    newest = session.scalar(select(func.max(Snapshot.id)).where(Snapshot.project_id == project_id))
    models = select(Model.id, Model.snapshot_id, Model.status).where(Model.project_id == project_id)
    used, kept = set(), {newest}
    for model_id, snapshot_id, status in session.execute(models).tuples():
        used.add(snapshot_id)
        if status is not Status.PRUNED and model_id not in without:
            kept.add(snapshot_id)
    snapshots = select(Snapshot).where(Snapshot.project_id == project_id, Snapshot.pruned_at.is_(None))
    young = now() - BEGINS
    return [
        row
        for row in session.scalars(snapshots.order_by(Snapshot.id))
        if row.id not in kept and (row.id in used or row.created_at < young)
    ]


def planned(project_name: str, keep: Keep) -> Pruning:
    """What a prune would take now; nothing is changed. Raises: UnknownProject."""
    project_id = project(project_name).id
    with transaction() as session:
        model_ids = tuple(model.id for model in prunable_models(session, project_id, keep))
        snapshots = prunable_snapshots(session, project_id, set(model_ids))
        return Pruning(model_ids, tuple(snapshot.id for snapshot in snapshots))


def _kept(project_id: int, keep: Keep) -> list[Select[tuple[int]]]:
    deployed = select(Deployment.model_id).where(Deployment.project_id == project_id)
    trained = select(Model.id).where(Model.project_id == project_id, TRAINED)
    return [
        live(project_id).with_only_columns(Model.id),
        rollback(project_id).with_only_columns(Model.id),
        deployed.order_by(Deployment.seq.desc()).limit(keep.deployments),
        trained.order_by(Model.id.desc()).limit(keep.models),
        trained.order_by(Model.score.desc(), Model.id.desc()).limit(keep.models),
    ]

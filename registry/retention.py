"""The models and snapshots that a prune takes; `lifecycle.prune` selects them while every promotion waits."""

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

GRACE_PERIOD = timedelta(hours=1)  # a training that froze its rows has begun its candidates by then
PRUNABLE = (Status.TRAINED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class Keep:
    """How much is kept: the models of the newest `deployments`, and so many `models`, of the newest and of the best."""

    deployments: int = 10
    models: int = 20


def prunable_models(session: Session, project_id: int, keep: Keep) -> list[Model]:
    """Return the models to prune, none of which is being trained.

    Kept are the live model, those of the newest deployments, the one that a rollback would bring back, and the newest
    and the best of the trained models.
    """
    kept: set[int] = set()
    for wanted in _kept(project_id, keep):
        kept.update(session.scalars(wanted))
    models = select(Model).where(Model.project_id == project_id, Model.status.in_(PRUNABLE)).order_by(Model.id)
    return [model for model in session.scalars(models) if model.id not in kept]


def prunable_snapshots(session: Session, project_id: int, without: set[int]) -> list[Snapshot]:
    """Return the snapshots to prune: those whose models are all pruned, or are among the ids in `without`.

    The newest snapshot is kept, and one that nothing was trained on yet is kept for an hour. A decision that can be
    computed again needs no other snapshots, as it measured models on their own.
    """
    newest = session.scalar(select(func.max(Snapshot.id)).where(Snapshot.project_id == project_id))
    models = select(Model.id, Model.snapshot_id, Model.status).where(Model.project_id == project_id)
    used, kept = set(), {newest}
    for model_id, snapshot_id, status in session.execute(models).tuples():
        used.add(snapshot_id)
        if status is not Status.PRUNED and model_id not in without:
            kept.add(snapshot_id)
    snapshots = select(Snapshot).where(Snapshot.project_id == project_id, Snapshot.pruned_at.is_(None))
    young = now() - GRACE_PERIOD
    return [
        row
        for row in session.scalars(snapshots.order_by(Snapshot.id))
        if row.id not in kept and (row.id in used or row.created_at < young)
    ]


def planned(project_name: str, keep: Keep) -> Pruning:
    """Return what a prune would take now; nothing is changed. Raises: UnknownProject."""
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

"""Select the models and snapshots to prune; `lifecycle.prune` does so while every promotion of the project waits."""

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

GRACE_PERIOD = timedelta(hours=1)  # a training has started its candidates this long after it froze its rows


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the models of the newest `deployments`, the newest `models`, and as many of the best ones."""

    deployments: int = 10
    models: int = 20


def prunable_models(session: Session, project_id: int, keep: Keep) -> list[Model]:
    """Return the models to prune, none of which is being trained.

    The live model, the models of the newest deployments, the model that a rollback would bring back, and the newest and
    the best of the trained models are kept.
    """
    kept = {model_id for statement in _kept(project_id, keep) for model_id in session.scalars(statement)}
    models = (
        select(Model)
        .where(Model.project_id == project_id, Model.status.not_in((Status.RUNNING, Status.PRUNED)))
        .order_by(Model.id)
    )
    return [model for model in session.scalars(models) if model.id not in kept]


def prunable_snapshots(session: Session, project_id: int, without: set[int]) -> list[Snapshot]:
    """Return the snapshots to prune: those whose models are all pruned or among the ids in `without`.

    The newest snapshot is kept, and an unused one for GRACE_PERIOD. Replaying a decision needs no other snapshots,
    because it measures models on their own rows.
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


def plan_prune(project_name: str, keep: Keep) -> Pruning:
    """Return the models and snapshots that a prune would take now. Raises: UnknownProject."""
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

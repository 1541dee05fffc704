"""The live model, and the model that each strategy would deploy: each is one Select of at most one model.

No strategy chooses a model in quarantine, but a live one stays live until another is deployed. A pruned model has no
file any more and is never chosen. The strategies are those of PostgresML's pgml.deploy, with numeric order for scores
and `id`/`seq` for time.
"""

from sqlalchemy import ColumnElement, Select, exists, literal_column, select
from sqlalchemy.orm import aliased

from registry.schema import Deployment, Model

# A literal, not a parameter: SQLite uses a partial index only if its condition is written out in the statement.
TRAINED = Model.status == literal_column("'trained'")
FREE: ColumnElement[bool] = Model.quarantine.is_(None)


def live(project_id: int) -> Select[tuple[Model]]:
    """Return the model of the newest deployment."""
    return _deployed(project_id).order_by(Deployment.seq.desc()).limit(1)


def best_score(project_id: int, algorithm_name: str | None = None) -> Select[tuple[Model]]:
    """Return the trained model with the highest key metric; ties go to the newest."""
    return _of(algorithm_name, _trained(project_id)).order_by(Model.score.desc(), Model.id.desc()).limit(1)


def most_recent(project_id: int, algorithm_name: str | None = None) -> Select[tuple[Model]]:
    """Return the newest trained model."""
    return _of(algorithm_name, _trained(project_id)).order_by(Model.id.desc()).limit(1)


def rollback(project_id: int, algorithm_name: str | None = None, steps: int = 1) -> Select[tuple[Model]]:
    """Return the last deployed model other than the live one, or with `steps` an earlier one. Two calls cancel out."""
    live_id = live(project_id).with_only_columns(Model.id).scalar_subquery()
    later = aliased(Deployment)
    deployed_later = exists().where(
        later.project_id == Deployment.project_id,
        later.model_id == Deployment.model_id,
        later.seq > Deployment.seq,
    )
    earlier = _deployed(project_id).where(Model.id != live_id, TRAINED, FREE)
    if steps > 1:  # count each model once, by its last deployment
        earlier = earlier.where(~deployed_later)
    if algorithm_name is not None:
        earlier = earlier.where(Deployment.algorithm == algorithm_name)
    return earlier.order_by(Deployment.seq.desc()).offset(steps - 1).limit(1)


def live_at(project_id: int, seq: int) -> Select[tuple[Model]]:
    """Return the model that deployment `seq` made live."""
    return _deployed(project_id).where(Deployment.seq == seq, TRAINED, FREE)


def specific(project_id: int, model_id: int) -> Select[tuple[Model]]:
    """Return this model of the project, if strategies may choose it."""
    return _trained(project_id).where(Model.id == model_id)


def _deployed(project_id: int) -> Select[tuple[Model]]:
    return select(Model).join(Deployment, Deployment.model_id == Model.id).where(Deployment.project_id == project_id)


def _trained(project_id: int) -> Select[tuple[Model]]:
    return select(Model).where(Model.project_id == project_id, TRAINED, FREE)


def _of(algorithm_name: str | None, models: Select[tuple[Model]]) -> Select[tuple[Model]]:
    return models if algorithm_name is None else models.where(Model.algorithm == algorithm_name)

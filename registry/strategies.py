"""Which model is live, and which one a strategy would deploy: each one Select of at most one model.

Source: PostgresML's pgml.deploy, with numeric order for scores and `id`/`seq` for time.
"""

from collections.abc import Callable

from sqlalchemy import Select, literal_column, select

from registry.schema import Deployment, Model
from registry.vocabulary import Strategy

# A literal, not a parameter: SQLite matches a partial index only against what it can read in the statement.
TRAINED = Model.status == literal_column("'trained'")


def live(project_id: int) -> Select[tuple[Model]]:
    """The model of the newest deployment."""
    return _deployed(project_id).order_by(Deployment.seq.desc()).limit(1)


def best_score(project_id: int, algorithm_name: str | None = None) -> Select[tuple[Model]]:
    """The trained model with the highest key metric; the newest of equals."""
    return _of(algorithm_name, _trained(project_id)).order_by(Model.score.desc(), Model.id.desc()).limit(1)


def most_recent(project_id: int, algorithm_name: str | None = None) -> Select[tuple[Model]]:
    """The newest trained model."""
    return _of(algorithm_name, _trained(project_id)).order_by(Model.id.desc()).limit(1)


def rollback(project_id: int, algorithm_name: str | None = None) -> Select[tuple[Model]]:
    """The last deployed model that is not the live one; twice is a round trip."""
    live_id = live(project_id).with_only_columns(Model.id).scalar_subquery()
    earlier = _deployed(project_id).where(Model.id != live_id)
    return _of(algorithm_name, earlier).order_by(Deployment.seq.desc()).limit(1)


def specific(project_id: int, model_id: int) -> Select[tuple[Model]]:
    """That model, if it is one of the project's that are trained."""
    return _trained(project_id).where(Model.id == model_id)


STRATEGIES: dict[Strategy, Callable[[int, str | None], Select[tuple[Model]]]] = {
    Strategy.BEST_SCORE: best_score,
    Strategy.MOST_RECENT: most_recent,
    Strategy.ROLLBACK: rollback,
}


def _deployed(project_id: int) -> Select[tuple[Model]]:
    return select(Model).join(Deployment, Deployment.model_id == Model.id).where(Deployment.project_id == project_id)


def _trained(project_id: int) -> Select[tuple[Model]]:
    return select(Model).where(Model.project_id == project_id, TRAINED)


def _of(algorithm_name: str | None, models: Select[tuple[Model]]) -> Select[tuple[Model]]:
    return models if algorithm_name is None else models.where(Model.algorithm == algorithm_name)

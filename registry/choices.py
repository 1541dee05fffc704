"""Which model a manual deploy would make live, or why none; a plan and the deploy itself both use these."""

from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry import strategies
from registry.errors import NoCandidate
from registry.records import model_record
from registry.rows import ID_LIMIT, find_row, project_row
from registry.schema import Deployment, Model, Project
from registry.session import transaction
from registry.values import ModelRecord
from registry.vocabulary import Status, Strategy


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """A manual deploy as it was requested. `model_id` is for `specific`; `steps` and `to_seq` are for `rollback`."""

    project_name: str
    strategy: Strategy
    algorithm_name: str | None = None
    model_id: int | None = None
    steps: int = 1
    to_seq: int | None = None


def chosen(request: DeployRequest) -> tuple[ModelRecord, ModelRecord | None]:
    """Return the model that would go live, and the one that is. Raises: UnknownProject, NoCandidate."""
    with transaction() as session:
        project = project_row(session, request.project_name)
        incumbent = session.scalar(strategies.live(project.id))
        model = choose(session, project, request, incumbent)
        return model_record(model), model_record(incumbent) if incumbent else None


def choose(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> Model:
    """Raises: NoCandidate: no model qualifies."""
    model = session.scalar(_wanted(project.id, request))
    if model is None:
        raise _no_candidate(session, project, request, incumbent)
    return model


def _wanted(project_id: int, request: DeployRequest) -> Select[tuple[Model]]:
    match request.strategy:
        case Strategy.BEST_SCORE:
            return strategies.best_score(project_id, request.algorithm_name)
        case Strategy.MOST_RECENT:
            return strategies.most_recent(project_id, request.algorithm_name)
        case Strategy.ROLLBACK if request.to_seq is not None:
            return strategies.live_at(project_id, _id(request.to_seq))
        case Strategy.ROLLBACK:
            return strategies.rollback(project_id, request.algorithm_name, request.steps)
        case _:
            return strategies.specific(project_id, _id(request.model_id))


def _id(number: int | None) -> int:
    """Return the number, or 0, which no row has, where no database accepts it."""
    return number if number is not None and 0 < number < ID_LIMIT else 0


def _no_candidate(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> NoCandidate:
    if request.strategy is Strategy.SPECIFIC:
        return _not_deployable(session, project, request.model_id)
    if request.strategy is Strategy.ROLLBACK and request.to_seq is not None:
        return _no_deployment(session, project, request.to_seq)
    if request.strategy is Strategy.ROLLBACK:
        return _no_way_back(session, project, request, incumbent)
    name, of = _words(project, request)
    if held := _held(session, project, request, None):
        return NoCandidate(f"{name} has no trained model{of} that is not in quarantine: {held}")
    mend = "train one, or leave the algorithm out" if of else "train one first"
    return NoCandidate(f"{name} has no trained model{of}: {mend}")


def _no_way_back(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> NoCandidate:
    name, of = _words(project, request)
    if incumbent is None:
        return NoCandidate(
            f"{name} has nothing deployed, so there is nothing to roll back from: deploy with best_score"
        )
    if held := _held(session, project, request, incumbent):
        return NoCandidate(f"{name} has had no such model{of} live that is not in quarantine: {held}")
    pruned = _pruned(session, project, request, incumbent)
    if request.steps > 1:
        return NoCandidate(
            f"{name} has not had {request.steps} other models{of} live: `frontrunner history` lists those that were"
            + (f"; {pruned} pruned" if pruned else "")
        )
    if pruned:
        return NoCandidate(
            f"{name} has no model{of} any more that was live before: {pruned} pruned; deploy another with best_score"
        )
    earlier = session.scalar(strategies.rollback(project.id))
    if earlier is not None:
        return NoCandidate(
            f"{name} has never had another model{of} live than the one that is: leave the algorithm out to go back to"
            f" model {earlier.id} ({earlier.algorithm})"
        )
    return NoCandidate(
        f"{name} has only ever had one model live, so there is nothing to roll back to: deploy another with best_score"
        " or most_recent"
    )


def _no_deployment(session: Session, project: Project, seq: int) -> NoCandidate:
    of_project = Deployment.project_id == project.id
    if model_id := session.scalar(select(Deployment.model_id).where(of_project, Deployment.seq == _id(seq))):
        return _not_deployable(session, project, model_id)
    newest = session.scalar(select(func.max(Deployment.seq)).where(of_project))
    has = f"its history goes from 1 to {newest}" if newest else "nothing was deployed yet"
    return NoCandidate(f"{project.name!r} has no deployment {seq}: {has}")


def _words(project: Project, request: DeployRequest) -> tuple[str, str]:
    return repr(project.name), f" of algorithm {request.algorithm_name!r}" if request.algorithm_name else ""


def _not_deployable(session: Session, project: Project, model_id: int | None) -> NoCandidate:
    model = find_row(session, Model, model_id)
    if model is None or model.project_id != project.id:
        return NoCandidate(f"{project.name!r} has no model {model_id}: `frontrunner models` lists those that it has")
    if model.quarantine is not None:
        return NoCandidate(
            f"model {model_id} of {project.name!r} is in quarantine ({model.quarantine}):"
            f" `frontrunner release {model_id}` lets it be chosen again"
        )
    if model.status is Status.PRUNED:
        return NoCandidate(
            f"model {model_id} of {project.name!r} was pruned: its file is gone, so it cannot answer; deploy another"
        )
    return NoCandidate(f"model {model_id} of {project.name!r} is {model.status}, not trained: it cannot answer")


def _pruned(session: Session, project: Project, request: DeployRequest, incumbent: Model) -> str:
    """The models that were live and pruned since, in words; empty if there is none."""
    was_live = select(Deployment.id).where(Deployment.model_id == Model.id).exists()
    models = select(Model.id).where(Model.project_id == project.id, Model.status == Status.PRUNED, was_live)
    if request.algorithm_name:
        models = models.where(Model.algorithm == request.algorithm_name)
    ids = [
        str(model_id)
        for model_id in session.scalars(models.order_by(Model.id.desc()).limit(5))
        if model_id != incumbent.id
    ]
    return f"model{'s' if ids[1:] else ''} {', '.join(ids)} {'were' if ids[1:] else 'was'}" if ids else ""


def _held(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> str:
    """The models in quarantine that would have qualified, in words; empty if there is none."""
    models = select(Model).where(Model.project_id == project.id, strategies.TRAINED, Model.quarantine.is_not(None))
    if request.algorithm_name:
        models = models.where(Model.algorithm == request.algorithm_name)
    if request.strategy is Strategy.ROLLBACK:
        models = models.where(select(Deployment.id).where(Deployment.model_id == Model.id).exists())
    if incumbent is not None:
        models = models.where(Model.id != incumbent.id)
    held = [f"model {model.id} ({model.quarantine})" for model in session.scalars(models.order_by(Model.id).limit(5))]
    return f"release {' or '.join(held)} with `frontrunner release`" if held else ""

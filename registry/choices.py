"""Choose the model that a manual deploy makes live, or explain why none qualifies. Plans and deploys both use this."""

from dataclasses import dataclass

from sqlalchemy import Select, exists, func, select
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
    """Return the model that would go live and the one that is live. Raises: UnknownProject, NoCandidate."""
    with transaction() as session:
        project = project_row(session, request.project_name)
        incumbent = session.scalar(strategies.live(project.id))
        model = choose(session, project, request, incumbent)
        return model_record(model), model_record(incumbent) if incumbent else None


def choose(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> Model:
    """Return the model that the request makes live. Raises: NoCandidate."""
    model = session.scalar(_select(project.id, request))
    if model is None:
        raise _no_candidate(session, project, request, incumbent)
    return model


def _select(project_id: int, request: DeployRequest) -> Select[tuple[Model]]:
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
    """Return the number, or 0, which no row has, if no database accepts the number."""
    return number if number is not None and 0 < number < ID_LIMIT else 0


def _no_candidate(session: Session, project: Project, request: DeployRequest, incumbent: Model | None) -> NoCandidate:
    if request.strategy is Strategy.SPECIFIC:
        return _not_deployable(session, project, request.model_id)
    if request.strategy is Strategy.ROLLBACK and request.to_seq is not None:
        return _no_deployment(session, project, request.to_seq)
    name, of = repr(project.name), f" of algorithm {request.algorithm_name!r}" if request.algorithm_name else ""
    if request.strategy is Strategy.ROLLBACK:
        if incumbent is None:
            return NoCandidate(
                f"{name} has nothing deployed, so there is nothing to roll back from: deploy one with best_score"
            )
        return NoCandidate(f"{name} {_no_way_back(session, project, request, incumbent, of)}")
    if held := _in_quarantine(session, _models(project, request)):
        return NoCandidate(f"{name} has no trained model{of} that is not in quarantine: {held}")
    fix = "train one, or leave the algorithm out" if of else "train one first"
    return NoCandidate(f"{name} has no trained model{of}: {fix}")


def _no_way_back(session: Session, project: Project, request: DeployRequest, incumbent: Model, of: str) -> str:
    was_live = exists().where(Deployment.model_id == Model.id)
    earlier = _models(project, request).where(was_live, Model.id != incumbent.id)
    if held := _in_quarantine(session, earlier):
        return f"has no earlier live model{of} to go back to that is not in quarantine: {held}"
    pruned = _pruned(session, earlier)
    if request.steps > 1:
        listed = f"has not had {request.steps} other models{of} live: `frontrunner history` lists those that were"
        return f"{listed}; {pruned} pruned" if pruned else listed
    if pruned:
        return f"has no model{of} any more that was live before: {pruned} pruned; deploy another with best_score"
    other = session.scalar(strategies.rollback(project.id))
    if other is not None:
        return (
            f"has never had another model{of} live: leave the algorithm out to go back to model {other.id}"
            f" ({other.algorithm})"
        )
    return (
        "has only ever had one model live, so there is nothing to roll back to: deploy another with best_score or"
        " most_recent"
    )


def _no_deployment(session: Session, project: Project, seq: int) -> NoCandidate:
    of_project = Deployment.project_id == project.id
    if model_id := session.scalar(select(Deployment.model_id).where(of_project, Deployment.seq == _id(seq))):
        return _not_deployable(session, project, model_id)
    newest = session.scalar(select(func.max(Deployment.seq)).where(of_project))
    has = f"its history goes from 1 to {newest}" if newest else "nothing was deployed yet"
    return NoCandidate(f"{project.name!r} has no deployment {seq}: {has}")


def _not_deployable(session: Session, project: Project, model_id: int | None) -> NoCandidate:
    model = find_row(session, Model, model_id)
    if model is None or model.project_id != project.id:
        return NoCandidate(f"{project.name!r} has no model {model_id}: `frontrunner models` lists its models")
    name = f"model {model_id} of {project.name!r}"
    if model.quarantine is not None:
        release = f"`frontrunner release {model_id}` lets it be chosen again"
        return NoCandidate(f"{name} is in quarantine ({model.quarantine}): {release}")
    if model.status is Status.PRUNED:
        return NoCandidate(f"{name} was pruned: its file is gone, so it cannot answer; deploy another")
    return NoCandidate(f"{name} is {model.status}, not trained: it cannot answer; deploy another")


def _models(project: Project, request: DeployRequest) -> Select[tuple[Model]]:
    """Return the models of the project and of the requested algorithm, whatever their status."""
    models = select(Model).where(Model.project_id == project.id)
    return models.where(Model.algorithm == request.algorithm_name) if request.algorithm_name else models


def _pruned(session: Session, models: Select[tuple[Model]]) -> str:
    """Return the pruned ones of these models in words; an empty string if there is none."""
    newest = models.where(Model.status == Status.PRUNED).order_by(Model.id.desc()).limit(5)
    ids = [str(model.id) for model in session.scalars(newest)]
    return f"model{'s' if ids[1:] else ''} {', '.join(ids)} {'were' if ids[1:] else 'was'}" if ids else ""


def _in_quarantine(session: Session, models: Select[tuple[Model]]) -> str:
    """Return in words how to release those of these models that qualify but for their quarantine; "" if none does."""
    held = models.where(strategies.TRAINED, Model.quarantine.is_not(None)).order_by(Model.id).limit(5)
    listed = " or ".join(f"model {model.id} ({model.quarantine})" for model in session.scalars(held))
    return f"release {listed} with `frontrunner release`" if listed else ""

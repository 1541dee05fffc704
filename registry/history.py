"""Write deployments, decisions and quarantines. Only the import of a project (`transfer.py`) writes them elsewhere.

Each function is one transaction. A promotion first locks its project (`rows.lock_project`), so the promotions of a
project take turns.
"""

from dataclasses import asdict, replace

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from registry.choices import DeployRequest, choose
from registry.errors import ChoiceChanged, InvalidInput, RegistryConflict, UnknownModel
from registry.records import deploy_result, model_record, record
from registry.rows import lock_project, lock_project_named, model_row
from registry.schema import Decision as DecisionRow
from registry.schema import Deployment, Model, Project, Quarantine, now
from registry.session import transaction
from registry.strategies import live
from registry.values import Decision, DeployResult, Evidence, ModelRecord, Terms, Verdict
from registry.vocabulary import Status, Strategy


def promote(
    challenger_id: int,
    evidence: Evidence,
    terms: Terms,
    verdict: Verdict,
    *,
    request_key: str,
    decided_by: str,
    code_version: str,
) -> Decision:
    """Write the receipt of an automatic deploy and, if the verdict is to deploy, the deployment: both or neither.

    A repeated key for the same model adds nothing and returns the earlier decision.

    Raises:
        UnknownModel: there is no such model.
        ChoiceChanged: the live model, the quarantines or the challenger's status changed since the evidence.
    """
    key = attempt(request_key, challenger_id)
    with transaction(write=True) as session:
        project = _lock_project_of(session, challenger_id)
        if done := _decision(session, key):
            return done
        challenger, incumbent = model_row(session, challenger_id), session.scalar(live(project.id))
        _check_unchanged(project, challenger, incumbent, evidence, verdict)
        columns = asdict(evidence)
        del columns["obstacle"]  # the reason of the verdict contains it
        row = DecisionRow(
            **columns,
            project_id=project.id,
            challenger_id=challenger_id,
            terms=terms,
            deployed=verdict.deploy,
            reason=verdict.reason,
            decided_by=decided_by,
            code_version=code_version,
            request_key=key,
        )
        session.add(row)
        if not verdict.deploy:
            session.flush()
            return _decision_of(row, project, incumbent, None)
        added = _append(session, project, challenger, Strategy.NEW_SCORE, key, decided_by)
        return _decision_of(row, project, challenger, deploy_result(added, project, challenger, incumbent))


def find_decision(request_key: str, challenger_id: int) -> Decision | None:
    """Return the decision of an earlier attempt about the same model, with the model that is live now; else None."""
    with transaction() as session:
        return _decision(session, attempt(request_key, challenger_id))


def attempt(request_key: str, challenger_id: int) -> str:
    """Return the key of a decision. It contains the model because a retry may have a better challenger."""
    return f"{request_key}:{challenger_id}"


def deploy(
    request: DeployRequest,
    *,
    seen: tuple[int, int | None] | None = None,
    forced: bool = False,
    reason: str | None = None,
    quarantine: bool = False,
    request_key: str,
    deployed_by: str,
) -> DeployResult:
    """Deploy the model that a request chooses. A model that is live already, or a repeated key, adds nothing.

    `seen` holds the ids of the choice that was proven and of the model that was live then. `quarantine` places the
    model that was live in quarantine for `reason`, in the same transaction.

    Raises:
        UnknownProject: there is no such project.
        NoCandidate: no model qualifies; the history is unchanged.
        ChoiceChanged: the choice or the live model differs from `seen`; nothing was done.
    """
    with transaction(write=True) as session:
        project = lock_project_named(session, request.project_name)
        if done := _result(session, Deployment.request_key == request_key):
            _check_repeated(done, request, request_key)
            return done
        incumbent = session.scalar(live(project.id))
        chosen = choose(session, project, request, incumbent)
        if seen not in (None, (chosen.id, incumbent.id if incumbent else None)):
            raise ChoiceChanged(f"{request.strategy} chooses model {chosen.id} of {project.name!r} by now")
        if incumbent is not None and chosen.id == incumbent.id:
            return _unchanged(session, project, chosen, request)
        row = _append(
            session, project, chosen, request.strategy, request_key, deployed_by, forced=forced, reason=reason
        )
        if quarantine and incumbent is not None:
            _hold(session, incumbent, reason or "", deployed_by)
        return deploy_result(row, project, chosen, incumbent)


def find_deployment(request_key: str) -> DeployResult | None:
    """Return the result of an earlier attempt of the same deploy; None if there was none."""
    with transaction() as session:
        return _result(session, Deployment.request_key == request_key)


def find_deployment_at(project_name: str, seq: int) -> DeployResult | None:
    """Return the deployment `seq` of a project; None if there is none."""
    with transaction() as session:
        return _result(session, and_(Project.name == project_name, Deployment.seq == seq))


def mark_mirrored(project_id: int, seq: int) -> None:
    """Record that MLflow's alias names the model of this deployment."""
    with transaction(write=True) as session:
        behind = or_(Project.mirrored_seq.is_(None), Project.mirrored_seq < seq)
        session.execute(update(Project).where(Project.id == project_id, behind).values(mirrored_seq=seq))


def quarantine(model_id: int, reason: str, *, by: str) -> ModelRecord:
    """Exclude the model from every strategy; a live one stays live. Raises: UnknownModel, InvalidInput if repeated."""
    with transaction(write=True) as session:
        model = _model_of_locked_project(session, model_id)
        if model.quarantine is not None:
            raise InvalidInput(f"model {model_id} is in quarantine already: {model.quarantine}")
        _hold(session, model, reason, by)
        session.refresh(model)
        return model_record(model)


def release(model_id: int, *, by: str) -> ModelRecord:
    """End the quarantine of a model. Raises: UnknownModel, InvalidInput if it is not in quarantine."""
    with transaction(write=True) as session:
        model = _model_of_locked_project(session, model_id)
        held = select(Quarantine).where(Quarantine.model_id == model_id, Quarantine.released_at.is_(None))
        row = session.scalar(held)
        if row is None:
            raise InvalidInput(f"model {model_id} is not in quarantine")
        row.released_by, row.released_at = by, now()
        session.flush()
        session.refresh(model)
        return model_record(model)


def _lock_project_of(session: Session, model_id: int) -> Project:
    """Lock the project of a model and return it. Raises: UnknownModel."""
    owner = select(Model.project_id).where(Model.id == model_id).scalar_subquery()
    project = lock_project(session, Project.id == owner)
    if project is None:
        raise UnknownModel(model_id)
    return project


def _model_of_locked_project(session: Session, model_id: int) -> Model:
    """Lock the project of a model, so that no deploy comes in between, and return the model as it is then."""
    lock_project(session, Project.id == model_row(session, model_id).project_id)
    return session.get_one(Model, model_id, populate_existing=True)


def _check_unchanged(
    project: Project, challenger: Model, incumbent: Model | None, evidence: Evidence, verdict: Verdict
) -> None:
    """Raise ChoiceChanged if the models of the verdict are no longer as they were measured."""
    live_id = incumbent.id if incumbent else None
    held = incumbent is not None and incumbent.quarantine is not None
    if (live_id, held) != (evidence.live_model_id, evidence.live_quarantined):
        raise ChoiceChanged(f"model {live_id} of {project.name!r} is live by now")
    if verdict.deploy and challenger.quarantine is not None:
        raise ChoiceChanged(f"model {challenger.id} of {project.name!r} is in quarantine by now")
    if verdict.deploy and challenger.status is not Status.TRAINED:
        raise ChoiceChanged(f"model {challenger.id} of {project.name!r} is {challenger.status} by now")


def _append(
    session: Session,
    project: Project,
    model: Model,
    strategy: Strategy,
    request_key: str,
    deployed_by: str,
    *,
    forced: bool = False,
    reason: str | None = None,
) -> Deployment:
    newest = session.scalar(select(func.max(Deployment.seq)).where(Deployment.project_id == project.id))
    row = Deployment(
        project_id=project.id,
        seq=(newest or 0) + 1,
        model_id=model.id,
        algorithm=model.algorithm,
        strategy=strategy,
        forced=forced,
        reason=reason,
        request_key=request_key,
        deployed_by=deployed_by,
    )
    session.add(row)
    session.flush()
    return row


def _hold(session: Session, model: Model, reason: str, by: str) -> None:
    if model.quarantine is None:
        session.add(Quarantine(project_id=model.project_id, model_id=model.id, reason=reason, placed_by=by))
        session.flush()


def _decision(session: Session, key: str) -> Decision | None:
    """Return the decision with this key, and the model that is live now."""
    row = session.scalar(select(DecisionRow).where(DecisionRow.request_key == key))
    if row is None:
        return None
    project, incumbent = session.get_one(Project, row.project_id), session.scalar(live(row.project_id))
    return _decision_of(row, project, incumbent, _result(session, Deployment.request_key == key))


def _decision_of(
    row: DecisionRow, project: Project, now_live: Model | None, deployment: DeployResult | None
) -> Decision:
    return record(
        Decision,
        row,
        project_name=project.name,
        live_model_id=now_live.id if now_live else None,
        previous_model_id=row.live_model_id,
        deployment=deployment,
    )


def _result(session: Session, which: ColumnElement[bool]) -> DeployResult | None:
    """Return the newest of these deployments as the result of the deploy that added it."""
    earlier, previous = aliased(Deployment), aliased(Model)
    statement = (
        select(Deployment, Project, Model, previous)
        .join(Project, Project.id == Deployment.project_id)
        .join(Model, Model.id == Deployment.model_id)
        .outerjoin(earlier, and_(earlier.project_id == Deployment.project_id, earlier.seq == Deployment.seq - 1))
        .outerjoin(previous, previous.id == earlier.model_id)
        .where(which)
        .order_by(Deployment.seq.desc())
        .limit(1)
    )
    row = session.execute(statement).tuples().first()
    return deploy_result(*row) if row else None


def _check_repeated(done: DeployResult, request: DeployRequest, request_key: str) -> None:
    """Raise RegistryConflict if the key belongs to another request."""
    if (done.project_name, done.strategy) != (request.project_name, request.strategy):
        raise RegistryConflict(f"request {request_key} deployed {done.project_name!r} by {done.strategy} before")


def _unchanged(session: Session, project: Project, chosen: Model, request: DeployRequest) -> DeployResult:
    """Return the deployment that made the chosen model live, as the result of a request that changes nothing."""
    newest = _result(session, Deployment.project_id == project.id)
    assert newest is not None, "a model is live, so there is a deployment"
    return replace(
        newest, strategy=request.strategy, previous_model_id=chosen.id, previous_score=chosen.score, changed=False
    )

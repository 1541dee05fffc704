"""The manual deploy: a strategy's choice is proven to answer and goes live. It imports neither Prefect nor MLflow."""

from contextlib import suppress
from dataclasses import replace

from registry import choices, history, queries
from registry.choices import DeployRequest
from registry.errors import ChoiceChanged, InvalidInput, PlanChanged
from registry.names import checked_text
from registry.serving.proof import prove
from registry.values import DeployResult, ModelRecord
from tasks.callers import requested_by
from tasks.promotion.announce import UNPROVEN, Announcer, announce
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.rule import describe_model


def deploy(request: ManualDeploy, key: str, announce: Announcer = announce) -> DeployResult:
    """Make the strategy's choice live, once it is proven to answer, and announce it to MLflow and Prefect.

    Raises:
        UnknownProject, NoCandidate: there is nothing that could be deployed.
        PlanChanged: the choice is not the model that was planned, or another went live that would be quarantined.
        InvalidInput: nothing would change, so there is nothing to put into quarantine.
        ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven: the model could not be shown to answer.
        In every case the history is unchanged.
    """
    done = None if request.plan else history.find_deployment(key)
    if done is None or (done.project_name, done.strategy) != (request.wish.project_name, request.wish.strategy):
        done = _deploy(request, key)
    if not done.planned:
        announce(done)
    return done


def _deploy(request: ManualDeploy, key: str) -> DeployResult:
    """Deploy or plan; the choice is made again as long as another deploy comes between it and the commit."""
    first_live: int | None = None
    while True:
        chosen, live = choices.chosen(request.wish)
        if request.expect_model_id not in (None, chosen.id):
            raise _plan_changed(request, chosen, live)
        if request.quarantine and live is not None:
            first_live = first_live or live.id
            _check_quarantine(chosen, live, first_live)
        changed = live is None or chosen.id != live.id
        warning = _prove_or_refuse(chosen) if changed and not request.force else None
        if request.plan:
            return _planned(request.wish, chosen, live, warning)
        with suppress(ChoiceChanged):
            result = history.deploy(
                request.wish,
                seen=(chosen.id, live.id if live else None),
                forced=request.force,
                reason=request.reason,
                quarantine=request.quarantine,
                request_key=key,
                deployed_by=requested_by(),
            )
            return replace(result, warning=warning)


def _check_quarantine(chosen: ModelRecord, live: ModelRecord, first_live: int) -> None:
    """Raises: InvalidInput, PlanChanged: the model that would go into quarantine stays live, or is not the first."""
    if chosen.id == live.id:
        raise InvalidInput(f"{describe_model(live)} is live already and stays: there is nothing to put into quarantine")
    if live.id != first_live:
        raise PlanChanged(f"{describe_model(live)} went live meanwhile, instead of model {first_live}: look again")


def _prove_or_refuse(chosen: ModelRecord) -> str | None:
    """Return a warning where the proof is incomplete."""
    try:
        return prove(chosen)
    except UNPROVEN as error:
        fix = "nothing was changed; with force and a reason it is deployed without this proof"
        raise type(error)(f"{describe_model(chosen)} cannot be deployed: {error}; {fix}") from error


def _planned(
    request: DeployRequest, chosen: ModelRecord, live: ModelRecord | None, warning: str | None
) -> DeployResult:
    assert chosen.score is not None, "the table lets no trained model be without one"
    return DeployResult(
        project_name=request.project_name,
        strategy=request.strategy,
        algorithm_name=chosen.algorithm,
        model_id=chosen.id,
        score=chosen.score,
        previous_model_id=live.id if live else None,
        previous_score=live.score if live else None,
        changed=live is None or chosen.id != live.id,
        planned=True,
        warning=warning,
    )


def quarantine(model_id: int, reason: str) -> tuple[ModelRecord, bool]:
    """Let no strategy choose the model from now on; return it, and whether it is still live.

    Raises:
        UnknownModel: there is no such model.
        InvalidInput: there is no reason, or it is in quarantine already.
    """
    why = checked_text("reason", reason)
    if not why:
        raise InvalidInput("a quarantine needs a reason: it is shown wherever the model is")
    model = history.quarantine(model_id, why, by=requested_by())
    return model, any(project.model_id == model_id for project in queries.projects())


def release(model_id: int) -> ModelRecord:
    """Let every strategy choose the model again. Raises: UnknownModel; InvalidInput: it is not in quarantine."""
    return history.release(model_id, by=requested_by())


def describe(result: DeployResult, request: ManualDeploy) -> str:
    """Return the result in words."""
    model = f"model {result.model_id} ({result.algorithm_name}, score {result.score:.4f})"
    if not result.changed:
        stays = "is live already; nothing would change" if result.planned else "was live already; nothing changed"
        return f"{result.project_name}: {model} {stays}"
    before = f", instead of model {result.previous_model_id}" if result.previous_model_id else ""
    went = "would go live" if result.planned else "went live"
    if request.quarantine:
        before += f", which {'would go' if result.planned else 'went'} into quarantine"
    exactly = f"; to do exactly that, expect_model_id is {result.model_id}" if result.planned else ""
    warning = f"; {result.warning}" if result.warning else ""
    return f"{result.project_name}: {model} {went} by {result.strategy}{before}{exactly}{warning}"


def _plan_changed(request: ManualDeploy, chosen: ModelRecord, live: ModelRecord | None) -> PlanChanged:
    planned = f"the plan was model {request.expect_model_id}"
    if live is not None and live.id == request.expect_model_id:
        return PlanChanged(f"{planned}, which is live already by now; nothing was changed")
    return PlanChanged(
        f"{planned}, but {request.wish.strategy} now chooses {describe_model(chosen)}, while"
        f" {f'{describe_model(live)} is' if live else 'nothing is'} live; nothing was changed: plan again"
    )

"""The manual deploy: prove that the model which a strategy chooses answers, and make it live.

Neither Prefect nor MLflow is imported.
"""

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


def deploy(manual: ManualDeploy, key: str, announce: Announcer = announce) -> DeployResult:
    """Make the strategy's choice live once it is proven to answer, and announce it to MLflow and Prefect.

    Raises:
        UnknownProject, NoCandidate: there is nothing that could be deployed.
        PlanChanged: the choice is not the model that was planned, or another went live that would be quarantined.
        InvalidInput: nothing would change, so there is nothing to put into quarantine.
        ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven: the model could not be shown to answer.
        In every case the history is unchanged.
    """
    result = None if manual.plan else history.find_deployment(key)
    wanted = (manual.request.project_name, manual.request.strategy)
    if result is None or (result.project_name, result.strategy) != wanted:
        result = _deploy(manual, key)
    if not result.planned:
        announce(result)
    return result


def _deploy(manual: ManualDeploy, key: str) -> DeployResult:
    """Deploy or plan. Choose again whenever another deploy was committed after the choice."""
    first_live: int | None = None
    while True:
        chosen, live = choices.chosen(manual.request)
        if manual.expect_model_id not in (None, chosen.id):
            raise _plan_changed(manual, chosen, live)
        if manual.quarantine and live is not None:
            first_live = first_live or live.id
            _check_quarantine(chosen, live, first_live)
        changed = live is None or chosen.id != live.id
        warning = _prove_or_refuse(chosen) if changed and not manual.force else None
        if manual.plan:
            return _planned(manual.request, chosen, live, warning)
        with suppress(ChoiceChanged):
            result = history.deploy(
                manual.request,
                seen=(chosen.id, live.id if live else None),
                forced=manual.force,
                reason=manual.reason,
                quarantine=manual.quarantine,
                request_key=key,
                deployed_by=requested_by(),
            )
            return replace(result, warning=warning)


def _check_quarantine(chosen: ModelRecord, live: ModelRecord, first_live: int) -> None:
    """Check that a quarantine affects the model that was live first.

    Raises:
        InvalidInput: that model stays live.
        PlanChanged: another model went live since.
    """
    if chosen.id == live.id:
        raise InvalidInput(
            f"{describe_model(live)} is live already and stays live, so there is nothing to put into quarantine"
        )
    if live.id != first_live:
        raise PlanChanged(f"{describe_model(live)} went live in the meantime instead of model {first_live}: look again")


def _prove_or_refuse(chosen: ModelRecord) -> str | None:
    """Return a warning if the proof is incomplete. Raises: one of UNPROVEN."""
    try:
        return prove(chosen)
    except UNPROVEN as error:
        fix = "nothing was changed; to deploy it without this proof, use force with a reason"
        raise type(error)(f"{describe_model(chosen)} cannot be deployed: {error}; {fix}") from error


def _planned(
    request: DeployRequest, chosen: ModelRecord, live: ModelRecord | None, warning: str | None
) -> DeployResult:
    assert chosen.score is not None, "a constraint gives every trained model a score"
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
    """Keep every strategy from choosing the model; return it, and whether it is live.

    Raises:
        UnknownModel: there is no such model.
        InvalidInput: the reason is empty, or the model is in quarantine already.
    """
    checked = checked_text("reason", reason)
    if not checked:
        raise InvalidInput("a quarantine needs a reason, which is shown wherever the model is listed")
    model = history.quarantine(model_id, checked, by=requested_by())
    return model, any(project.model_id == model_id for project in queries.projects())


def release(model_id: int) -> ModelRecord:
    """Let every strategy choose the model again.

    Raises:
        UnknownModel: there is no such model.
        InvalidInput: it is not in quarantine.
    """
    return history.release(model_id, by=requested_by())


def describe(result: DeployResult, manual: ManualDeploy, expect_option: str = "expect_model_id") -> str:
    """Return the result as a sentence. `expect_option` is how the reader gives the id of the planned model."""
    model = f"model {result.model_id} ({result.algorithm_name}, score {result.score:.4f})"
    if not result.changed:
        stays = "is live already; nothing would change" if result.planned else "was live already; nothing changed"
        return f"{result.project_name}: {model} {stays}"
    before = f", instead of model {result.previous_model_id}" if result.previous_model_id else ""
    went = "would go live" if result.planned else "went live"
    if manual.quarantine:
        before += f", which {'would go' if result.planned else 'went'} into quarantine"
    exactly = f"; to do exactly that, {expect_option} is {result.model_id}" if result.planned else ""
    warning = f"; {result.warning}" if result.warning else ""
    return f"{result.project_name}: {model} {went} by {result.strategy}{before}{exactly}{warning}"


def _plan_changed(manual: ManualDeploy, chosen: ModelRecord, live: ModelRecord | None) -> PlanChanged:
    planned = f"the plan was model {manual.expect_model_id}"
    if live is not None and live.id == manual.expect_model_id:
        return PlanChanged(f"{planned}, which is live already; nothing was changed")
    return PlanChanged(
        f"{planned}, but {manual.request.strategy} now chooses {describe_model(chosen)}, while"
        f" {f'{describe_model(live)} is' if live else 'nothing is'} live; nothing was changed: plan again"
    )

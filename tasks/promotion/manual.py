"""The manual deploy: a strategy's choice is proven to answer and goes live."""

import logging
from contextlib import suppress

from prefect import task

from registry import choices, history, queries
from registry.errors import (
    ChoiceChanged,
    InvalidInput,
    PlanChanged,
)
from registry.names import checked_text
from registry.serving.proof import prove
from registry.values import DeployResult, ModelRecord
from tasks.callers import requested_by
from tasks.flow_runs import TASK_OPTIONS
from tasks.promotion.announce import UNPROVEN, announce
from tasks.promotion.deploy_request import ManualDeploy
from tasks.promotion.rule import named
from tasks.tracking.alias import mirror_live

log = logging.getLogger("frontrunner")


@task(**TASK_OPTIONS, task_run_name="{asked.wish.strategy}")
def deploy_model(asked: ManualDeploy, key: str) -> DeployResult:
    """The manual deploy as a step of a flow."""
    result = deploy(asked, key)
    log.info("%s", describe(result, asked))
    return result


def deploy(asked: ManualDeploy, key: str) -> DeployResult:
    """Makes the strategy's choice live, once it is proven to answer. MLflow's alias follows if it can; the deploy does
    not wait for it to be well.

    Raises:
        UnknownProject, NoCandidate: there is nothing that could be deployed.
        PlanChanged: the choice is not the model that was planned, or another went live that would be quarantined.
        InvalidInput: nothing would change, so there is nothing to put into quarantine.
        ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven: the model could not be shown to answer.
        In every case the history is unchanged.
    """
    done = None if asked.plan else history.recorded(key)
    if done and (done.project_name, done.strategy) == (asked.wish.project_name, asked.wish.strategy):
        announce(done.project_name, done.model_id)
        return done
    first_live: int | None = None
    while True:
        chosen, live = choices.chosen(asked.wish)
        if asked.expect_model_id not in (None, chosen.id):
            raise _plan_changed(asked, chosen, live)
        changed = live is None or chosen.id != live.id
        if asked.quarantine and live is not None:
            first_live = first_live or live.id
            if not changed:
                raise InvalidInput(f"{named(live)} is live already and stays: there is nothing to put into quarantine")
            if live.id != first_live:
                raise PlanChanged(f"{named(live)} went live meanwhile, instead of model {first_live}: look again")
        if changed and not asked.force:
            _prove_or_refuse(chosen)
        if asked.plan:
            assert chosen.score is not None, "the table lets no trained model be without one"
            return DeployResult(
                asked.wish.project_name,
                asked.wish.strategy,
                chosen.algorithm,
                chosen.id,
                chosen.score,
                live.id if live else None,
                changed,
                planned=True,
            )
        with suppress(ChoiceChanged):
            result = history.deploy(
                asked.wish,
                seen=(chosen.id, live.id if live else None),
                forced=asked.force,
                reason=asked.reason,
                quarantine=asked.quarantine,
                request_key=key,
                deployed_by=requested_by(),
            )
            if result.changed:
                announce(result.project_name, result.model_id)
            else:
                mirror_live(result.project_name)
            return result


def _prove_or_refuse(chosen: ModelRecord) -> None:
    try:
        prove(chosen)
    except UNPROVEN as error:
        mend = "nothing was changed; with force and a reason it is deployed without this proof"
        raise type(error)(f"{named(chosen)} cannot be deployed: {error}; {mend}") from error


def quarantine(model_id: int, reason: str) -> tuple[ModelRecord, bool]:
    """No strategy may choose the model from now on; it, and whether it is live still.

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
    """Every strategy may choose the model again. Raises: UnknownModel; InvalidInput: it is not in quarantine."""
    return history.release(model_id, by=requested_by())


def describe(result: DeployResult, asked: ManualDeploy) -> str:
    """The result in words."""
    model = f"model {result.model_id} ({result.algorithm_name}, score {result.score:.4f})"
    if not result.changed:
        stays = "is live already; nothing would change" if result.planned else "was live already; nothing changed"
        return f"{result.project_name}: {model} {stays}"
    before = f", instead of model {result.previous_model_id}" if result.previous_model_id else ""
    went = "would go live" if result.planned else "went live"
    if asked.quarantine:
        before += f", which {'would go' if result.planned else 'went'} into quarantine"
    exactly = f"; to do exactly that, expect_model_id is {result.model_id}" if result.planned else ""
    return f"{result.project_name}: {model} {went} by {result.strategy}{before}{exactly}"


def _plan_changed(asked: ManualDeploy, chosen: ModelRecord, live: ModelRecord | None) -> PlanChanged:
    planned = f"the plan was model {asked.expect_model_id}"
    if live is not None and live.id == asked.expect_model_id:
        return PlanChanged(f"{planned}, which is live already by now; nothing was changed")
    return PlanChanged(
        f"{planned}, but {asked.wish.strategy} now chooses {named(chosen)}, while"
        f" {f'{named(live)} is' if live else 'nothing is'} live; nothing was changed: plan again"
    )

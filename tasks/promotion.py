"""The automatic deploy and the deploy by hand: a model is proven to answer, goes live, and is mirrored to MLflow."""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from prefect import task

from registry import choices, history, queries
from registry.choices import Wish
from registry.errors import (
    AllCandidatesFailed,
    ArtifactChanged,
    ArtifactMissing,
    ArtifactUnusable,
    ChoiceChanged,
    InvalidInput,
    PlanChanged,
    Pruned,
    Unproven,
)
from registry.names import checked_name, checked_text
from registry.proof import prove
from registry.values import Decision, DecisionRecord, DeployResult, Evidence, ModelRecord, Terms, Verdict
from registry.vocabulary import Basis, Status, Strategy, Task, strategy_named
from tasks.comparison import compared
from tasks.events import emit_deployed
from tasks.flow_runs import STEP
from tasks.mirror import mirror_live
from tasks.requests import checked_switch, requested_by
from tasks.snapshots import Training
from tasks.verdicts import judged, named

log = logging.getLogger("frontrunner")

IDS = re.compile(r"(?<=model )\d+|(?<=snapshots )\d+ and \d+")  # in a reason; those of an imported project are new
UNPROVEN = (ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven)


def best(models: list[ModelRecord]) -> ModelRecord | None:
    """The trained model with the highest score, the newest of equals; None if all failed.

    One in quarantine is only the best where all are.
    """
    trained = [model for model in models if model.status is Status.TRAINED and model.score is not None]
    return max(trained, key=lambda model: (model.quarantine is None, model.score, model.id), default=None)


@task(**STEP, task_run_name="promote the best")
def promote(training: Training, models: list[ModelRecord], automatic_deploy: bool) -> Decision:
    """The automatic deploy: the run's best candidate goes live if it beats the model that is.

    Raises:
        AllCandidatesFailed: there is no best one.
    """
    request, challenger = training.request, best(models)
    if challenger is None:
        raise AllCandidatesFailed((model.algorithm, model.reason or "no reason was recorded") for model in models)
    if not automatic_deploy:
        live = queries.live_model(request.project_name)
        live_id = live.id if live else None
        reason = f"{named(challenger)} is the best of this run; automatic_deploy is off, so it was only recorded"
        return Decision(request.project_name, challenger.id, False, live_id, live_id, reason)
    candidates = [model for model in models if model.status is Status.TRAINED]
    decision = decide(request.project_name, request.task, candidates, request.terms, training.key)
    if decision.deployed:
        _tell(request.project_name, challenger.id)
    return decision


def decide(project_name: str, kind: Task, candidates: list[ModelRecord], terms: Terms, key: str) -> Decision:
    """Compares the best of the trained candidates with the model that is live, until none else went live meanwhile, and
    acts on it."""
    while True:
        candidates = [queries.model(model.id) for model in candidates]
        challenger, live = best(candidates), queries.live_model(project_name)
        if challenger is None:
            raise Pruned(
                f"every model of this training of {project_name!r} was pruned before it could be decided about"
            )
        if done := history.decided(key, challenger.id):
            return done
        evidence = compared(kind, challenger, live, candidates, terms)
        verdict = judged(kind, challenger, live, evidence, terms)
        if verdict.deploy:
            evidence, verdict = _proven(kind, challenger, live, evidence, verdict, terms)
        with suppress(ChoiceChanged):
            return history.promote(
                challenger.id,
                evidence,
                terms,
                verdict,
                request_key=key,
                decided_by=requested_by(),
                code_version=code_version(),
            )


def _proven(
    kind: Task, challenger: ModelRecord, live: ModelRecord | None, evidence: Evidence, verdict: Verdict, terms: Terms
) -> tuple[Evidence, Verdict]:
    """The same, unless the challenger's file does not answer as it did at training."""
    try:
        prove(challenger)
    except UNPROVEN as error:
        found = replace(evidence, basis=Basis.UNPROVEN, said=f"{named(challenger)} cannot be deployed: {error}")
        return found, judged(kind, challenger, live, found, terms)
    return evidence, verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision that was computed again; `differences` say what is not as its receipt has it."""

    decision: DecisionRecord
    evidence: Evidence
    verdict: Verdict
    differences: tuple[str, ...]


def replay(decision_id: int) -> Replay:
    """A decision again, from its snapshot and the artifacts, on its own terms; nothing is written.

    Raises:
        UnknownDecision: there is none of that number.
        Pruned: a model that was measured is gone, or its rows are.
    """
    receipt = queries.decision(decision_id)
    known, kind = receipt.evidence, queries.project(receipt.project_name).task
    if known.basis is Basis.HELD:  # there was nothing to compute
        return Replay(receipt, known, Verdict(receipt.deployed, receipt.reason), ())
    challenger = replace(queries.model(receipt.challenger_id), quarantine=None)  # it may have come into it since
    live = queries.model(known.live_model_id) if known.live_model_id is not None else None
    if live is not None:
        live = replace(live, quarantine="then" if known.live_quarantined else None)
    candidates = [queries.model(model_id) for model_id in known.candidate_ids]
    measured = [challenger, *([live] if live else []), *(candidates if receipt.terms.confidence else [])]
    if gone := [model.id for model in measured if model.status is Status.PRUNED]:
        raise Pruned(f"decision {decision_id} cannot be computed again: model {gone[0]} and its rows were pruned")
    evidence = compared(kind, challenger, live, candidates, receipt.terms, receipt.seed)
    verdict = judged(kind, challenger, live, evidence, receipt.terms)
    if verdict.deploy:
        evidence, verdict = _proven(kind, challenger, live, evidence, verdict, receipt.terms)
    figures = (
        "basis",
        "challenger_score",
        "live_score",
        "baseline_score",
        "rows_compared",
        "rows_excluded",
        "interval",
    )
    pairs: list[tuple[str, Any, Any]] = [("deployed", receipt.deployed, verdict.deploy)]
    if IDS.sub("", receipt.reason) != IDS.sub("", verdict.reason):
        pairs.append(("reason", receipt.reason, verdict.reason))
    pairs += [(name, getattr(known, name), getattr(evidence, name)) for name in figures]
    differences = tuple(f"{name} was {was}, is {found}" for name, was, found in pairs if was != found)
    return Replay(receipt, evidence, verdict, differences)


def code_version() -> str:
    """What computes a decision; another version may come to other last digits."""
    return ", ".join(f"{name} {version(name)}" for name in ("frontrunner", "numpy", "scikit-learn", "xgboost"))


@dataclass(frozen=True, slots=True)
class Asked:
    """How a deploy by hand is to be done; `wish` says what."""

    wish: Wish
    plan: bool
    force: bool
    reason: str | None
    quarantine: bool
    expect_model_id: int | None


@task(**STEP, task_run_name="{asked.wish.strategy}")
def deploy_model(asked: Asked, key: str) -> DeployResult:
    """The manual deploy as a step of a flow."""
    result = deploy(asked, key)
    log.info("%s", said(result, asked))
    return result


def deploy(asked: Asked, key: str) -> DeployResult:
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
        _tell(done.project_name, done.model_id)
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
                _tell(result.project_name, result.model_id)
            else:
                mirror_live(result.project_name)
            return result


def _tell(project_name: str, model_id: int) -> None:
    """MLflow and Prefect, what went live."""
    mirror_live(project_name)
    emit_deployed(project_name, model_id)


def _prove_or_refuse(chosen: ModelRecord) -> None:
    try:
        prove(chosen)
    except UNPROVEN as error:
        mend = "nothing was changed; with force and a reason it is deployed without this proof"
        raise type(error)(f"{named(chosen)} cannot be deployed: {error}; {mend}") from error


def checked_deploy(
    project_name: str,
    strategy: str,
    algorithm_name: str | None = None,
    *,
    model_id: int | None = None,
    steps: int = 1,
    to_seq: int | None = None,
    plan: bool = False,
    force: bool = False,
    reason: str | None = None,
    quarantine: bool = False,
    expect_model_id: int | None = None,
) -> Asked:
    """A deploy that can be tried.

    Raises:
        InvalidInput: there is no such strategy, or the arguments do not go together.
    """
    name, chosen = checked_name(project_name), strategy_named(strategy)
    if chosen is not Strategy.SPECIFIC and model_id is not None:
        raise InvalidInput(f"{chosen} chooses by itself: leave model_id out, or deploy by 'specific'")
    if chosen is Strategy.SPECIFIC and algorithm_name:
        raise InvalidInput("a specific model has its algorithm: leave algorithm_name out")
    if chosen is Strategy.SPECIFIC and not _is_whole(model_id):
        raise InvalidInput(f"'specific' deploys the model of model_id, a number, not {model_id!r}")
    if not _is_whole(steps) or steps < 1 or steps > 10**6:
        raise InvalidInput(f"steps is how many models to go back, 1 or more, not {steps!r}")
    if to_seq is not None and not _is_whole(to_seq):
        raise InvalidInput(f"to_seq is the seq of a deployment, as `frontrunner history` lists it, not {to_seq!r}")
    if to_seq is not None and (steps != 1 or algorithm_name):
        raise InvalidInput("to_seq names the deployment to go back to: leave steps and algorithm_name out")
    if expect_model_id is not None and not _is_whole(expect_model_id):
        raise InvalidInput(f"expect_model_id is the model that a plan named, a number, not {expect_model_id!r}")
    for switch, value in {"plan": plan, "force": force, "quarantine": quarantine}.items():
        checked_switch(switch, value)
    why = checked_text("reason", reason) if reason is not None else ""
    if (force or quarantine) and not why:
        raise InvalidInput(f"{'force' if force else 'quarantine'} needs a reason: it is kept in the history")
    algorithm = checked_text("algorithm_name", algorithm_name) if algorithm_name is not None else None
    wish = Wish(name, chosen, algorithm or None, model_id, steps, to_seq)
    return Asked(wish, plan, force, why or None, quarantine, expect_model_id)


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


def said(result: DeployResult, asked: Asked) -> str:
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


def _plan_changed(asked: Asked, chosen: ModelRecord, live: ModelRecord | None) -> PlanChanged:
    planned = f"the plan was model {asked.expect_model_id}"
    if live is not None and live.id == asked.expect_model_id:
        return PlanChanged(f"{planned}, which is live already by now; nothing was changed")
    return PlanChanged(
        f"{planned}, but {asked.wish.strategy} now chooses {named(chosen)}, while"
        f" {f'{named(live)} is' if live else 'nothing is'} live; nothing was changed: plan again"
    )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)

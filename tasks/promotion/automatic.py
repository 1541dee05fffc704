"""The automatic deploy: a run's best candidate goes live if it beats the live model."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from prefect import task

from registry import history, queries
from registry.errors import AllCandidatesFailed, ChoiceChanged, Pruned
from registry.serving.proof import prove
from registry.values import Decision, DecisionRecord, Evidence, ModelRecord, Terms, Verdict
from registry.vocabulary import Basis, Status, Task
from tasks.callers import requested_by
from tasks.flow_runs import TASK_OPTIONS
from tasks.promotion.announce import UNPROVEN, announce
from tasks.promotion.comparison import compare
from tasks.promotion.rule import apply_rule, describe_model
from tasks.values import Training

IDS = re.compile(r"(?<=model )\d+|(?<=snapshots )\d+ and \d+")  # ids in a reason, which differ in an imported project
# Fields that a replay compares with the receipt.
MEASURED = ("basis", "challenger_score", "live_score", "baseline_score", "rows_compared", "rows_excluded", "interval")


def best_model(models: list[ModelRecord]) -> ModelRecord | None:
    """Return the trained model with the highest score, or None if all failed. Ties go to the newest.

    A model in quarantine is returned only if all are in quarantine.
    """
    trained = [model for model in models if model.status is Status.TRAINED and model.score is not None]
    return max(trained, key=lambda model: (model.quarantine is None, model.score, model.id), default=None)


@task(**TASK_OPTIONS, task_run_name="promote the best")
def promote(training: Training, models: list[ModelRecord], automatic_deploy: bool) -> Decision:
    """Deploy the run's best candidate if it beats the live model.

    Raises:
        AllCandidatesFailed: no candidate was trained.
    """
    request, challenger = training.request, best_model(models)
    if challenger is None:
        raise AllCandidatesFailed((model.algorithm, model.reason or "no reason was recorded") for model in models)
    if not automatic_deploy:
        return _only_record(request.project_name, challenger)
    candidates = [model for model in models if model.status is Status.TRAINED]
    decision = decide(request.project_name, request.task, candidates, request.terms, training.key)
    if decision.deployment is not None:
        announce(decision.deployment)
    return decision


def _only_record(project_name: str, challenger: ModelRecord) -> Decision:
    live = queries.live_model(project_name)
    live_id = live.id if live else None
    return Decision(
        project_name=project_name,
        challenger_id=challenger.id,
        deployed=False,
        live_model_id=live_id,
        previous_model_id=live_id,
        reason=f"{describe_model(challenger)} is the best of this run; automatic_deploy is off, so it was only"
        " recorded",
    )


def decide(project_name: str, kind: Task, candidates: list[ModelRecord], terms: Terms, key: str) -> Decision:
    """Compare the best of the trained candidates with the live model, and act on the verdict.

    Both are repeated whenever another deploy was committed after the comparison.
    """
    while True:
        candidates = [queries.model(model.id) for model in candidates]
        challenger, live = best_model(candidates), queries.live_model(project_name)
        if challenger is None:
            raise Pruned(f"every model of this training of {project_name!r} was pruned before a decision: train again")
        if done := history.find_decision(key, challenger.id):
            return done
        evidence, verdict = _judge(kind, challenger, live, candidates, terms)
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


def _judge(
    kind: Task,
    challenger: ModelRecord,
    live: ModelRecord | None,
    candidates: list[ModelRecord],
    terms: Terms,
    seed: int | None = None,
) -> tuple[Evidence, Verdict]:
    """Measure the challenger and apply the rule. If it would go live, also prove that it answers as at training."""
    evidence = compare(kind, challenger, live, candidates, terms, seed)
    verdict = apply_rule(kind, challenger, live, evidence, terms)
    if not verdict.deploy:
        return evidence, verdict
    try:
        warning = prove(challenger)
    except UNPROVEN as error:
        obstacle = f"{describe_model(challenger)} cannot be deployed: {error}"
        evidence = replace(evidence, basis=Basis.UNPROVEN, obstacle=obstacle)
        return evidence, apply_rule(kind, challenger, live, evidence, terms)
    return evidence, replace(verdict, reason=f"{verdict.reason}; {warning}") if warning else verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision that was computed again; `differences` are where it deviates from its receipt."""

    decision: DecisionRecord
    evidence: Evidence
    verdict: Verdict
    differences: tuple[str, ...]


def replay(decision_id: int) -> Replay:
    """Compute a decision again from its snapshot and artifacts, with its own terms. Nothing is written.

    Raises:
        UnknownDecision: there is no such decision.
        Pruned: a model that was measured, or its rows, were deleted.
    """
    receipt = queries.decision(decision_id)
    known = receipt.evidence
    if known.basis is Basis.HELD:  # nothing was measured
        return Replay(receipt, known, Verdict(receipt.deployed, receipt.reason), ())
    challenger = replace(queries.model(receipt.challenger_id), quarantine=None)  # that may be newer than the decision
    live = queries.model(known.live_model_id) if known.live_model_id is not None else None
    if live is not None:
        live = replace(live, quarantine="then" if known.live_quarantined else None)
    candidates = [queries.model(model_id) for model_id in known.candidate_ids]
    measured = [challenger, *([live] if live else []), *(candidates if receipt.terms.confidence else [])]
    if pruned := [model.id for model in measured if model.status is Status.PRUNED]:
        raise Pruned(f"decision {decision_id} cannot be computed again: model {pruned[0]} and its rows were pruned")
    kind = queries.project(receipt.project_name).task
    evidence, verdict = _judge(kind, challenger, live, candidates, receipt.terms, receipt.seed)
    return Replay(receipt, evidence, verdict, _differences(receipt, evidence, verdict))


def _differences(receipt: DecisionRecord, evidence: Evidence, verdict: Verdict) -> tuple[str, ...]:
    pairs: list[tuple[str, Any, Any]] = [("deployed", receipt.deployed, verdict.deploy)]
    if IDS.sub("", receipt.reason) != IDS.sub("", verdict.reason):
        pairs.append(("reason", receipt.reason, verdict.reason))
    pairs += [(name, getattr(receipt.evidence, name), getattr(evidence, name)) for name in MEASURED]
    return tuple(f"{name} was {was}, is {now}" for name, was, now in pairs if was != now)


def code_version() -> str:
    """Return the versions of the packages that compute a decision. Other versions may differ in the last digits."""
    return ", ".join(f"{name} {version(name)}" for name in ("frontrunner", "numpy", "scikit-learn", "xgboost"))

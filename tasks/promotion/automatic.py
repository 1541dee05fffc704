"""The automatic deploy and the deploy by hand: a model is proven to answer, goes live, and is mirrored to MLflow."""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from prefect import task

from registry import history, queries
from registry.errors import (
    AllCandidatesFailed,
    ChoiceChanged,
    Pruned,
)
from registry.serving.proof import prove
from registry.values import Decision, DecisionRecord, Evidence, ModelRecord, Terms, Verdict
from registry.vocabulary import Basis, Status, Task
from tasks.callers import requested_by
from tasks.flow_runs import TASK_OPTIONS
from tasks.promotion.announce import UNPROVEN, announce
from tasks.promotion.comparison import compare
from tasks.promotion.rule import apply_rule, named
from tasks.values import Training

log = logging.getLogger("frontrunner")

IDS = re.compile(r"(?<=model )\d+|(?<=snapshots )\d+ and \d+")  # in a reason; those of an imported project are new


def best(models: list[ModelRecord]) -> ModelRecord | None:
    """The trained model with the highest score, the newest of equals; None if all failed.

    One in quarantine is only the best where all are.
    """
    trained = [model for model in models if model.status is Status.TRAINED and model.score is not None]
    return max(trained, key=lambda model: (model.quarantine is None, model.score, model.id), default=None)


@task(**TASK_OPTIONS, task_run_name="promote the best")
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
        announce(request.project_name, challenger.id)
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
        evidence = compare(kind, challenger, live, candidates, terms)
        verdict = apply_rule(kind, challenger, live, evidence, terms)
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
        return found, apply_rule(kind, challenger, live, found, terms)
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
    evidence = compare(kind, challenger, live, candidates, receipt.terms, receipt.seed)
    verdict = apply_rule(kind, challenger, live, evidence, receipt.terms)
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

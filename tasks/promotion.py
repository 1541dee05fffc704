"""The automatic rule, and the step that makes a model live and then mirrors it to MLflow."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import history, queries
from registry.errors import AllCandidatesFailed, InvalidInput
from registry.history import Rule, checked_name
from registry.values import Decision, DeployResult, ModelRecord, Verdict
from registry.vocabulary import KEY_METRIC, METRIC_LABEL, Status, Strategy, Task, strategy_named
from tasks.mirror import mirror_live
from tasks.requests import requested_by
from tasks.snapshots import Training

log = logging.getLogger("frontrunner")


def beats(score: float | None, live: float | None) -> bool:
    """Higher is better; a tie keeps the live model; no score never wins."""
    if score is None:
        return False
    return live is None or score > live


def recorded_scores(kind: Task) -> Rule:
    """The rule that compares the recorded key metrics, and says so when they come from different rows."""
    label = METRIC_LABEL[KEY_METRIC[kind]]

    def rule(challenger: ModelRecord, incumbent: ModelRecord | None) -> Verdict:
        if challenger.score is None:
            return Verdict(False, f"{_named(challenger)} has no score")
        if incumbent is None or incumbent.score is None:
            worse = "; it is worse than predicting the mean" if kind is Task.REGRESSION and challenger.score < 0 else ""
            return Verdict(True, f"{_named(challenger)} is the first one live: {label} {challenger.score:.4f}{worse}")
        wins = beats(challenger.score, incumbent.score)
        verb = "replaces" if wins else ("ties with" if challenger.score == incumbent.score else "does not beat")
        said = (
            f"{_named(challenger)} {verb} {_named(incumbent)}: {label} {challenger.score:.4f} against"
            f" {incumbent.score:.4f} ({challenger.score - incumbent.score:+.2g})"
        )
        if challenger.snapshot_id != incumbent.snapshot_id:
            said += f"; scored on different rows: snapshots {challenger.snapshot_id} and {incumbent.snapshot_id}"
        return Verdict(wins, said)

    return rule


def best(models: list[ModelRecord]) -> ModelRecord | None:
    """The trained model with the highest score, the newest of equals; None if all failed."""
    trained = [model for model in models if model.status is Status.TRAINED and model.score is not None]
    return max(trained, key=lambda model: (model.score, model.id), default=None)


@task(cache_policy=NO_CACHE, task_run_name="promote the best")
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
        reason = f"{_named(challenger)} is the best of this run; automatic_deploy is off, so it was only recorded"
        return Decision(request.project_name, challenger.id, False, live_id, live_id, reason)
    decision = history.promote(
        challenger.id,
        recorded_scores(request.task),
        request_key=training.key,
        deployed_by=requested_by(),
    )
    if decision.deployed:
        mirror_live(request.project_name)
    return decision


@task(cache_policy=NO_CACHE, task_run_name="{strategy}")
def deploy_model(
    project_name: str, strategy: str, algorithm_name: str | None, key: str, model_id: int | None = None
) -> DeployResult:
    """The manual deploy as a step of a flow."""
    result = deploy(project_name, strategy, algorithm_name, key, model_id)
    log.info("%s", said(result))
    return result


def deploy(
    project_name: str, strategy: str, algorithm_name: str | None, key: str, model_id: int | None = None
) -> DeployResult:
    """Makes the strategy's choice live. MLflow's alias follows if it can; the deploy does not wait for it to be well.

    Raises:
        InvalidInput: there is no such strategy, or the arguments do not go together.
        UnknownProject, NoCandidate: there is nothing that could be deployed; the history is unchanged.
    """
    name, chosen = checked_name(project_name), strategy_named(strategy)
    _check_choice(chosen, algorithm_name, model_id)
    result = history.deploy(
        name, chosen, algorithm_name or None, model_id=model_id, request_key=key, deployed_by=requested_by()
    )
    mirror_live(name)
    return result


def _check_choice(strategy: Strategy, algorithm_name: str | None, model_id: int | None) -> None:
    if strategy is not Strategy.SPECIFIC and model_id is not None:
        raise InvalidInput(f"{strategy} chooses by itself: leave model_id out, or deploy by 'specific'")
    if strategy is Strategy.SPECIFIC and algorithm_name:
        raise InvalidInput("a specific model has its algorithm: leave algorithm_name out")
    if strategy is Strategy.SPECIFIC and (not isinstance(model_id, int) or isinstance(model_id, bool)):
        raise InvalidInput(f"'specific' deploys the model of model_id, a number, not {model_id!r}")


def said(result: DeployResult) -> str:
    """The result in words."""
    model = f"model {result.model_id} ({result.algorithm_name}, score {result.score:.4f})"
    if not result.changed:
        return f"{result.project_name}: {model} was live already; nothing changed"
    before = f", instead of model {result.previous_model_id}" if result.previous_model_id else ""
    return f"{result.project_name}: {model} went live by {result.strategy}{before}"


def _named(model: ModelRecord) -> str:
    return f"{model.algorithm} (model {model.id})"

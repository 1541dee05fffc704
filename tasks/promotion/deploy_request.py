"""A manual deploy as it was asked for, checked before anything is looked up."""

from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from registry.choices import DeployRequest
from registry.errors import InvalidInput
from registry.vocabulary import Strategy, strategy_named
from tasks.parameters import RollbackParameters, SpecificModel
from tasks.validation import STRICT, check


@dataclass(frozen=True, slots=True)
class ManualDeploy:
    """How a manual deploy is to be done; `wish` says what."""

    wish: DeployRequest
    plan: bool
    force: bool
    reason: str | None
    quarantine: bool
    expect_model_id: int | None


@checked_dataclass(frozen=True, config=STRICT)
class _Parameters(RollbackParameters):
    """The parameters of every manual deploy together; which strategy takes which is checked afterwards."""

    model_id: SpecificModel = None


def checked_deploy(project_name: str, strategy: str, algorithm_name: str | None = None, **how: Any) -> ManualDeploy:
    """Return a deploy that can be tried. `how` are further parameters of the flows deploy and rollback.

    Raises:
        InvalidInput: there is no such strategy, or the arguments do not go together.
    """
    asked = check(_Parameters, {"project_name": project_name, "algorithm_name": algorithm_name, **how})
    chosen = strategy_named(strategy)
    _refuse_contradiction(chosen, asked)
    wish = DeployRequest(asked.project_name, chosen, asked.algorithm_name, asked.model_id, asked.steps, asked.to_seq)
    return ManualDeploy(wish, asked.plan, asked.force, asked.reason, asked.quarantine, asked.expect_model_id)


def _refuse_contradiction(strategy: Strategy, asked: _Parameters) -> None:
    """Raise InvalidInput if the arguments do not go together."""
    specific = strategy is Strategy.SPECIFIC
    if not specific and asked.model_id is not None:
        raise InvalidInput(f"{strategy} chooses by itself: leave model_id out, or deploy by 'specific'")
    if specific and asked.algorithm_name:
        raise InvalidInput("a specific model has its algorithm: leave algorithm_name out")
    if specific and asked.model_id is None:
        raise InvalidInput("'specific' deploys the model of model_id: name it")
    if asked.to_seq is not None and (asked.steps != 1 or asked.algorithm_name):
        raise InvalidInput("to_seq names the deployment to go back to: leave steps and algorithm_name out")
    if (asked.force or asked.quarantine) and not asked.reason:
        raise InvalidInput(f"{'force' if asked.force else 'quarantine'} needs a reason: it is kept in the history")

"""The parameters of a manual deploy, checked before anything is looked up."""

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
    """A manual deploy: `request` selects the model, the other fields are how to deploy it."""

    request: DeployRequest
    plan: bool
    force: bool
    reason: str | None
    quarantine: bool
    expect_model_id: int | None


@checked_dataclass(frozen=True, config=STRICT)
class _Parameters(RollbackParameters):
    """The parameters of every strategy. `_refuse_contradiction` checks which of them go together."""

    model_id: SpecificModel = None


def checked_deploy(project_name: str, strategy: str, algorithm_name: str | None = None, **options: Any) -> ManualDeploy:
    """Return a manual deploy whose parameters are valid. `options` are the other parameters of deploy and rollback.

    Raises:
        InvalidInput: there is no such strategy, or the parameters do not go together.
    """
    given = check(_Parameters, {"project_name": project_name, "algorithm_name": algorithm_name, **options})
    chosen = strategy_named(strategy)
    _refuse_contradiction(chosen, given)
    request = DeployRequest(given.project_name, chosen, given.algorithm_name, given.model_id, given.steps, given.to_seq)
    return ManualDeploy(request, given.plan, given.force, given.reason, given.quarantine, given.expect_model_id)


def _refuse_contradiction(strategy: Strategy, given: _Parameters) -> None:
    """Raise InvalidInput if the parameters do not go together."""
    specific = strategy is Strategy.SPECIFIC
    if not specific and given.model_id is not None:
        raise InvalidInput(f"{strategy} chooses the model: leave model_id out, or deploy by 'specific'")
    if specific and given.algorithm_name:
        raise InvalidInput("'specific' deploys the model of model_id, whatever its algorithm: leave algorithm_name out")
    if specific and given.model_id is None:
        raise InvalidInput("'specific' deploys the model of model_id: add model_id")
    if given.to_seq is not None and (given.steps != 1 or given.algorithm_name):
        raise InvalidInput("to_seq selects the deployment to go back to: leave steps and algorithm_name out")
    if (given.force or given.quarantine) and not given.reason:
        raise InvalidInput(f"{'force' if given.force else 'quarantine'} needs a reason, which the history keeps")

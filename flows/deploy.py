"""The flows of the manual deploys. Each makes the model that a strategy chooses live."""

import logging

from prefect import task

from flows.parameters import flow_of
from registry.values import DeployResult
from registry.vocabulary import Strategy
from tasks.callers import request_key
from tasks.flow_runs import TASK_OPTIONS, completed, tag_flow_run
from tasks.parameters import ChooseParameters, DeployParameters, RollbackParameters
from tasks.promotion.deploy_request import ManualDeploy, checked_deploy
from tasks.promotion.manual import deploy as deploy_now
from tasks.promotion.manual import describe
from tasks.reporting.deploy import report_deploy

log = logging.getLogger("frontrunner")


@flow_of(DeployParameters, name="deploy", flow_run_name="deploy {project_name} by {strategy}")
def deploy(given: DeployParameters) -> DeployResult:
    """Make the model that a strategy chooses live.

    Returns:
        What is live now; `changed` is False when it was live already.
    """
    return _deploy(checked_deploy(**vars(given)))


@flow_of(ChooseParameters, name="best-score", flow_run_name="best_score {project_name}")
def best_score(given: ChooseParameters) -> DeployResult:
    """Make the trained model with the highest key metric live."""
    return _deploy(checked_deploy(strategy=Strategy.BEST_SCORE, **vars(given)))


@flow_of(ChooseParameters, name="most-recent", flow_run_name="most_recent {project_name}")
def most_recent(given: ChooseParameters) -> DeployResult:
    """Make the newest trained model live."""
    return _deploy(checked_deploy(strategy=Strategy.MOST_RECENT, **vars(given)))


@flow_of(RollbackParameters, name="rollback", flow_run_name="rollback {project_name}")
def rollback(given: RollbackParameters) -> DeployResult:
    """Go back to the model that was live before this one. A second rollback undoes the first."""
    return _deploy(checked_deploy(strategy=Strategy.ROLLBACK, **vars(given)))


@task(**TASK_OPTIONS, task_run_name="{manual.request.strategy}")
def deploy_model(manual: ManualDeploy, key: str) -> DeployResult:
    """Deploy the model that the strategy chooses, as a step of a flow."""
    result = deploy_now(manual, key)
    log.info("%s", describe(result, manual))
    return result


def _deploy(manual: ManualDeploy) -> DeployResult:
    tag_flow_run(manual.request.project_name)
    result = deploy_model(manual, request_key())
    report_deploy(result, manual)
    return completed(describe(result, manual), result)

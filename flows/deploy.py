"""Deploy by hand: choose which trained model answers from now on."""

import logging
from typing import Literal

from prefect import flow, task

from registry.values import DeployResult
from tasks.callers import request_key
from tasks.estimators.algorithms import AlgorithmName
from tasks.flow_runs import TASK_OPTIONS, completed, tag_flow_run
from tasks.promotion import manual
from tasks.promotion.manual import ManualDeploy, checked_deploy, describe
from tasks.reporting.reports import report_deploy

log = logging.getLogger("frontrunner")

# Our own code checks the arguments: it says in one line what is wrong, and the form's check can be switched off.


@flow(name="deploy", flow_run_name="deploy {project_name} by {strategy}", validate_parameters=False)
def deploy(
    project_name: str,
    strategy: Literal["best_score", "most_recent", "rollback", "specific"] = "best_score",
    algorithm_name: AlgorithmName | None = None,
    model_id: int | None = None,
    plan: bool = False,
    expect_model_id: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> DeployResult:
    """Make the model that a strategy chooses live.

    Args:
        project_name: The project whose live model is to change.
        strategy: best_score: the highest key metric ever. most_recent: the newest trained model. rollback: the model
            that was live before this one. specific: the model of model_id.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
        model_id: The model to deploy, with the strategy specific alone.
        plan: Only say which model would go live; nothing is changed.
        expect_model_id: Deploy this model or none: the one that a plan named. Empty: whatever is chosen now.
        force: Deploy without proof that the model's file is whole and answers as it did at training. Needs a reason.
        reason: Why; it is kept in the history.

    Returns:
        What is live now; `changed` is False when it was live already.
    """
    return _deploy(
        checked_deploy(
            project_name,
            strategy,
            algorithm_name,
            model_id=model_id,
            plan=plan,
            expect_model_id=expect_model_id,
            force=force,
            reason=reason,
        )
    )


@flow(name="best-score", flow_run_name="best_score {project_name}", validate_parameters=False)
def best_score(
    project_name: str,
    algorithm_name: AlgorithmName | None = None,
    plan: bool = False,
    expect_model_id: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> DeployResult:
    """Make the trained model with the highest key metric live.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
        plan: Only say which model would go live; nothing is changed.
        expect_model_id: Deploy this model or none: the one that a plan named. Empty: whatever is chosen now.
        force: Deploy without proof that the model's file is whole and answers as it did at training. Needs a reason.
        reason: Why; it is kept in the history.
    """
    return _deploy(
        checked_deploy(
            project_name,
            "best_score",
            algorithm_name,
            plan=plan,
            expect_model_id=expect_model_id,
            force=force,
            reason=reason,
        )
    )


@flow(name="most-recent", flow_run_name="most_recent {project_name}", validate_parameters=False)
def most_recent(
    project_name: str,
    algorithm_name: AlgorithmName | None = None,
    plan: bool = False,
    expect_model_id: int | None = None,
    force: bool = False,
    reason: str | None = None,
) -> DeployResult:
    """Make the newest trained model live.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
        plan: Only say which model would go live; nothing is changed.
        expect_model_id: Deploy this model or none: the one that a plan named. Empty: whatever is chosen now.
        force: Deploy without proof that the model's file is whole and answers as it did at training. Needs a reason.
        reason: Why; it is kept in the history.
    """
    return _deploy(
        checked_deploy(
            project_name,
            "most_recent",
            algorithm_name,
            plan=plan,
            expect_model_id=expect_model_id,
            force=force,
            reason=reason,
        )
    )


@flow(name="rollback", flow_run_name="rollback {project_name}", validate_parameters=False)
def rollback(
    project_name: str,
    algorithm_name: AlgorithmName | None = None,
    steps: int = 1,
    to_seq: int | None = None,
    quarantine: bool = False,
    reason: str | None = None,
    plan: bool = False,
    expect_model_id: int | None = None,
    force: bool = False,
) -> DeployResult:
    """Go back to the model that was live before this one. A second rollback undoes the first.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Go back to the last live model of this algorithm, such as svm; empty: of any.
        steps: How many models to go back, in the order in which they were last live.
        to_seq: Go back to the model that this deployment made live, by its seq in the history. Empty: by steps.
        quarantine: Keep the model that is live now from being chosen again until it is released. Needs a reason.
        reason: Why; it is kept in the history and with the quarantine.
        plan: Only say which model would go live; nothing is changed.
        expect_model_id: Go back to this model or to none: the one that a plan named. Empty: whatever is chosen now.
        force: Go back without proof that the model's file is whole and answers as it did at training. Needs a reason.
    """
    return _deploy(
        checked_deploy(
            project_name,
            "rollback",
            algorithm_name,
            steps=steps,
            to_seq=to_seq,
            quarantine=quarantine,
            reason=reason,
            plan=plan,
            expect_model_id=expect_model_id,
            force=force,
        )
    )


@task(**TASK_OPTIONS, task_run_name="{request.wish.strategy}")
def deploy_model(request: ManualDeploy, key: str) -> DeployResult:
    """Deploy as a step of a flow."""
    result = manual.deploy(request, key)
    log.info("%s", describe(result, request))
    return result


def _deploy(request: ManualDeploy) -> DeployResult:
    tag_flow_run(request.wish.project_name)
    result = deploy_model(request, request_key())
    report_deploy(result, request)
    return completed(describe(result, request), result)

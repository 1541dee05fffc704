"""Deploy by hand: choose which trained model answers from now on."""

from typing import Literal

from prefect import flow

from registry.values import DeployResult
from tasks.promotion import deploy_model
from tasks.reports import report_deploy
from tasks.requests import request_key

# Our own code checks the arguments: it says in one line what is wrong, and the form's check can be switched off.


@flow(name="deploy", flow_run_name="deploy {project_name} by {strategy}", validate_parameters=False)
def deploy(
    project_name: str,
    strategy: Literal["best_score", "most_recent", "rollback", "specific"] = "best_score",
    algorithm_name: str | None = None,
    model_id: int | None = None,
) -> DeployResult:
    """Make the model that a strategy chooses live.

    Args:
        project_name: The project whose live model is to change.
        strategy: best_score: the highest key metric ever. most_recent: the newest trained model. rollback: the model
            that was live before this one. specific: the model of model_id.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
        model_id: The model to deploy, with the strategy specific alone.

    Returns:
        What is live now; `changed` is False when it was live already.
    """
    return _deploy(project_name, strategy, algorithm_name, model_id)


@flow(name="best-score", flow_run_name="best_score {project_name}", validate_parameters=False)
def best_score(project_name: str, algorithm_name: str | None = None) -> DeployResult:
    """Make the trained model with the highest key metric live.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
    """
    return _deploy(project_name, "best_score", algorithm_name)


@flow(name="most-recent", flow_run_name="most_recent {project_name}", validate_parameters=False)
def most_recent(project_name: str, algorithm_name: str | None = None) -> DeployResult:
    """Make the newest trained model live.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Choose only among models of this algorithm, such as svm; empty: among all.
    """
    return _deploy(project_name, "most_recent", algorithm_name)


@flow(name="rollback", flow_run_name="rollback {project_name}", validate_parameters=False)
def rollback(project_name: str, algorithm_name: str | None = None) -> DeployResult:
    """Go back to the model that was live before this one. A second rollback undoes the first.

    Args:
        project_name: The project whose live model is to change.
        algorithm_name: Go back to the last live model of this algorithm, such as svm; empty: of any.
    """
    return _deploy(project_name, "rollback", algorithm_name)


def _deploy(project_name: str, strategy: str, algorithm_name: str | None, model_id: int | None = None) -> DeployResult:
    result = deploy_model(project_name, strategy, algorithm_name, request_key(), model_id)
    report_deploy(result)
    return result

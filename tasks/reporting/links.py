"""Links to pages of MLflow and Prefect, as Markdown."""

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from registry import settings
from tasks.tracking.alias import registered_name


def mlflow_run(experiment_id: str, run_id: str | None) -> str:
    """Return a link to a candidate's run, or its id if MLflow's address is not known."""
    return _mlflow("run", f"experiments/{experiment_id}/runs/{run_id}", or_else=run_id) if run_id else ""


def mlflow_model(project_id: int) -> str:
    """Return a link to the project's registered model; empty if MLflow's address is not known."""
    return _mlflow("What was live, in MLflow", f"models/{registered_name(project_id)}")


def prefect_run() -> str:
    """Return a link to the current flow run, or its id if Prefect's address is not known; empty outside of a run."""
    run_id, api = flow_run.get_id(), PREFECT_API_URL.value()
    if not run_id:
        return ""
    return f"[Flow run]({api.removesuffix('/api')}/v2/runs/flow-run/{run_id})" if api else f"Flow run {run_id}"


def _mlflow(text: str, path: str, or_else: str | None = None) -> str:
    ui = settings.mlflow_ui()
    return f"[{text}]({ui}/#/{path}?workflowType=machine_learning)" if ui else or_else or ""

"""Where people look further: pages of MLflow and Prefect, where their addresses are known."""

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from registry import settings
from tasks.tracking.alias import registered_name


def mlflow_run(experiment_id: str, run_id: str | None) -> str:
    """A candidate's run as Markdown; without a known address its id."""
    return _mlflow("run", f"experiments/{experiment_id}/runs/{run_id}", or_else=run_id) if run_id else ""


def mlflow_model(project_id: int) -> str:
    """The project's models that were live, as Markdown; without a known address nothing."""
    return _mlflow("What was live, in MLflow", f"models/{registered_name(project_id)}")


def prefect_run() -> str:
    """The page of the flow run that asks, as Markdown; outside of one nothing."""
    run_id, api = flow_run.get_id(), PREFECT_API_URL.value()
    if not run_id:
        return ""
    return f"[Flow run]({api.removesuffix('/api')}/v2/runs/flow-run/{run_id})" if api else f"Flow run {run_id}"


def _mlflow(text: str, path: str, or_else: str | None = None) -> str:
    ui = settings.mlflow_ui()
    return f"[{text}]({ui}/#/{path}?workflowType=machine_learning)" if ui else or_else or ""

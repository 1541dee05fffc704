"""Where people look further: pages of MLflow, as Markdown links where its address is known."""

from registry import settings
from tasks.mirror import registered_name


def mlflow_run(experiment_id: str, run_id: str | None) -> str:
    """A candidate's run; without a known address its id."""
    return _link("run", f"experiments/{experiment_id}/runs/{run_id}", or_else=run_id) if run_id else ""


def mlflow_model(project_id: int) -> str:
    """The project's models that were live; without a known address nothing."""
    return _link("What was live, in MLflow", f"models/{registered_name(project_id)}")


def _link(text: str, path: str, or_else: str | None = None) -> str:
    ui = settings.mlflow_ui()
    return f"[{text}]({ui}/?workflowType=machine_learning#/{path})" if ui else or_else or ""

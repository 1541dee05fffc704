"""The last step of a prediction's flow: the page of its run."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.predictions import PredictResult, describe
from tasks.reporting.publish import publish


@task(cache_policy=NO_CACHE, task_run_name="report")
def report_predictions(result: PredictResult) -> None:
    """Show how many rows were scored by which model on the run's page."""
    text = describe(result)
    publish("predictions", result.project_name, text, lambda: f"**{text}**")

"""Score a relation with the live model."""

from typing import Literal

from prefect import flow

from tasks.flow_runs import ended, tag
from tasks.predictions import PredictResult, said, score_rows
from tasks.reports import report_predictions
from tasks.requests import request_key


@flow(name="predict", flow_run_name="predict {project_name}", validate_parameters=False)
def predict(
    project_name: str, relation_name: str, output: str, if_exists: Literal["replace", "append"] = "replace"
) -> PredictResult:
    """Score every row of a relation with the live model.

    Args:
        project_name: The project whose live model answers.
        relation_name: Where the rows are, SOURCE:NAME: files:new.parquet, warehouse:public.orders.
        output: Where they go with their predictions: files:scored.parquet, files:scored.csv, warehouse:public.scored.
        if_exists: replace what is there; or append to a table, in which a retry of the same run adds nothing twice.

    Returns:
        How many rows were scored, and by which model.
    """
    tag(project_name)
    result = score_rows(project_name, relation_name, output, if_exists, request_key())
    report_predictions(result)
    return ended(said(result), result)

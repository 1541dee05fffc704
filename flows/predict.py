"""Score a relation with the live model."""

from typing import Literal

from prefect import flow

from tasks.callers import request_key
from tasks.flow_runs import completed, tag_flow_run
from tasks.predictions import PredictResult, describe, score_rows
from tasks.reporting.reports import report_predictions


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
    tag_flow_run(project_name)
    result = score_rows(project_name, relation_name, output, if_exists, request_key())
    report_predictions(result)
    return completed(describe(result), result)

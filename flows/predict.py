"""The flow that scores a relation with the live model."""

from flows.parameters import flow_of
from tasks.callers import request_key
from tasks.flow_runs import completed, tag_flow_run
from tasks.parameters import PredictParameters
from tasks.predictions import PredictResult, describe, score_rows
from tasks.reporting.predict import report_predictions


@flow_of(PredictParameters, name="predict", flow_run_name="predict {project_name}")
def predict(given: PredictParameters) -> PredictResult:
    """Score every row of a relation with the live model.

    Returns:
        How many rows were scored, and by which model.
    """
    tag_flow_run(given.project_name)
    result = score_rows(given.project_name, given.relation_name, given.output, given.if_exists, request_key())
    report_predictions(result)
    return completed(describe(result), result)

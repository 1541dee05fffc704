"""The flow that trains candidates and deploys the best one if it beats the live model."""

from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import flow_of
from tasks.callers import request_key
from tasks.data.frozen_rows import rows_kept
from tasks.data.predicted import predictions_kept
from tasks.data.snapshots import take_snapshot
from tasks.flow_runs import completed, one_training_at_a_time, tag_flow_run
from tasks.parameters import TrainParameters
from tasks.promotion.automatic import promote
from tasks.reporting.results import TrainResult
from tasks.reporting.train import report_training
from tasks.tracking.runs import training_run
from tasks.training.candidates import prepare_processes, train_candidates
from tasks.training.dask import check_cluster
from tasks.training.heartbeat import keep_alive
from tasks.training.requests import check_request
from tasks.training.threads import cores_shared, threads_each, workers


@flow_of(
    TrainParameters,
    first=("project_name", "relation_name", "y_column_name", "algorithms", "task"),
    name="train",
    flow_run_name="train {project_name}",
    task_runner=ThreadPoolTaskRunner(max_workers=workers()),
)
def train(given: TrainParameters) -> TrainResult:
    """Train candidates for a project and deploy the best one if it beats the live model.

    Returns:
        The leaderboard, which model was deployed, and why or why not.
    """
    prepare_processes()
    request = check_request(given)
    check_cluster()
    tag_flow_run(request.project_name)
    with one_training_at_a_time(request.project_name):
        training = take_snapshot(request, request_key())
        threads = threads_each(training)
        with training_run(training.run), cores_shared(threads), rows_kept(), predictions_kept():
            with keep_alive(training):
                models = train_candidates(training, threads)
            decision = promote(training, models, given.automatic_deploy)
            result = report_training(training, models, decision)
    return completed(result.reason, result)

"""Train candidates, and deploy the best one when it beats the model that is live."""

from typing import Any, Literal

from prefect import flow

from tasks.callers import checked_switch, request_key
from tasks.data.frozen_rows import rows_kept
from tasks.data.predicted import predictions_kept
from tasks.data.snapshots import take_snapshot
from tasks.estimators.algorithms import AlgorithmName
from tasks.flow_runs import completed, one_training_at_a_time, tag_flow_run
from tasks.promotion.automatic import promote
from tasks.reporting.reports import report_training
from tasks.reporting.results import TrainResult
from tasks.tracking.runs import training_run
from tasks.training.candidates import rows_for_processes, train_candidates
from tasks.training.dask import check_cluster
from tasks.training.heartbeat import CandidateRunner, keep_alive
from tasks.training.requests import DEFAULT_TEST_SIZE, check_request, checked_terms
from tasks.training.threads import cores_shared, threads_each, workers


@flow(
    name="train",
    flow_run_name="train {project_name}",
    task_runner=CandidateRunner(max_workers=workers()),  # type: ignore[arg-type]
    validate_parameters=False,  # our own checks say in one line what is wrong, and change no type silently
)
def train(
    project_name: str,
    task: Literal["classification", "regression"] | None = None,
    relation_name: str | None = None,
    y_column_name: str | list[str] | None = None,
    algorithms: list[AlgorithmName] | None = None,
    hyperparams: dict[str, dict[str, Any]] | None = None,
    search: Literal["grid", "random", "optuna"] | None = None,
    search_params: dict[str, Any] | None = None,
    search_args: dict[str, Any] | None = None,
    test_size: float = DEFAULT_TEST_SIZE,
    test_sampling: Literal["stratified", "random", "last"] | None = None,
    preprocess: dict[str, dict[str, Any]] | None = None,
    automatic_deploy: bool = True,
    seed: int = 0,
    compare: Literal["same_rows", "recorded"] = "same_rows",
    min_improvement: float = 0.0,
    confidence: float | None = None,
    must_beat_baseline: bool = False,
) -> TrainResult:
    """Train candidates for a project and deploy the best one if it beats the live model.

    Args:
        project_name: The project; it is made with its first training.
        task: What is predicted: labels (classification) or numbers (regression). Needed for a new project only.
        relation_name: Where the rows are, SOURCE:NAME: sklearn:digits, files:flights.parquet, warehouse:public.orders.
            Empty: train again on the project's newest snapshot.
        y_column_name: The column to predict, or several of them (regression). Needed with a relation.
        algorithms: What to train; empty: linear, random_forest and xgboost.
        hyperparams: {algorithm: {parameter: value}}, as in {"svm": {"C": 10}}; what is not named keeps its library's
            default.
        search: How to look for better hyperparameters, by cross-validation on the training rows; empty: not at all.
            optuna takes ranges and learns from its trials.
        search_params: {algorithm: {parameter: [values]}}, as in {"svm": {"C": [1, 10]}}; for optuna also ranges:
            {"xgboost": {"max_depth": {"low": 2, "high": 10}}}.
        search_args: cv, the number of folds (5); n_iter, how many a random search tries (10); n_trials (20) and timeout
            in seconds, optuna's budget.
        test_size: The share of the rows to score on (0.25), or above 1 their count.
        test_sampling: Which rows those are; empty: stratified for classification, random for regression. last: the
            newest, at the end.
        preprocess: {column: {option: value}}; other columns are prepared by their type. impute: error, mean, median,
            mode, min, max, zero. encode: native, ordinal, one_hot, target. scale: preserve, standard, min_max, max_abs,
            robust.
        automatic_deploy: Deploy the best candidate if it beats the live model. Off: only record.
        seed: For the split and for every estimator that draws random numbers.
        compare: same_rows: both models on test rows that neither was trained on. recorded: the scores of their
            trainings.
        min_improvement: How much higher than the live model's the score has to be; 0: any higher.
        confidence: How sure the improvement has to be, as 0.95: a paired bootstrap of the compared rows, which minds
            that the challenger is the best of several. Empty: the scores alone count.
        must_beat_baseline: The best candidate also has to beat scikit-learn's dummy: the commonest label, or the mean.

    Returns:
        The leaderboard, which model was deployed, and why or why not.
    """
    request = check_request(
        project_name,
        task,
        relation_name,
        y_column_name,
        algorithms,
        hyperparams,
        search,
        search_params,
        search_args,
        test_size,
        test_sampling,
        preprocess,
        seed,
        checked_terms(compare, min_improvement, confidence, must_beat_baseline),
    )
    automatic_deploy = checked_switch("automatic_deploy", automatic_deploy)
    check_cluster()
    tag_flow_run(request.project_name)
    with one_training_at_a_time(request.project_name):
        training = take_snapshot(request, request_key())
        threads = threads_each(training)
        with training_run(training.run), cores_shared(threads), rows_kept(), predictions_kept():
            with rows_for_processes(training) as rows, keep_alive(training):
                models = train_candidates(training, threads, rows)
            decision = promote(training, models, automatic_deploy)
            result = report_training(training, models, decision)
    return completed(result.reason, result)

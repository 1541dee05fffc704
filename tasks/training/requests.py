"""Check a request to train before anything is read, fitted or written."""

from prefect import task

from registry import queries, settings
from registry.errors import InvalidInput, TaskMismatch
from registry.values import SnapshotRecord, Terms
from registry.vocabulary import DEFAULT_SAMPLING, Compare, Sampling, Task
from tasks.estimators.algorithms import checked_algorithms, checked_hyperparams
from tasks.estimators.preprocessing import checked_preprocess
from tasks.estimators.search_space import checked_search
from tasks.flow_runs import TASK_OPTIONS
from tasks.parameters import DEFAULT_TEST_SIZE, TrainParameters
from tasks.values import TrainingRequest


def checked_request(given: TrainParameters) -> TrainingRequest:
    """Return the request with its defaults filled in.

    Without a relation the project's newest snapshot is trained on again, with its split. The other arguments must then
    agree with it (a `test_size` left at its default always does). Only `preprocess` may differ, because it is fitted
    with each model; if it is not given, the snapshot's own is used.

    Raises:
        InvalidInput: an argument contradicts another one, the project or the snapshot.
        UnknownProject, NothingToTrainOn: there is no relation, and nothing to train on again.
    """
    preprocess = checked_preprocess(given.preprocess)
    snapshot = None if given.relation_name else queries.newest_snapshot(given.project_name)
    task = _task(given.project_name, given.task)
    y_column_names = _y_column_names(given.y_column_name, task)
    if snapshot:
        _refuse_disagreement(snapshot, given, y_column_names)
    elif not y_column_names:
        raise InvalidInput(f"y_column_name is missing: name the column of {given.relation_name} to predict")
    algorithms = checked_algorithms(task, given.algorithms)
    hyperparams = checked_hyperparams(task, algorithms, given.hyperparams)
    search = checked_search(
        given.search, given.search_params, given.search_args, task, algorithms, given.hyperparams or {}
    )
    sampling = Sampling(given.test_sampling) if given.test_sampling else DEFAULT_SAMPLING[task]
    return TrainingRequest(
        project_name=given.project_name,
        task=task,
        relation_name=snapshot.relation_name if snapshot else str(given.relation_name),
        y_column_names=snapshot.y_column_names if snapshot else y_column_names,
        algorithms=tuple(algorithms),
        hyperparams=hyperparams,
        search=search,
        preprocess=snapshot.preprocess if snapshot and given.preprocess is None else preprocess,
        test_size=snapshot.test_size if snapshot else given.test_size,
        test_sampling=snapshot.test_sampling if snapshot else sampling,
        seed=given.seed,
        snapshot=snapshot,
        terms=_terms(given),
    )


check_request = task(**TASK_OPTIONS, name="check_request", task_run_name="check")(checked_request)


def _terms(given: TrainParameters) -> Terms:
    """Return the terms on which a challenger goes live."""
    if given.confidence is not None and given.compare == "recorded":
        raise InvalidInput("confidence requires comparing on the same rows: leave it out, or set compare='same_rows'")
    return Terms(
        Compare(given.compare),
        given.min_improvement,
        given.confidence,
        given.must_beat_baseline,
        settings.min_compared_rows(),
    )


def _y_column_names(given: str | list[str] | None, task: Task) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if len(set(names)) < len(names):
        raise InvalidInput(f"y_column_name names a column twice: {', '.join(names)}")
    if len(names) > 1 and task is Task.CLASSIFICATION:
        raise InvalidInput(
            f"several targets ({', '.join(names)}) are for regression: name one, or classify each in its own project"
        )
    return names


def _task(project_name: str, given: str | None) -> Task:
    """Return the given task, or the project's."""
    project = queries.find_project(project_name)
    if project is None and given is None:
        raise InvalidInput(f"project {project_name!r} is new: set its task, classification or regression")
    if project and given and project.task != given:
        raise TaskMismatch(project_name, project.task, given)
    return project.task if project else Task(str(given))


def _refuse_disagreement(snapshot: SnapshotRecord, given: TrainParameters, y_column_names: tuple[str, ...]) -> None:
    test_size = None if given.test_size == DEFAULT_TEST_SIZE else given.test_size
    requested = {"y_column_name": y_column_names, "test_size": test_size, "test_sampling": given.test_sampling}
    has = {
        "y_column_name": snapshot.y_column_names,
        "test_size": snapshot.test_size,
        "test_sampling": str(snapshot.test_sampling),
    }
    for name, value in requested.items():
        if value and value != has[name]:
            raise InvalidInput(
                f"snapshot {snapshot.id} of {snapshot.relation_name} has {name} {has[name]!r}, not {value!r}: leave it"
                " out to train on the same rows again, or name the relation to take a new snapshot"
            )

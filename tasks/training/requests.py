"""What was asked for, checked before anything is read, fitted or written; and who asked."""

import math
from collections.abc import Sequence
from typing import Any

from prefect import task

from registry import queries, settings
from registry.errors import InvalidInput, TaskMismatch
from registry.names import checked_name
from registry.values import SnapshotRecord, Terms
from registry.vocabulary import DEFAULT_SAMPLING, Compare, Task, compare_named, sampling_named, task_named
from tasks.callers import checked_switch
from tasks.estimators.algorithms import checked_algorithms, checked_hyperparams
from tasks.estimators.search import checked_search
from tasks.flow_runs import TASK_OPTIONS
from tasks.values import TrainingRequest

DEFAULT_TEST_SIZE = 0.25


def checked_request(
    project_name: str,
    task: str | None,
    relation_name: str | None,
    y_column_name: str | Sequence[str] | None,
    algorithms: list[str] | None,
    hyperparams: dict[str, dict[str, Any]] | None,
    search: str | None,
    search_params: dict[str, Any] | None,
    search_args: dict[str, Any] | None,
    test_size: float,
    test_sampling: str | None,
    preprocess: dict[str, dict[str, Any]] | None,
    seed: int,
    terms: Terms,
) -> TrainingRequest:
    """The request with its defaults filled in.

    Without a relation the project's newest snapshot is trained on again, split as it is: what is said of it then must
    agree with it (test_size left at its default says nothing). Only `preprocess` may be another: it is fitted with each
    model, and the snapshot's own holds when nothing is said.

    Raises:
        InvalidInput: an argument is wrong by itself, or disagrees with the project or the snapshot.
        UnknownProject, NothingToTrainOn: there is no relation, and nothing to train on again.
    """
    from tasks.estimators.preprocessing import checked_preprocess

    name = checked_name(project_name)
    size = checked_test_size(test_size)
    chosen_preprocess = checked_preprocess(preprocess)
    sampling = sampling_named(test_sampling) if test_sampling else None
    snapshot = None if relation_name else queries.newest_snapshot(name)
    resolved = _task(name, task)
    y_column_names = _y_column_names(y_column_name, resolved)
    chosen = checked_algorithms(resolved, algorithms)
    fixed = checked_hyperparams(resolved, chosen, hyperparams)
    if snapshot:
        asked = {"y_column_name": y_column_names, "test_size": size, "test_sampling": sampling}
        _refuse_disagreement(snapshot, {what: value for what, value in asked.items() if _said(what, value)})
        relation_name, y_column_names = snapshot.relation_name, snapshot.y_column_names
        size, sampling = snapshot.test_size, snapshot.test_sampling
        chosen_preprocess = snapshot.preprocess if preprocess is None else chosen_preprocess
    elif not y_column_names:
        raise InvalidInput(f"which column of {relation_name} is to be predicted? Name it: y_column_name")
    return TrainingRequest(
        name,
        resolved,
        str(relation_name),
        y_column_names,
        tuple(chosen),
        fixed,
        checked_search(search, search_params, search_args, resolved, chosen, hyperparams or {}),
        chosen_preprocess,
        size,
        sampling or DEFAULT_SAMPLING[resolved],
        checked_seed(seed),
        snapshot,
        terms,
    )


check_request = task(**TASK_OPTIONS, name="check_request", task_run_name="check")(
    checked_request
)  # as a step of a flow


def checked_terms(compare: str, min_improvement: float, confidence: float | None, must_beat_baseline: bool) -> Terms:
    """What a challenger is asked for.

    Raises:
        InvalidInput: an argument is wrong by itself, or recorded scores are to be compared with confidence.
    """
    chosen = compare_named(compare)
    if not _is_number(min_improvement) or min_improvement < 0:
        raise InvalidInput(f"min_improvement is a number of at least 0, not {min_improvement!r}")
    if confidence is not None and not (_is_number(confidence) and 0.5 <= confidence <= 0.999):
        raise InvalidInput(f"confidence is a number from 0.5 to 0.999, as 0.95, not {confidence!r}")
    if confidence is not None and chosen is Compare.RECORDED:
        raise InvalidInput("confidence needs both models on the same rows: leave it out, or compare='same_rows'")
    checked_switch("must_beat_baseline", must_beat_baseline)
    return Terms(chosen, float(min_improvement), confidence, must_beat_baseline, settings.min_compared_rows())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def checked_test_size(test_size: float) -> float:
    """A share of the rows between 0 and 1, or a count of two rows or more.

    Raises:
        InvalidInput: it is neither.
    """
    if _is_number(test_size) and (0 < test_size < 1 or (test_size > 1 and test_size == int(test_size))):
        return test_size
    raise InvalidInput(f"test_size is a share between 0 and 1 or a count of at least 2 rows, not {test_size!r}")


def checked_seed(seed: int) -> int:
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32:
        return seed
    raise InvalidInput(f"seed is a whole number from 0 to {2**32 - 1}, not {seed!r}")


def _y_column_names(given: str | Sequence[str] | None, task: Task) -> tuple[str, ...]:
    listed = given is None or isinstance(given, Sequence)
    names = (given,) if isinstance(given, str) else tuple((listed and given) or ())
    if not listed or not all(isinstance(name, str) and name for name in names):
        raise InvalidInput(f"y_column_name is the name of a column, or a list of them, not {given!r}")
    if len(set(names)) < len(names):
        raise InvalidInput(f"y_column_name names a column twice: {', '.join(names)}")
    if len(names) > 1 and task is Task.CLASSIFICATION:
        raise InvalidInput(
            f"several targets ({', '.join(names)}) are for regression: classify one, or each in a project"
        )
    return names


def _task(project_name: str, given: str | None) -> Task:
    """The task that was asked for, or the one that the project has."""
    wanted = task_named(given) if given else None
    project = queries.find_project(project_name)
    if project is None and wanted is None:
        raise InvalidInput(f"project {project_name!r} is new: say its task, classification or regression")
    if project and wanted and project.task != wanted:
        raise TaskMismatch(project_name, project.task, wanted)
    return project.task if project else Task(str(wanted))


def _said(what: str, value: Any) -> bool:
    return bool(value) and not (what == "test_size" and value == DEFAULT_TEST_SIZE)


def _refuse_disagreement(snapshot: SnapshotRecord, asked: dict[str, Any]) -> None:
    has = {
        "y_column_name": snapshot.y_column_names,
        "test_size": snapshot.test_size,
        "test_sampling": snapshot.test_sampling,
    }
    for what, value in asked.items():
        if value != has[what]:
            raise InvalidInput(
                f"snapshot {snapshot.id} of {snapshot.relation_name} has {what} {has[what]!r}, not {value!r}: leave it"
                " out to train on the same rows again, or name the relation to take a new snapshot"
            )

"""Pruning a project: what is not kept is marked, then its files go; what a crash leaves of that goes the next time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry import lifecycle, queries, retention
from registry.errors import NotDeleted, TrackingUnavailable
from registry.retention import Keep
from registry.values import Pruning
from registry.vocabulary import Status
from tasks.parameters import KeepParameters
from tasks.tracking import cleanup
from tasks.tracking.cleanup import MlflowContents
from tasks.validation import check


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a prune took, or would take. `left`: why files are still there; the next prune or reconcile deletes them."""

    project_name: str
    model_ids: tuple[int, ...]
    snapshot_ids: tuple[int, ...]
    planned: bool
    left: tuple[str, ...] = ()


def checked_keep(keep_deployments: object, keep_models: object) -> Keep:
    """Return what to keep. Raises: InvalidInput."""
    given = check(KeepParameters, {"keep_deployments": keep_deployments, "keep_models": keep_models})
    return Keep(given.keep_deployments, given.keep_models)


def prune(project_name: str, keep: Keep, *, dry_run: bool = False) -> PruneResult:
    """Marks what is not kept, so that no strategy can choose it any more, and deletes its files.

    MLflow being away leaves files behind, and says so.

    Raises:
        UnknownProject: there is no such project.
    """
    if dry_run:
        taken = retention.planned(project_name, keep)
        return PruneResult(project_name, taken.model_ids, taken.snapshot_ids, planned=True)
    taken = lifecycle.prune(project_name, keep)
    left: list[str] = []
    try:
        delete_files(project_name, cleanup.kept(project_name), lambda said, done: None if done else left.append(said))
    except TrackingUnavailable as error:
        left.append(str(error))
    return PruneResult(project_name, taken.model_ids, taken.snapshot_ids, planned=False, left=tuple(left))


def to_delete(project_name: str, has: MlflowContents) -> Pruning:
    """The pruned models and snapshots of which something is left, in the registry or in MLflow."""
    models, snapshots = queries.unfinished_pruning(project_name)
    known = owners(project_name)
    left = {model.id for model in models}
    for run in has.runs:
        if run.model_id and known.get(run.model_id) == (run.request, Status.PRUNED) and not run.deleted:
            left.add(run.model_id)
    return Pruning(tuple(sorted(left)), tuple(snapshot.id for snapshot in snapshots))


def owners(project_name: str) -> dict[int, tuple[str, Status]]:
    """Of each model, the key of the training that it is of, and what it is: other registries have its number, too."""
    trainings = queries.trainings(project_name)
    return {model.id: (key, model.status) for key, training in trainings.items() for model in training.models}


def delete_files(project_name: str, has: MlflowContents, tell: Callable[[str, bool], None]) -> None:
    """Deletes what is left of what was pruned; a row forgets its file only when that is gone.

    Raises:
        TrackingUnavailable: MLflow cannot be reached at all.
    """
    project_id, left, known = queries.project(project_name).id, to_delete(project_name, has), owners(project_name)
    for model_id in left.model_ids:
        with _told(f"model {model_id}", tell):
            cleanup.remove_model(project_id, queries.model(model_id), has.of(model_id, known[model_id][0]))
            lifecycle.forget_model_files(model_id)
    for snapshot_id in left.snapshot_ids:
        with _told(f"snapshot {snapshot_id}", tell):
            cleanup.remove_snapshot(queries.snapshot(snapshot_id))
            lifecycle.forget_snapshot_files(snapshot_id)


@contextmanager
def _told(what: str, tell: Callable[[str, bool], None]) -> Iterator[None]:
    try:
        yield
    except NotDeleted as error:
        tell(f"the files of {what}, which was pruned, are still there: {error}", False)
    else:
        tell(f"the files of {what}, which was pruned, are deleted", True)

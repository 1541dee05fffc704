"""Prune a project: mark what is not kept, then delete its files. After a crash, the next prune finishes the work."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from registry import lifecycle, queries, retention
from registry.errors import NotDeleted, TrackingUnavailable
from registry.queries import Training
from registry.retention import Keep
from registry.values import Pruning
from registry.vocabulary import Status
from tasks.parameters import KeepParameters
from tasks.tracking import cleanup
from tasks.tracking.cleanup import MlflowContents
from tasks.validation import check


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The pruned models and snapshots; `left` are the reasons why files remain, which the next prune deletes."""

    project_name: str
    model_ids: tuple[int, ...]
    snapshot_ids: tuple[int, ...]
    planned: bool
    left: tuple[str, ...] = ()


class Owner(NamedTuple):
    """The key of a model's training, and the model's status. Another registry may have a model of the same id."""

    request: str
    status: Status


def checked_keep(keep_deployments: object, keep_models: object) -> Keep:
    """Return what to keep. Raises: InvalidInput."""
    given = check(KeepParameters, {"keep_deployments": keep_deployments, "keep_models": keep_models})
    return Keep(given.keep_deployments, given.keep_models)


def prune(project_name: str, keep: Keep, *, dry_run: bool = False) -> PruneResult:
    """Mark models and snapshots that are not kept, so that no strategy can choose them, and delete their files.

    If MLflow cannot be reached, the files stay and the result has the reason.

    Raises:
        UnknownProject: there is no such project.
    """
    if dry_run:
        plan = retention.plan_prune(project_name, keep)
        return PruneResult(project_name, plan.model_ids, plan.snapshot_ids, planned=True)
    pruned = lifecycle.prune(project_name, keep)
    left: list[str] = []
    try:
        has, known = cleanup.contents(project_name), owners(queries.trainings(project_name))
        delete_files(project_name, has, known, lambda message, done: None if done else left.append(message))
    except TrackingUnavailable as error:
        left.append(str(error))
    return PruneResult(project_name, pruned.model_ids, pruned.snapshot_ids, planned=False, left=tuple(left))


def owners(trainings: Mapping[str, Training]) -> dict[int, Owner]:
    """Return the owner of each model's files by the model's id."""
    return {model.id: Owner(key, model.status) for key, training in trainings.items() for model in training.models}


def to_delete(project_name: str, has: MlflowContents, known: Mapping[int, Owner]) -> Pruning:
    """Return the pruned models and snapshots that still have files or runs in the registry or in MLflow."""
    models, snapshots = queries.unfinished_pruning(project_name)
    left = {model.id for model in models}
    for run in has.runs:
        if run.model_id and known.get(run.model_id) == (run.request, Status.PRUNED) and not run.deleted:
            left.add(run.model_id)
    return Pruning(tuple(sorted(left)), tuple(snapshot.id for snapshot in snapshots))


def delete_files(
    project_name: str, has: MlflowContents, known: Mapping[int, Owner], report: Callable[[str, bool], None]
) -> None:
    """Delete the remaining files and runs of everything pruned. A row keeps its file's address until the file is gone.

    Raises:
        TrackingUnavailable: MLflow cannot be reached.
    """
    project_id, left = queries.project(project_name).id, to_delete(project_name, has, known)
    for model_id in left.model_ids:
        with _reported(f"model {model_id}", report):
            cleanup.remove_model(project_id, queries.model(model_id), has.of(model_id, known[model_id].request))
            lifecycle.forget_model_files(model_id)
    for snapshot_id in left.snapshot_ids:
        with _reported(f"snapshot {snapshot_id}", report):
            cleanup.remove_snapshot(queries.snapshot(snapshot_id))
            lifecycle.forget_snapshot_files(snapshot_id)


@contextmanager
def _reported(what: str, report: Callable[[str, bool], None]) -> Iterator[None]:
    try:
        yield
    except NotDeleted as error:
        report(f"the files of {what}, which was pruned, are still there: {error}", False)
    else:
        report(f"the files of {what}, which was pruned, are deleted", True)

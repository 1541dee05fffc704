"""Reconcile the registry and MLflow after crashes and outages."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from registry import lifecycle, queries
from registry.errors import ForeignAlias, TrackingUnavailable
from registry.queries import Training
from registry.schema import now
from registry.serving.artifacts import is_gone
from registry.timeouts import with_timeout
from registry.values import ModelRecord
from registry.vocabulary import Status
from tasks.tracking import cleanup
from tasks.tracking.alias import LIVE, mirror_live, mirrored_model_id
from tasks.tracking.cleanup import LoggedModel, MlflowContents
from tasks.upkeep.prune import Owner, delete_files, owners, to_delete

HEARTBEAT_TIMEOUT = timedelta(minutes=5)  # a candidate without a heartbeat for this long has lost its process
GRACE_PERIOD = timedelta(hours=1)  # anything younger may belong to a running training
CONTENTS_SECONDS = 30
PROJECT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Action:
    """One finding, described by `said`.

    `done` is True if it was fixed, or would be outside a dry run; False if that failed; None if it needs a person.
    """

    project_name: str | None
    what: str
    said: str
    done: bool | None


class ProjectRun(NamedTuple):
    """The actions in one project."""

    project_name: str
    dry_run: bool
    actions: list[Action]

    def report(self, what: str, message: str, done: bool | None = True) -> None:
        self.actions.append(Action(self.project_name, what, message, done))

    def act(self, what: str, message: str, action: Callable[[], None]) -> None:
        if not self.dry_run:
            action()
        self.report(what, message)


class Known(NamedTuple):
    """The registry's trainings and models of a project, read once, after MLflow's contents."""

    trainings: dict[str, Training]
    owners: dict[int, Owner]

    @property
    def models(self) -> list[ModelRecord]:
        return [model for training in self.trainings.values() for model in training.models]


def reconcile(project_name: str | None = None, *, dry_run: bool = False) -> list[Action]:
    """Reconcile every project, or one.

    Lost candidates are recorded first, because that needs only the registry. If MLflow cannot be reached, one action
    reports it, and the rest is left for the next time.

    Raises:
        UnknownProject: there is no such project.
    """
    names = [project_name] if project_name else [project.project_name for project in queries.projects()]
    actions: list[Action] = []
    for name in names:
        _fail_lost(ProjectRun(name, dry_run, actions))
    for name in names:
        project = ProjectRun(name, dry_run, [])
        try:
            with_timeout(PROJECT_SECONDS, f"reconcile {name}", partial(_follow_registry, project))
        except (TimeoutError, TrackingUnavailable) as error:
            message = str(error) or f"reconciling {name!r} with MLflow took longer than {PROJECT_SECONDS} s"
            left = Action(None, "MLflow", f"{message}; everything that needs it is left", False)
            return [*actions, *project.actions, left]
        actions += project.actions
    return actions


def _fail_lost(project: ProjectRun) -> None:
    """Record candidates without a heartbeat as failed."""
    since = now() - HEARTBEAT_TIMEOUT
    for model in queries.silent_models(project.project_name, since):
        if project.dry_run or lifecycle.fail_lost(model.id, since):
            project.report("lost", f"model {model.id} ({model.algorithm}) is recorded as failed: its process was lost")


def _follow_registry(project: ProjectRun) -> None:
    try:
        has = with_timeout(CONTENTS_SECONDS, "MLflow", partial(cleanup.contents, project.project_name))
    except TimeoutError as error:
        raise TrackingUnavailable(f"MLflow gave no answer in {CONTENTS_SECONDS} s") from error
    trainings = queries.trainings(project.project_name)
    known = Known(trainings, owners(trainings))
    _mirror(project)
    _kill_abandoned(project, has, known)
    _finish_pruning(project, has, known)
    _delete_orphans(project, has, known)
    _report_missing_files(project, has, known)


def _mirror(project: ProjectRun) -> None:
    """Make MLflow's alias name the live model, if somebody moved it or a deployment failed to."""
    newest = next(iter(queries.history(project.project_name, limit=1)), None)
    if newest is None:
        return
    try:
        named = mirrored_model_id(queries.project(project.project_name).id)
        was = "nothing" if named is None else f"model {named}"
    except ForeignAlias:
        named, was = None, "no model of ours"
    if named == newest.model_id and queries.mirrored_seq(project.project_name) == newest.seq:
        return
    done = project.dry_run or mirror_live(project.project_name)
    message = f"MLflow's alias {LIVE!r} names model {newest.model_id}, which is live; it named {was}"
    failure = f"MLflow's alias {LIVE!r} names {was}, and could not be fixed"
    project.report("mirrored", message if done else failure, done)


def _kill_abandoned(project: ProjectRun, has: MlflowContents, known: Known) -> None:
    """End MLflow's runs that are still marked as running although their training is over."""
    at = now()
    for run in has.runs:
        if not run.running or run.deleted:
            continue
        training = known.trainings.get(run.request)
        if training is None:  # it has no snapshot yet, or belongs to another registry
            over = run.started_at < at - GRACE_PERIOD
        else:
            over = not training.going_on and max(training.last_sign, run.started_at) < at - HEARTBEAT_TIMEOUT
        if over:
            message = f"MLflow's run {run.id} of a training that is over ends as KILLED"
            project.act("killed", message, partial(cleanup.kill, run))


def _finish_pruning(project: ProjectRun, has: MlflowContents, known: Known) -> None:
    if not project.dry_run:
        delete_files(project.project_name, has, known.owners, partial(project.report, "pruned"))
        return
    left = to_delete(project.project_name, has, known.owners)
    for what, ids in {"model": left.model_ids, "snapshot": left.snapshot_ids}.items():
        for number in ids:
            project.report("pruned", f"the files of {what} {number}, which was pruned, are deleted")


def _delete_orphans(project: ProjectRun, has: MlflowContents, known: Known) -> None:
    """Delete saved models that no model refers to: a candidate failed afterwards, or it is an earlier attempt's."""
    named = {model.mlflow_model_id for model in known.models}
    for saved in has.saved:
        if saved.id not in named and saved.created_at <= now() - GRACE_PERIOD:
            _delete_orphan(project, saved, known.owners.get(saved.model_id))


def _delete_orphan(project: ProjectRun, saved: LoggedModel, owner: Owner | None) -> None:
    if owner is None or saved.run is None or saved.run.request != owner.request:
        message = f"MLflow's model {saved.id} belongs to no training of this registry; it is left alone"
        project.report("stranger", message, None)
    elif owner.status is not Status.RUNNING and owner.status is not Status.PRUNED:
        message = f"MLflow's model {saved.id}, which is not the file of model {saved.model_id}, is deleted"
        project.act("deleted", message, partial(cleanup.remove_saved, saved))


def _report_missing_files(project: ProjectRun, has: MlflowContents, known: Known) -> None:
    """Report trained models whose file is missing; they need a person's decision."""
    saved_ids = {saved.id for saved in has.saved}
    for model in known.models:
        if model.status is not Status.TRAINED or model.artifact is None:
            continue
        gone = is_gone(model.artifact)
        listed = model.mlflow_model_id is None or model.mlflow_model_id in saved_ids  # an imported model has none
        if gone or (gone is None and not listed):
            fix = f"restore it, or `frontrunner quarantine {model.id} --reason …` keeps it from being chosen"
            project.report("gone", f"the file of model {model.id} ({model.algorithm}) is missing: {fix}", None)

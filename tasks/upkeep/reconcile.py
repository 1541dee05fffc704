"""What crashes and outages left behind is put in order: MLflow follows the registry, and what was lost is recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from registry import lifecycle, queries
from registry.errors import ForeignAlias, TrackingUnavailable
from registry.schema import now
from registry.serving.artifacts import is_gone
from registry.timeouts import with_timeout
from registry.vocabulary import Status
from tasks.tracking import cleanup
from tasks.tracking.alias import LIVE, mirror_live, mirrored_model_id
from tasks.tracking.cleanup import MlflowContents, StoredRun
from tasks.upkeep.prune import delete_files, owners, to_delete

SILENT = timedelta(minutes=5)  # a candidate of whose process nothing was heard for so long has none any more
YOUNG = timedelta(hours=1)  # what may belong to a training that goes on is left alone
ASK_SECONDS = 30
PROJECT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was found; `done`: it was mended, or would be; False: it could not be; None: it wants a person."""

    project_name: str | None
    what: str
    said: str
    done: bool | None


class ProjectRun(NamedTuple):
    """One project's turn."""

    project_name: str
    dry_run: bool
    deeds: list[Action]

    def tell(self, what: str, said: str, done: bool | None = True) -> None:
        self.deeds.append(Action(self.project_name, what, said, done))

    def does(self, what: str, said: str, deed: Callable[[], None]) -> None:
        if not self.dry_run:
            deed()
        self.tell(what, said)


def reconcile(project_name: str | None = None, *, dry_run: bool = False) -> list[Action]:
    """Every project, or one. What needs the registry alone is done first; MLflow being away is one line, and the rest
    is left for the next time.

    Raises:
        UnknownProject: there is no such project.
    """
    names = [project_name] if project_name else [project.project_name for project in queries.projects()]
    rounds = [ProjectRun(name, dry_run, []) for name in names]
    for each in rounds:
        _fail_lost(each)
    deeds = [deed for each in rounds for deed in each.deeds]
    for each in rounds:
        each.deeds.clear()
        try:
            with_timeout(PROJECT_SECONDS, f"reconcile {each.project_name}", lambda each=each: _with_mlflow(each))  # type: ignore[misc]
        except (TimeoutError, TrackingUnavailable) as error:
            said = str(error) or f"MLflow did not end with {each.project_name!r} within {PROJECT_SECONDS} s"
            return [*deeds, *each.deeds, Action(None, "MLflow", f"{said}; what it is needed for is left", False)]
        deeds += each.deeds
    return deeds


def _with_mlflow(each: ProjectRun) -> None:
    try:
        has = with_timeout(ASK_SECONDS, "MLflow", lambda: cleanup.kept(each.project_name))
    except TimeoutError as error:
        raise TrackingUnavailable(f"MLflow gave no answer in {ASK_SECONDS} s") from error
    _mirror(each)
    _kill_abandoned(each, has)
    _finish_pruning(each, has)
    _delete_orphans(each, has)
    _tell_gone(each, has)


def _fail_lost(each: ProjectRun) -> None:
    """Candidates whose process was killed, or is gone with its machine."""
    since = now() - SILENT
    for model in queries.silent_models(each.project_name, since):
        if each.dry_run or lifecycle.fail_lost(model.id, since):
            each.tell("lost", f"model {model.id} ({model.algorithm}) is recorded as failed: its process was lost")


def _mirror(each: ProjectRun) -> None:
    """One question where all is well: somebody may have moved the alias."""
    newest = next(iter(queries.history(each.project_name, limit=1)), None)
    if newest is None:
        return
    try:
        named = mirrored_model_id(queries.project(each.project_name).id)
        was = "nothing" if named is None else f"model {named}"
    except ForeignAlias:
        named, was = None, "no model of ours"
    if named == newest.model_id and queries.mirrored_seq(each.project_name) == newest.seq:
        return
    done = each.dry_run or mirror_live(each.project_name)
    said = f"MLflow's alias {LIVE!r} names model {newest.model_id}, which is live; it named {was}"
    each.tell("mirrored", said if done else f"MLflow's alias {LIVE!r} names {was}, and could not be put right", done)


def _kill_abandoned(each: ProjectRun, has: MlflowContents) -> None:
    """Runs that say they are running, of trainings that are not."""
    trainings, at = queries.trainings(each.project_name), now()
    for run in has.runs:
        if not run.running or run.deleted:
            continue
        training = trainings.get(run.request)
        if training is None:  # it froze no rows yet, or is another registry's
            over = run.started_at < at - YOUNG
        else:
            over = not training.going_on and max(training.last_sign, run.started_at) < at - SILENT
        if over:
            each.does("killed", f"MLflow's run {run.id} of a training that is over ends as KILLED", _killing(run))


def _killing(run: StoredRun) -> Callable[[], None]:
    return lambda: cleanup.kill(run)


def _finish_pruning(each: ProjectRun, has: MlflowContents) -> None:
    if not each.dry_run:
        delete_files(each.project_name, has, lambda said, done: each.tell("pruned", said, done))
        return
    left = to_delete(each.project_name, has)
    for what, ids in {"model": left.model_ids, "snapshot": left.snapshot_ids}.items():
        for number in ids:
            each.tell("pruned", f"the files of {what} {number}, which was pruned, are deleted")


def _delete_orphans(each: ProjectRun, has: MlflowContents) -> None:
    """Saved models that are no model's file: of a candidate that failed afterwards, or of an earlier try of it."""
    known = owners(each.project_name)
    named = {model.mlflow_model_id for model in queries.models(each.project_name)}
    for saved in has.saved:
        if saved.id in named or saved.created_at > now() - YOUNG:
            continue
        key, status = known.get(saved.model_id, ("", None))
        if saved.run is None or saved.run.request != key:
            said = f"MLflow's model {saved.id} is of no training that this registry knows; it is left alone"
            each.tell("stranger", said, None)
        elif status is not Status.RUNNING and status is not Status.PRUNED:
            said = f"MLflow's model {saved.id}, which is not the file of model {saved.model_id}, is deleted"
            each.does("deleted", said, lambda saved=saved: cleanup.remove_saved(saved))  # type: ignore[misc]


def _tell_gone(each: ProjectRun, has: MlflowContents) -> None:
    """Trained models whose file is not there; which one is right about it is for a person to say."""
    there = {saved.id for saved in has.saved}
    for model in queries.models(each.project_name):
        if model.status is not Status.TRAINED or model.artifact is None:
            continue
        gone = is_gone(model.artifact)
        listed = model.mlflow_model_id is None or model.mlflow_model_id in there  # an imported one is in no list
        if gone or (gone is None and not listed):
            mend = f"restore it, or `frontrunner quarantine {model.id} --reason …` keeps it from being chosen"
            each.tell("gone", f"the file of model {model.id} ({model.algorithm}) is not there any more: {mend}", None)

"""List and delete a project's contents of MLflow: runs, saved models, versions, and their files."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from registry import settings
from registry.errors import NotDeleted
from registry.values import ModelRecord, SnapshotRecord
from tasks.tracking.alias import LIVE, registered_name
from tasks.tracking.models import FILE
from tasks.tracking.runs import experiment_name
from tasks.tracking.store import client, require_store, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 1000
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")  # MLflow's codes for what is not there


class StoredRun(NamedTuple):
    """A run of Frontrunner's; `request` is its training's key, `model_id` is None for the training's own run."""

    id: str
    request: str
    model_id: int | None
    running: bool
    deleted: bool
    started_at: datetime
    uri: str


class LoggedModel(NamedTuple):
    """A model that a candidate saved; `run` is its candidate's, None if MLflow does not know it."""

    id: str
    model_id: int
    run: StoredRun | None
    created_at: datetime
    uri: str


class MlflowContents(NamedTuple):
    """MLflow's runs and saved models of a project; deleted runs still show whose a saved model is."""

    runs: list[StoredRun]
    saved: list[LoggedModel]

    def of(self, model_id: int, request: str) -> "MlflowContents":
        """Return those of one candidate; another registry may have a model of that number, but not of that training."""
        runs = [run for run in self.runs if (run.model_id, run.request) == (model_id, request)]
        mine = [saved for saved in self.saved if saved.model_id == model_id and saved.run in runs]
        return MlflowContents(runs, mine)


def contents(project_name: str) -> MlflowContents:
    """Return what MLflow has of a project. Raises: TrackingUnavailable, as every function here."""
    require_store()
    from mlflow.entities import ViewType  # mlflow is slow to import, and a flow imports this module

    with translated():
        mlflow = client()
        experiment = mlflow.get_experiment_by_name(experiment_name(project_name))
        if experiment is None:
            return MlflowContents([], [])
        ids = [experiment.experiment_id]
        found = _pages(lambda token: mlflow.search_runs(ids, "", ViewType.ALL, PAGE, page_token=token))
        runs = [_run(each) for each in found if "frontrunner.request" in each.data.tags]
        of = {run.id: run for run in runs}
        logged = _pages(lambda token: mlflow.search_logged_models(ids, page_token=token))
        saved = [_saved(each, of.get(each.source_run_id)) for each in logged if "frontrunner.model_id" in each.tags]
        return MlflowContents(runs, saved)


def kill(run: StoredRun) -> None:
    """End a run as KILLED whose process is gone."""
    with translated():
        client().set_terminated(run.id, "KILLED")


def remove_saved(saved: LoggedModel) -> None:
    """Delete a saved model: first its files, so that what is left after an error can be found again."""
    with translated():
        _remove_files(saved.uri)
        client().delete_logged_model(saved.id)


def remove_model(project_id: int, model: ModelRecord, has: MlflowContents) -> None:
    """Delete all of a pruned model: its versions, its file, and everything else that MLflow has of it.

    Raises:
        NotDeleted: an alias still names it, or the store deletes nothing.
    """
    with translated():
        mlflow = client()
        versions = _versions(mlflow, project_id, model)
        for version in versions:
            mlflow.delete_model_version(registered_name(project_id), version)
        if model.artifact:
            _remove_files(model.artifact.uri.removesuffix(f"/{FILE}"))
    for saved in has.saved:
        remove_saved(saved)
    with translated():
        for run in has.runs:
            if not run.deleted:
                _remove_files(run.uri)
                mlflow.delete_run(run.id)


def remove_snapshot(snapshot: SnapshotRecord) -> None:
    with translated():
        for artifact in (snapshot.artifact, snapshot.hashes):
            _remove_files(artifact.uri)


def _versions(mlflow: "MlflowClient", project_id: int, model: ModelRecord) -> list[str]:
    """Return the model's versions in MLflow's registry.

    Raises:
        NotDeleted: an alias names one of them; MLflow would delete it silently.
    """
    from mlflow.exceptions import MlflowException  # as above

    name = registered_name(project_id)
    try:
        aliases = mlflow.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code in GONE:
            return []
        raise
    found = mlflow.search_model_versions(f"name = '{name}'")
    mine = [str(each.version) for each in found if each.tags.get("frontrunner.model_id") == str(model.id)]
    for alias, version in aliases.items():
        if str(version) in mine:
            fix = "run `frontrunner reconcile`" if alias == LIVE else "remove the alias in MLflow"
            raise NotDeleted(f"MLflow's alias {alias!r} still names model {model.id} (version {version}): {fix}")
    return mine


def _remove_files(uri: str) -> None:
    """Delete a file or a folder, unless it is gone already."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # as above

    folder, _, name = uri.rstrip("/").rpartition("/")
    try:
        repository: Any = get_artifact_repository(folder, tracking_uri=settings.tracking_uri())
        repository.delete_artifacts(name)
    except NotImplementedError as error:
        raise NotDeleted(f"the store of {uri} deletes nothing: delete it there manually") from error


def _run(run: Any) -> StoredRun:
    tags = run.data.tags
    return StoredRun(
        run.info.run_id,
        tags["frontrunner.request"],
        int(tags["frontrunner.model_id"]) if "frontrunner.model_id" in tags else None,
        run.info.status == "RUNNING",
        run.info.lifecycle_stage == "deleted",
        _time(run.info.start_time),
        str(run.info.artifact_uri),
    )


def _saved(model: Any, run: StoredRun | None) -> LoggedModel:
    number = int(model.tags["frontrunner.model_id"])
    return LoggedModel(model.model_id, number, run, _time(model.creation_timestamp), str(model.artifact_location))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    page = ask(None)
    yield from page
    while page.token:
        page = ask(page.token)
        yield from page

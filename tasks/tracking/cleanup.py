"""List and delete what a project has in MLflow: runs, saved models, versions and their files."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from registry import settings
from registry.errors import NotDeleted
from registry.values import ModelRecord, SnapshotRecord
from tasks.tracking.alias import LIVE, registered_name
from tasks.tracking.models import FILE
from tasks.tracking.runs import experiment_name
from tasks.tracking.store import MISSING, client, none_if, require_store, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE_ROWS = 1000


class StoredRun(NamedTuple):
    """A run of a training; `request` is the training's key, `model_id` is None for the parent run."""

    id: str
    request: str
    model_id: int | None
    running: bool
    deleted: bool
    started_at: datetime
    uri: str


class LoggedModel(NamedTuple):
    """A model that a candidate saved; `run` is the candidate's run, None if MLflow does not have it."""

    id: str
    model_id: int
    run: StoredRun | None
    created_at: datetime
    uri: str


class MlflowContents(NamedTuple):
    """MLflow's runs and saved models of a project; a deleted run still shows the candidate of a saved model."""

    runs: list[StoredRun]
    saved: list[LoggedModel]

    def of(self, model_id: int, request: str) -> "MlflowContents":
        """Return those of one candidate. Another registry's model may have the same id, but not the same training."""
        runs = [run for run in self.runs if (run.model_id, run.request) == (model_id, request)]
        mine = [saved for saved in self.saved if saved.model_id == model_id and saved.run in runs]
        return MlflowContents(runs, mine)


def contents(project_name: str) -> MlflowContents:
    """Return MLflow's runs and saved models of a project.

    Raises:
        TrackingUnavailable: MLflow cannot be reached or refuses; so does every function of this module.
    """
    require_store()
    from mlflow.entities import ViewType  # slow, and commands without MLflow import this module

    with translated():
        mlflow = client()
        experiment = mlflow.get_experiment_by_name(experiment_name(project_name))
        if experiment is None:
            return MlflowContents([], [])
        ids = [experiment.experiment_id]
        found = _pages(lambda token: mlflow.search_runs(ids, "", ViewType.ALL, PAGE_ROWS, page_token=token))
        runs = {run.info.run_id: _run(run) for run in found if "frontrunner.request" in run.data.tags}
        logged = _pages(lambda token: mlflow.search_logged_models(ids, page_token=token))
        ours = [model for model in logged if "frontrunner.model_id" in model.tags]
        return MlflowContents(list(runs.values()), [_saved(model, runs.get(model.source_run_id)) for model in ours])


def kill(run: StoredRun) -> None:
    """End a run as KILLED, because its process is gone."""
    with translated():
        client().set_terminated(run.id, "KILLED")


def remove_saved(saved: LoggedModel) -> None:
    """Delete a saved model: its files first, so that the model can still be found after an error."""
    with translated():
        _remove_files(saved.uri)
        client().delete_logged_model(saved.id)


def remove_model(project_id: int, model: ModelRecord, has: MlflowContents) -> None:
    """Delete a pruned model from MLflow: its versions, its file, its saved models and its runs.

    Raises:
        NotDeleted: an alias still names it, or the store cannot delete.
    """
    with translated():
        mlflow = client()
        for version in _versions(mlflow, project_id, model):
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
        NotDeleted: an alias names one of them, which MLflow would delete silently.
    """
    name = registered_name(project_id)
    registered = none_if(MISSING, lambda: mlflow.get_registered_model(name))
    if registered is None:
        return []
    found = mlflow.search_model_versions(f"name = '{name}'")
    mine = [str(each.version) for each in found if each.tags.get("frontrunner.model_id") == str(model.id)]
    for alias, version in registered.aliases.items():
        if str(version) in mine:
            fix = "run `frontrunner reconcile`" if alias == LIVE else "remove the alias in MLflow"
            raise NotDeleted(f"MLflow's alias {alias!r} still names model {model.id} (version {version}): {fix}")
    return mine


def _remove_files(uri: str) -> None:
    """Delete a file or a folder if it exists."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # slow, as above

    folder, _, name = uri.rstrip("/").rpartition("/")
    try:
        repository: Any = get_artifact_repository(folder, tracking_uri=settings.tracking_uri())
        repository.delete_artifacts(name)
    except NotImplementedError as error:
        raise NotDeleted(f"the store of {uri} cannot delete it: delete it there manually") from error


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


def _pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    page = fetch(None)
    yield from page
    while page.token:
        page = fetch(page.token)
        yield from page

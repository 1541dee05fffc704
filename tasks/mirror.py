"""MLflow's alias `live`, which follows the registry: after every deploy, in bounded time, and never in its way."""

import logging
from typing import TYPE_CHECKING

from registry import queries
from registry.bounded import within
from registry.errors import TrackingUnavailable
from registry.values import ModelRecord, ProjectRecord
from tasks.tracking import FILE, client, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("frontrunner")

LIVE = "live"  # the alias, so that models:/frontrunner-1@live is what answers for project 1
MIRROR_SECONDS = 30  # a deploy waits no longer for MLflow, whatever hangs there


def mirror_live(project_name: str) -> bool:
    """Makes MLflow's alias `live` name the registry's live model; False, with a warning, where MLflow does not do it.

    It takes at most MIRROR_SECONDS: a thread that MLflow keeps waiting longer is left behind.
    """
    try:
        within(MIRROR_SECONDS, "mirror", lambda: _mirror(project_name))
    except Exception as error:  # noqa: BLE001  (whatever it is: the deployment is committed and must be answered for)
        said = f"no answer in {MIRROR_SECONDS} s" if isinstance(error, TimeoutError) else error
        log.warning("the deployment stands, but MLflow's alias %r lags behind until the next deploy: %s", LIVE, said)
        return False
    return True


def _mirror(project_name: str) -> None:
    """Asks the registry again afterwards: when another deploy came between, its model is mirrored too, so whoever
    mirrors last leaves the newest."""
    mirrored = None
    with translated():
        while (model := queries.live_model(project_name)) and model.id != mirrored:
            _set_alias(client(), queries.project(project_name), model)
            mirrored = model.id


def registered_name(project_id: int) -> str:
    """The project's name in MLflow's model registry, where not every character may stand in a name."""
    return f"frontrunner-{project_id}"


def _set_alias(mlflow: "MlflowClient", project: ProjectRecord, model: ModelRecord) -> None:
    from mlflow.exceptions import MlflowException

    assert model.artifact is not None, "a model that was deployed was saved"

    name = registered_name(project.id)
    ours = {"frontrunner.project": project.name, "frontrunner.created_at": project.created_at.isoformat()}
    try:
        mlflow.create_registered_model(
            name,
            tags=ours,
            description=f"The models that were live in the project {project.name!r}; {LIVE!r} is the one that is.",
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if not ours.items() <= mlflow.get_registered_model(name).tags.items():
            raise TrackingUnavailable(
                f"its registered model {name} is another registry's: give each registry an MLflow of its own"
            ) from error
    versions = mlflow.search_model_versions(f"name = '{name}' and run_id = '{model.mlflow_run_id}'")
    version = (
        versions[0]
        if versions
        else mlflow.create_model_version(
            name,
            source=model.artifact.uri.removesuffix(f"/{FILE}"),  # models:/… would be looked up in MLflow's global store
            run_id=model.mlflow_run_id,
            model_id=model.mlflow_model_id,
            tags={"frontrunner.model_id": str(model.id)},
        )
    )
    mlflow.set_registered_model_alias(name, LIVE, version.version)

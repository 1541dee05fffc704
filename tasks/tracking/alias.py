"""MLflow's alias `live`, which follows the registry: after every deploy, in bounded time, and never in its way."""

import logging
from typing import TYPE_CHECKING

from registry import history, queries
from registry.errors import TrackingUnavailable
from registry.timeouts import with_timeout
from registry.values import ModelRecord, ProjectRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL
from tasks.tracking.models import FILE
from tasks.tracking.store import client, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("frontrunner")

LIVE = "live"  # the alias, so that models:/frontrunner-1@live is what answers for project 1
LOOK_BACK = 100  # other deploys that came since
MIRROR_SECONDS = 30  # a deploy waits no longer for MLflow, whatever hangs there


def mirror_live(project_name: str) -> bool:
    """Makes MLflow's alias `live` name the registry's live model; False, with a warning, where MLflow does not do it.

    It takes at most MIRROR_SECONDS: a thread that MLflow keeps waiting longer is left behind.
    """
    try:
        with_timeout(MIRROR_SECONDS, "mirror", lambda: _mirror(project_name))
    except Exception as error:  # noqa: BLE001  (whatever it is: the deployment is committed and must be answered for)
        said = f"no answer in {MIRROR_SECONDS} s" if isinstance(error, TimeoutError) else error
        log.warning("the deployment stands, but MLflow's alias %r lags behind until the next deploy: %s", LIVE, said)
        return False
    return True


def _mirror(project_name: str) -> None:
    """Asks the registry again afterwards: when another deploy came between, its model is mirrored too, so whoever
    mirrors last leaves the newest."""
    project, mirrored = queries.project(project_name), None
    with translated():
        while (newest := next(iter(queries.history(project_name, limit=1)), None)) and newest.seq != mirrored:
            _set_alias(client(), project, queries.model(newest.model_id))
            mirrored = newest.seq
    if mirrored is not None:
        history.mark_mirrored(project.id, mirrored)


def mirrored_model_id(project_id: int) -> int | None:
    """The model that MLflow's alias names; None: it names none; 0: it names one that is not ours.

    Raises:
        TrackingUnavailable: MLflow cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    with translated():
        try:
            version = client().get_model_version_by_alias(registered_name(project_id), LIVE)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
    return int(version.tags.get("frontrunner.model_id", 0))


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
    mlflow.update_model_version(name, version.version, _deployed(project, model))


def _deployed(project: ProjectRecord, model: ModelRecord) -> str:
    """The deployment that made the model live, in words."""
    rows = queries.history(project.name, limit=LOOK_BACK)
    row = next(row for row in rows if row.model_id == model.id)
    label, why = METRIC_LABEL[KEY_METRIC[project.task]], f": {row.reason}" if row.reason else ""
    return (
        f"{row.algorithm_name}, {label} {row.score:.4f}: model {row.model_id} of {project.name!r}."
        f" Deployment {row.seq}, {row.deployed_at:%Y-%m-%d %H:%M} UTC, {row.strategy} by {row.deployed_by}{why}"
    )

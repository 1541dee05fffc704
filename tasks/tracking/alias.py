"""MLflow's alias `live`, which follows the registry after every deploy, in bounded time and without failing it."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from registry import history, queries
from registry.errors import ForeignAlias, TrackingUnavailable
from registry.timeouts import with_timeout
from registry.values import DeploymentRecord, ModelRecord, ProjectRecord
from registry.vocabulary import KEY_METRIC, METRIC_LABEL
from tasks.tracking.models import FILE
from tasks.tracking.store import EXISTS, MISSING, client, none_if, require_store, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger("frontrunner")

LIVE = "live"  # the alias, so that models:/frontrunner-1@live is what answers for project 1
MIRROR_SECONDS = 30  # a deploy waits no longer for MLflow, whatever hangs there


def mirror_live(project_name: str) -> bool:
    """Make MLflow's alias `live` name the registry's live model; return False, with a warning, if that fails.

    It takes at most MIRROR_SECONDS: a thread that MLflow keeps waiting longer is abandoned.
    """
    try:
        with_timeout(MIRROR_SECONDS, "mirror", lambda: _mirror(project_name))
    except Exception as error:  # noqa: BLE001  (whatever it is, the deployment is committed and its result returned)
        reason = f"no answer in {MIRROR_SECONDS} s" if isinstance(error, TimeoutError) else error
        log.warning("the deployment stands, but MLflow's alias %r lags behind until the next deploy: %s", LIVE, reason)
        return False
    return True


def _mirror(project_name: str) -> None:
    """Mirror the newest deployment, and again if another deploy came between: the last to mirror leaves the newest."""
    require_store()
    project, mirrored = queries.project(project_name), None
    with translated():
        while (newest := next(iter(queries.history(project_name, limit=1)), None)) and newest.seq != mirrored:
            _set_alias(client(), project, queries.model(newest.model_id), newest)
            mirrored = newest.seq
    if mirrored is not None:
        history.mark_mirrored(project.id, mirrored)


def mirrored_model_id(project_id: int) -> int | None:
    """Return the id of the model that MLflow's alias names; None if there is no alias.

    Raises:
        ForeignAlias: it names a version that is not ours.
        TrackingUnavailable: MLflow cannot be reached or refuses.
    """
    require_store()
    name = registered_name(project_id)
    with translated():
        version = none_if(MISSING, lambda: client().get_model_version_by_alias(name, LIVE))
    if version is None:
        return None
    with suppress(KeyError, ValueError):
        return int(version.tags["frontrunner.model_id"])
    raise ForeignAlias(LIVE, name, version.version)


def registered_name(project_id: int) -> str:
    """Return the project's name in MLflow's model registry, which does not accept every character."""
    return f"frontrunner-{project_id}"


def _set_alias(mlflow: "MlflowClient", project: ProjectRecord, model: ModelRecord, row: DeploymentRecord) -> None:
    name = registered_name(project.id)
    _create_registered_model(mlflow, name, project)
    version = _version_of(mlflow, name, model)
    mlflow.set_registered_model_alias(name, LIVE, version.version)
    mlflow.update_model_version(name, version.version, _describe(project, row))


def _create_registered_model(mlflow: "MlflowClient", name: str, project: ProjectRecord) -> None:
    """Create the registered model, unless it exists.

    Raises:
        TrackingUnavailable: it exists, and belongs to another registry.
    """
    ours = {"frontrunner.project": project.name, "frontrunner.created_at": project.created_at.isoformat()}
    description = f"The models that were live in the project {project.name!r}; {LIVE!r} is the one that is."
    created = none_if(EXISTS, lambda: mlflow.create_registered_model(name, tags=ours, description=description))
    if created is None and not ours.items() <= mlflow.get_registered_model(name).tags.items():
        raise TrackingUnavailable(
            f"its registered model {name} belongs to another registry: give each registry its own MLflow"
        )


def _version_of(mlflow: "MlflowClient", name: str, model: ModelRecord) -> "ModelVersion":
    """Return the model's version in MLflow's registry, which is created if it does not exist."""
    assert model.artifact is not None, "a model that was deployed was saved"
    if found := mlflow.search_model_versions(f"name = '{name}' and run_id = '{model.mlflow_run_id}'"):
        return found[0]
    return mlflow.create_model_version(
        name,
        source=model.artifact.uri.removesuffix(f"/{FILE}"),  # MLflow would look up models:/… in its global store
        run_id=model.mlflow_run_id,
        model_id=model.mlflow_model_id,
        tags={"frontrunner.model_id": str(model.id)},
    )


def _describe(project: ProjectRecord, row: DeploymentRecord) -> str:
    """Return the version's description: the deployment that made the model live."""
    label, why = METRIC_LABEL[KEY_METRIC[project.task]], f": {row.reason}" if row.reason else ""
    return (
        f"{row.algorithm_name}, {label} {row.score:.4f}: model {row.model_id} of {project.name!r}."
        f" Deployment {row.seq}, {row.deployed_at:%Y-%m-%d %H:%M} UTC, {row.strategy} by {row.deployed_by}{why}"
    )

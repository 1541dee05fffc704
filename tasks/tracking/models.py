"""Fitted models in MLflow: one skops file each."""

from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from registry.errors import CandidateFailed
from registry.serving.artifacts import TRUSTED_TYPES, describe, verified
from registry.values import Artifact, ModelRecord
from tasks.tracking.store import client, translated
from tasks.values import MlflowRun

if TYPE_CHECKING:
    pass


FILE = "model.skops"  # as MLflow's scikit-learn flavour calls it


SIGNATURE_ROWS = 100


EXAMPLE_ROWS = 3


REQUIREMENTS = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")


PACKAGES = ("catboost", "lightgbm", "skrub", "xgboost")


def save_model(
    parent: MlflowRun, run_id: str, model: ModelRecord, pipeline: Any, X: Any, y: Any
) -> tuple[Artifact, str]:
    """Saves the fitted pipeline as an MLflow model of the run, one skops file in it; that file and the model's id."""
    import mlflow.sklearn
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    with translated(), TemporaryDirectory(prefix="frontrunner-") as folder:
        store = client()
        logged = store.create_logged_model(
            parent.experiment_id,
            name=f"{model.algorithm}-{model.id}",
            source_run_id=run_id,
            tags={"frontrunner.model_id": str(model.id)},
        )
        try:
            path = Path(folder) / "model"
            try:
                mlflow.sklearn.save_model(
                    pipeline,
                    str(path),
                    mlflow_model=Model(run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id),
                    signature=_signature(X, y),
                    input_example=X.head(EXAMPLE_ROWS),
                    pip_requirements=_requirements(pipeline),
                    serialization_format="skops",
                    skops_trusted_types=list(TRUSTED_TYPES),
                )
            except MlflowException as error:  # nothing was sent yet: it is the model that cannot be written
                untrusted = error.__cause__
                raise CandidateFailed(f"the fitted model cannot be saved: {untrusted or error}") from error
            store.log_model_artifacts(logged.model_id, str(path))
            store.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        except BaseException:
            store.finalize_logged_model(logged.model_id, "FAILED")
            raise
        artifact = describe(path / FILE, f"{logged.artifact_location}/{FILE}")
        with verified(artifact):  # what the store has is what was sent
            store.finalize_logged_model(logged.model_id, "READY")
        return artifact, logged.model_id


def _signature(X: Any, y: Any) -> Any:
    """Columns and types of the first rows; whole numbers are given as fractional ones: a gap may come later."""
    from mlflow.models import infer_signature

    head = X.head(SIGNATURE_ROWS)
    if len(whole := head.select_dtypes("integer").columns):
        head = head.astype(dict.fromkeys(whole, "float64"))
    return infer_signature(head, y[:SIGNATURE_ROWS])


def _requirements(pipeline: Any) -> list[str]:
    """What an environment needs to load it; said here, since MLflow would start a process a model to find out."""
    used = {type(part).__module__.partition(".")[0] for part in pipeline.get_params().values()} & set(PACKAGES)
    return [f"{name}=={_version(name)}" for name in (*REQUIREMENTS, *sorted(used))]


_version = cache(version)

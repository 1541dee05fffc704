"""Fitted models in MLflow: one skops file each."""

from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from registry.errors import CandidateFailed
from registry.serving.artifacts import TRUSTED_TYPES, describe, verified
from registry.values import Artifact, ModelRecord
from tasks.tracking.store import client, translated
from tasks.values import MlflowRun

FILE = "model.skops"  # as MLflow's scikit-learn flavour calls it
SIGNATURE_ROWS = 100
EXAMPLE_ROWS = 3
REQUIREMENTS = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
OPTIONAL_REQUIREMENTS = {"catboost", "lightgbm", "skrub", "xgboost"}


def save_model(
    parent: MlflowRun, run_id: str, model: ModelRecord, pipeline: Any, X: Any, y: Any
) -> tuple[Artifact, str]:
    """Save the fitted pipeline as an MLflow model of the run; return its skops file and the id of MLflow's model."""
    from mlflow.entities import LoggedModelOutput  # slow, and deploys import this module

    with translated(), TemporaryDirectory(prefix="frontrunner-") as folder:
        store, path = client(), Path(folder) / "model"
        logged = store.create_logged_model(
            parent.experiment_id,
            name=f"{model.algorithm}-{model.id}",
            source_run_id=run_id,
            tags={"frontrunner.model_id": str(model.id)},
        )
        try:
            _write(path, run_id, logged.model_id, pipeline, X, y)
            store.log_model_artifacts(logged.model_id, str(path))
            store.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        except BaseException:
            store.finalize_logged_model(logged.model_id, "FAILED")
            raise
        artifact = describe(path / FILE, f"{logged.artifact_location}/{FILE}")
        with verified(artifact):  # the store has what was sent
            store.finalize_logged_model(logged.model_id, "READY")
        return artifact, logged.model_id


def _write(path: Path, run_id: str, model_id: str, pipeline: Any, X: Any, y: Any) -> None:
    """Write the MLflow model to a local folder.

    Raises:
        CandidateFailed: the fitted pipeline cannot be written.
    """
    import mlflow.sklearn  # slow, as above
    from mlflow.exceptions import MlflowException  # slow, as above
    from mlflow.models import Model, infer_signature  # slow, as above

    try:
        mlflow.sklearn.save_model(
            pipeline,
            str(path),
            mlflow_model=Model(run_id=run_id, model_uuid=model_id, model_id=model_id),
            signature=infer_signature(_fractional(X.head(SIGNATURE_ROWS)), y[:SIGNATURE_ROWS]),
            input_example=X.head(EXAMPLE_ROWS),
            pip_requirements=_requirements(pipeline),
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
        )
    except MlflowException as error:
        raise CandidateFailed(f"the fitted model cannot be saved: {error.__cause__ or error}") from error


def _fractional(head: Any) -> Any:
    """Return the rows with whole numbers as fractional ones, because later rows may have missing values."""
    return head.astype(dict.fromkeys(head.select_dtypes("integer").columns, "float64"))


def _requirements(pipeline: Any) -> list[str]:
    """Return the packages that the model needs; MLflow would start a process for each model to find them."""
    used = {type(part).__module__.partition(".")[0] for part in pipeline.get_params().values()}
    return [f"{name}=={_version(name)}" for name in (*REQUIREMENTS, *sorted(used & OPTIONAL_REQUIREMENTS))]


_version = cache(version)

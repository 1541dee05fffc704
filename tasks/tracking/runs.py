"""A training's runs in MLflow: the parent run and one for each candidate.

Every call names its run, because MLflow's fluent functions keep an active run for every thread. MLflow takes seconds to
import, and `flows.train` imports this module, so each function imports it.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import TYPE_CHECKING, Any

from registry import settings
from registry.errors import TrackingUnavailable
from registry.serving.artifacts import describe, local_path
from registry.values import Artifact, ModelRecord, SnapshotRecord
from tasks.tracking.store import EXISTS, client, none_if, translated
from tasks.values import Found, MlflowRun, TrainingRequest, trials_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import DatasetInput

log = logging.getLogger("frontrunner")

MAX_PARAM_LENGTH = 6000  # in MLflow


def start_run(request: TrainingRequest, request_key: str, flow_run_id: str | None = None) -> MlflowRun:
    """Start the parent run in the project's experiment, which is created with its first run.

    Raises:
        TrackingUnavailable: MLflow cannot be reached or refuses; so does every function here that does not log it.
    """
    tags = {"frontrunner.project": request.project_name, "frontrunner.request": request_key}
    if flow_run_id:
        tags["prefect.flow_run_id"] = flow_run_id
    return _start_parent(request.project_name, f"train {request.project_name}", tags)


def start_import(project_name: str, note: str) -> MlflowRun:
    """Start the parent run of an import."""
    tags = {"frontrunner.project": project_name, "frontrunner.imported": "true", "mlflow.note.content": note}
    return _start_parent(project_name, f"import {project_name}", tags)


def start_imported_model(parent: MlflowRun, project_name: str, row: dict[str, Any]) -> MlflowRun:
    """Start the run of an imported model, with its hyperparameters and metrics; the rest of its old run is lost."""
    tags = {
        "frontrunner.project": project_name,
        "frontrunner.imported": "true",
        "frontrunner.algorithm": row["algorithm"],
        "mlflow.parentRunId": parent.id,
    }
    with translated():
        run = _create_run(parent.experiment_id, row["algorithm"], tags)
        _log_params(run.id, row["hyperparams"])
        _log_metrics(run.id, row["metrics"])
        return run


def save_rows(run: MlflowRun, path: Path) -> Artifact:
    """Save a file of a snapshot to the run's folder `snapshot`."""
    return save_file(run, path, "snapshot")


def save_file(run: MlflowRun, path: Path, folder: str) -> Artifact:
    """Save a file to a folder of the run. It must not change afterwards, because a local store gets a link to it."""
    uri = f"{run.artifact_uri}/{folder}/{path.name}"
    with translated():
        _link(path, uri)
        client().log_artifact(run.id, str(path), folder)
    return describe(path, uri)


def _link(path: Path, uri: str) -> None:
    """Link the file into a store on the same disk; MLflow then finds that it is there already."""
    there = local_path(uri)
    if there is not None:
        there.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # on another disk, or on one without links, MLflow copies it
            os.link(path, there)


def log_training(run: MlflowRun, request: TrainingRequest, snapshot: SnapshotRecord) -> None:
    """Log the training's parameters and its data set."""
    params = {
        "task": request.task,
        "relation_name": snapshot.relation_name,
        "y_column_name": ", ".join(snapshot.y_column_names),
        "test_size": snapshot.test_size,
        "test_sampling": snapshot.test_sampling,
        "seed": request.seed,
    }
    with translated():
        _log_params(run.id, params, {"frontrunner.snapshot_id": str(snapshot.id)})
        client().log_inputs(run.id, datasets=[_dataset(snapshot)])


def end_run(run_id: str, status: str, note: str = "") -> None:
    """End a run as FINISHED, FAILED or KILLED, with a note for its page; log a warning if MLflow does not answer."""
    try:
        with translated():
            mlflow = client()
            if note:
                mlflow.set_tag(run_id, "mlflow.note.content", note)
            mlflow.set_terminated(run_id, status)
    except TrackingUnavailable as error:
        log.warning("MLflow's run %s stays open: %s", run_id, error)


def note_run(run_id: str, note: str) -> None:
    """Set the note at the top of a run's page; log a warning if MLflow does not answer."""
    try:
        with translated():
            client().set_tag(run_id, "mlflow.note.content", note)
    except TrackingUnavailable as error:
        log.warning("MLflow's run %s has no note: %s", run_id, error)


def end_abandoned(run: MlflowRun, model_id: int | None = None) -> None:
    """End the runs of candidates that still run, or the one of a model, as KILLED, because their process was lost."""
    mine = f"tags.`mlflow.parentRunId` = '{run.id}' AND attributes.status = 'RUNNING'"
    if model_id is not None:
        mine += f" AND tags.`frontrunner.model_id` = '{model_id}'"
    try:
        with translated():
            mlflow = client()
            for left in mlflow.search_runs([run.experiment_id], mine):
                mlflow.set_terminated(left.info.run_id, "KILLED")
    except TrackingUnavailable as error:
        log.warning("MLflow's runs of lost candidates may stay open: %s", error)


def is_there(run: MlflowRun) -> bool:
    """Return whether this process's MLflow has the run; the id of its experiment may exist in another MLflow, too."""
    with translated():
        return none_if(("RESOURCE_DOES_NOT_EXIST",), lambda: client().get_run(run.id)) is not None


@contextmanager
def failing(run_id: str) -> Iterator[None]:
    """End the run as FAILED if an error is raised in it, and as KILLED if it is cancelled."""
    try:
        yield
    except BaseException as error:
        end_run(run_id, "FAILED" if isinstance(error, Exception) else "KILLED", " ".join(str(error).split()))
        raise


@contextmanager
def training_run(run: MlflowRun) -> Iterator[None]:
    """End the run with its training, whether that succeeds or fails."""
    with failing(run.id):
        yield
    end_run(run.id, "FINISHED")


def start_candidate(parent: MlflowRun, model: ModelRecord, snapshot: SnapshotRecord) -> str:
    """Start a candidate's run below the training's and return its id."""
    tags = parent.tags | {
        "mlflow.parentRunId": parent.id,
        "frontrunner.snapshot_id": str(snapshot.id),
        "frontrunner.model_id": str(model.id),
        "frontrunner.algorithm": model.algorithm,  # no parameter, because knn has one of that name
    }
    with translated():
        run = _create_run(parent.experiment_id, model.algorithm, tags)
        _log_params(run.id, model.hyperparams)
        client().log_inputs(run.id, datasets=[_dataset(snapshot)])
        return run.id


def log_tables(run_id: str, found: Found | None, preprocessing: dict[str, dict[str, Any]]) -> None:
    """Log how each column was preprocessed, and the trials of a search."""
    import pandas as pd  # slow, as MLflow is

    with translated():
        mlflow = client()
        mlflow.log_dict(run_id, preprocessing, "preprocessing.json")
        if found:
            _log_params(run_id, found.params)
            mlflow.log_table(run_id, pd.DataFrame(trials_table(found.trials)), "search.json")


def log_plots(run_id: str, figures: "dict[str, Figure]") -> None:
    """Draw the plots, and log them as PNG files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow, as MLflow is

    with translated(), TemporaryDirectory(prefix="frontrunner-") as folder:
        for name, figure in figures.items():
            canvas: Any = FigureCanvasAgg(figure)
            # savefig() would draw it twice. Stronger compression takes longer and saves little.
            canvas.print_png(Path(folder) / f"{name}.png", pil_kwargs={"compress_level": 1})
        client().log_artifacts(run_id, folder, "plots")


def log_metrics(run_id: str, mlflow_model_id: str, snapshot: SnapshotRecord, metrics: dict[str, float]) -> None:
    """Log metrics with the model and the data set that they were measured on."""
    dataset = _dataset(snapshot).dataset
    with translated():
        _log_metrics(run_id, metrics, mlflow_model_id, dataset.name, dataset.digest)


def experiment_name(project_name: str) -> str:
    return f"frontrunner/{project_name}"


def _start_parent(project_name: str, name: str, tags: dict[str, str]) -> MlflowRun:
    with translated():
        return _create_run(_experiment_id(project_name), name, tags)


def _experiment_id(project_name: str) -> str:
    """Return the id of the project's experiment, which is created if it does not exist."""
    mlflow, name = client(), experiment_name(project_name)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        root = settings.artifact_root()
        if created := none_if(EXISTS, lambda: mlflow.create_experiment(name, artifact_location=root)):
            return created
        found = mlflow.get_experiment_by_name(name)  # another run has created it since
        assert found is not None
    return str(found.experiment_id)


def _create_run(experiment_id: str, name: str, tags: dict[str, str]) -> MlflowRun:
    run = client().create_run(experiment_id, run_name=name, tags=tags)
    return MlflowRun(run.info.run_id, experiment_id, str(run.info.artifact_uri), tags)


def _log_params(run_id: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> None:
    from mlflow.entities import Param, RunTag  # slow

    client().log_batch(
        run_id,
        params=[Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in (tags or {}).items()],
    )


def _log_metrics(run_id: str, metrics: Mapping[str, float], *measured_on: str) -> None:
    from mlflow.entities import Metric  # slow

    now_ms = int(time() * 1000)
    client().log_batch(
        run_id, metrics=[Metric(name, value, now_ms, 0, *measured_on) for name, value in metrics.items()]
    )


def _dataset(snapshot: SnapshotRecord) -> "DatasetInput":
    """Return the snapshot as MLflow's data set; its digest is that of the frozen file."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # slow

    columns = [{"name": column["name"], "type": column["type"], "required": True} for column in snapshot.columns]
    dataset = Dataset(
        name=snapshot.relation_name[:500],
        digest=snapshot.artifact.sha256[:8],
        source_type="frontrunner",
        source=json.dumps({"snapshot_id": snapshot.id, "uri": snapshot.artifact.uri}),
        schema=json.dumps({"mlflow_colspec": columns[:100]}),
        profile=json.dumps({"train_rows": snapshot.train_rows, "test_rows": snapshot.test_rows}),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])

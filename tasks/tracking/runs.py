"""A training in MLflow: a run for it and for each candidate, and the fitted models; tasks.mirror writes what is live.

Explicit ids and one batch a call: MLflow's fluent functions keep an active run of their own for every thread.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import TYPE_CHECKING, Any

from registry import settings
from registry.errors import TrackingUnavailable
from registry.serving.artifacts import describe, local_path
from registry.values import Artifact, ModelRecord, SnapshotRecord
from tasks.tracking.store import client, translated
from tasks.values import Found, MlflowRun, TrainingRequest, trials_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

log = logging.getLogger("frontrunner")


def start_run(request: TrainingRequest, request_key: str, flow_run_id: str | None = None) -> MlflowRun:
    """Begins the parent run in the project's experiment, which is made with the first one.

    Raises:
        TrackingUnavailable: MLflow cannot be reached. (So for every function here but `end_run` and `mirror_live`.)
    """
    with translated():
        mlflow = client()
        experiment_id = _experiment(mlflow, request.project_name)
        tags = {"frontrunner.project": request.project_name, "frontrunner.request": request_key}
        if flow_run_id:
            tags["prefect.flow_run_id"] = flow_run_id
        return _created(mlflow, experiment_id, f"train {request.project_name}", tags)


def start_import(project_name: str, note: str) -> MlflowRun:
    """Begins the run of a project that is imported: its models' runs are below it."""
    with translated():
        mlflow = client()
        experiment_id = _experiment(mlflow, project_name)
        tags = {"frontrunner.project": project_name, "frontrunner.imported": "true", "mlflow.note.content": note}
        return _created(mlflow, experiment_id, f"import {project_name}", tags)


def start_imported_model(parent: MlflowRun, project_name: str, row: dict[str, Any]) -> MlflowRun:
    """Begins the run of a model that is imported, with what is known of it: what its training logged stays behind."""
    from mlflow.entities import Metric, Param

    tags = {
        "frontrunner.project": project_name,
        "frontrunner.imported": "true",
        "frontrunner.algorithm": row["algorithm"],
        "mlflow.parentRunId": parent.id,
    }
    now = int(time() * 1000)
    with translated():
        mlflow = client()
        run = _created(mlflow, parent.experiment_id, row["algorithm"], tags)
        mlflow.log_batch(
            run.id,
            metrics=[Metric(name, value, now, 0) for name, value in row["metrics"].items()],
            params=[Param(name, str(value)[:6000]) for name, value in row["hyperparams"].items()],
        )
        return run


def save_rows(run: MlflowRun, path: Path) -> Artifact:
    """Puts a file of a snapshot beside the run."""
    return save_file(run, path, "snapshot")


def save_file(run: MlflowRun, path: Path, folder: str) -> Artifact:
    """Puts a file into a folder of the run's. Nobody may change it any more: a local store gets a link to it."""
    uri = f"{run.artifact_uri}/{folder}/{path.name}"
    with translated():
        _link(path, uri)
        client().log_artifact(run.id, str(path), folder)
    return describe(path, uri)


def _link(path: Path, uri: str) -> None:
    """A store on the same disk has the file at once, by another name; MLflow then finds that it is there already."""
    there = local_path(uri)
    if there is not None:
        there.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another disk, or one without links: MLflow copies it
            os.link(path, there)


def log_training(run: MlflowRun, request: TrainingRequest, snapshot: SnapshotRecord) -> None:
    """What the run trains on and how: its parameters and its data set."""
    from mlflow.entities import Param, RunTag

    params = {
        "task": request.task,
        "relation_name": snapshot.relation_name,
        "y_column_name": ", ".join(snapshot.y_column_names),
        "test_size": snapshot.test_size,
        "test_sampling": snapshot.test_sampling,
        "seed": request.seed,
    }
    with translated():
        mlflow = client()
        mlflow.log_batch(
            run.id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag("frontrunner.snapshot_id", str(snapshot.id))],
        )
        mlflow.log_inputs(run.id, datasets=[_dataset(snapshot)])


def end_run(run_id: str, status: str, note: str = "") -> None:
    """Closes a run as FINISHED, FAILED or KILLED, with a note for its page, if MLflow still answers."""
    try:
        with translated():
            mlflow = client()
            if note:
                mlflow.set_tag(run_id, "mlflow.note.content", note)
            mlflow.set_terminated(run_id, status)
    except TrackingUnavailable as error:
        log.warning("MLflow's run %s stays open: %s", run_id, error)


def note_run(run_id: str, note: str) -> None:
    """What a run's page says on top, if MLflow still answers."""
    try:
        with translated():
            client().set_tag(run_id, "mlflow.note.content", note)
    except TrackingUnavailable as error:
        log.warning("MLflow's run %s has no note: %s", run_id, error)


def end_abandoned(run: MlflowRun, model_id: int | None = None) -> None:
    """Closes the runs of candidates whose process was lost, or that of one; the others of the training have ended."""
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
    """Whether this process's MLflow has the run; another one's does not, not even under the same experiment's id."""
    from mlflow.exceptions import MlflowException

    with translated():
        try:
            client().get_run(run.id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True


@contextmanager
def failing(run_id: str) -> Iterator[None]:
    """A run in which something goes wrong ends as FAILED, one that is cancelled as KILLED."""
    try:
        yield
    except BaseException as error:
        end_run(run_id, "FAILED" if isinstance(error, Exception) else "KILLED", " ".join(str(error).split()))
        raise


@contextmanager
def training_run(run: MlflowRun) -> Iterator[None]:
    """The training's run ends with it, one way or the other."""
    with failing(run.id):
        yield
    end_run(run.id, "FINISHED")


def start_candidate(parent: MlflowRun, model: ModelRecord, snapshot: SnapshotRecord) -> str:
    """Begins a candidate's run below the training's, with its tags; its id."""
    from mlflow.entities import Param

    tags = parent.tags | {
        "mlflow.parentRunId": parent.id,
        "frontrunner.snapshot_id": str(snapshot.id),
        "frontrunner.model_id": str(model.id),
        "frontrunner.algorithm": model.algorithm,  # no parameter: knn has one of that name
    }
    with translated():
        mlflow = client()
        run_id: str = mlflow.create_run(parent.experiment_id, run_name=model.algorithm, tags=tags).info.run_id
        mlflow.log_batch(run_id, params=[Param(name, str(value)[:6000]) for name, value in model.hyperparams.items()])
        mlflow.log_inputs(run_id, datasets=[_dataset(snapshot)])
        return run_id


def log_tables(run_id: str, found: Found | None, preprocessing: dict[str, dict[str, Any]]) -> None:
    """Log how each column was preprocessed, and the trials of a search."""
    import pandas as pd
    from mlflow.entities import Param

    with translated():
        mlflow = client()
        mlflow.log_dict(run_id, preprocessing, "preprocessing.json")
        if found:
            mlflow.log_batch(run_id, params=[Param(name, str(value)) for name, value in found.params.items()])
            mlflow.log_table(run_id, pd.DataFrame(trials_table(found.trials)), "search.json")


def log_plots(run_id: str, figures: "dict[str, Figure]") -> None:
    """Draw the plots, and log them as PNG files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with translated(), TemporaryDirectory(prefix="frontrunner-") as folder:
        for name, figure in figures.items():
            canvas: Any = FigureCanvasAgg(figure)
            # savefig() would draw it twice, and the smallest of files takes twice as long as one that is 2 % larger.
            canvas.print_png(Path(folder) / f"{name}.png", pil_kwargs={"compress_level": 1})
        client().log_artifacts(run_id, folder, "plots")


def log_metrics(run_id: str, mlflow_model_id: str, snapshot: SnapshotRecord, metrics: dict[str, float]) -> None:
    """Metrics tied to the run, the model and the data set they were measured on."""
    from mlflow.entities import Metric

    dataset = _dataset(snapshot).dataset
    now = int(time() * 1000)
    with translated():
        client().log_batch(
            run_id,
            metrics=[
                Metric(name, value, now, 0, mlflow_model_id, dataset.name, dataset.digest)
                for name, value in metrics.items()
            ],
        )


def experiment_name(project_name: str) -> str:
    return f"frontrunner/{project_name}"


def _experiment(mlflow: "MlflowClient", project_name: str) -> str:
    from mlflow.exceptions import MlflowException

    name = experiment_name(project_name)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return mlflow.create_experiment(name, artifact_location=settings.artifact_root())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = mlflow.get_experiment_by_name(name)  # another run made it since
            assert found is not None
    return str(found.experiment_id)


def _created(mlflow: "MlflowClient", experiment_id: str, name: str, tags: dict[str, str]) -> MlflowRun:
    run = mlflow.create_run(experiment_id, run_name=name, tags=tags)
    return MlflowRun(run.info.run_id, experiment_id, str(run.info.artifact_uri), tags)


def _dataset(snapshot: SnapshotRecord) -> "DatasetInput":
    """The snapshot as MLflow's data set: its digest is that of the frozen file."""
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

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

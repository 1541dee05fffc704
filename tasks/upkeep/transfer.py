"""Export a project with its history and its files to one file, and import it into another registry and MLflow."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from time import monotonic

from registry import queries, transfer
from registry.errors import ExportDamaged, FrontrunnerError, InvalidInput
from registry.names import checked_name
from registry.serving.artifacts import verified
from registry.transfer import NewLocations, Row
from registry.values import Artifact
from tasks.tracking import runs
from tasks.tracking.alias import mirror_live
from tasks.tracking.models import FILE
from tasks.upkeep import archive
from tasks.upkeep.archive import PART_BYTES, Archive
from tasks.values import MlflowRun

log = logging.getLogger("frontrunner")

PROGRESS_SECONDS = 10

Wanted = dict[str, tuple[Artifact, bool]]  # the files of an export by their SHA-256, and whether to compress them


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A file that a row refers to by its columns `<prefix>_uri`, `<prefix>_sha256` and `<prefix>_bytes`."""

    table: str
    prefix: str
    file: str
    compress: bool


FILES = (
    FileColumn("snapshots", "artifact", "rows.parquet", compress=False),
    FileColumn("snapshots", "hashes", "rows.hashes", compress=False),
    FileColumn("models", "artifact", FILE, compress=True),
)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The number of exported rows and files; `bytes` is the size of the export."""

    project_name: str
    output: str
    snapshots: int
    models: int
    deployments: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The number of imported rows; `mirrored` is whether MLflow's alias names the live model, None if none is live."""

    project_name: str
    snapshots: int
    models: int
    deployments: int
    live_model_id: int | None
    mirrored: bool | None


@dataclass(slots=True)
class Progress:
    """Log every PROGRESS_SECONDS how many bytes are done."""

    verb: str
    total: int
    done: int = 0
    logged: float = field(default_factory=monotonic)

    def through(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            yield part
            self.done += len(part)
            if monotonic() - self.logged > PROGRESS_SECONDS:
                self.logged = monotonic()
                log.info("%s %s of %s MB", self.verb, f"{self.done / 1e6:,.0f}", f"{self.total / 1e6:,.0f}")


def export_project(project_name: str, output: Path) -> ExportResult:
    """Write a consistent view of a project's rows, and every file that they refer to, each verified.

    An earlier file at `output` is replaced when the export is complete.

    Raises:
        UnknownProject: there is no such project.
        ArtifactMissing, ArtifactChanged: a file is missing, or is not the one that was recorded.
        InvalidInput: the output cannot be written.
    """
    name = checked_name(project_name)
    wanted: Wanted = {}
    rows = dict.fromkeys(transfer.TABLES, 0)
    with _replacing(output) as path, archive.new_archive(path, name) as out:
        with transfer.read_project(name) as read:
            for table in transfer.TABLES:
                archive.add(out, f"{table}.jsonl", _lines(table, read(table), rows, wanted))
        progress = Progress("written", sum(artifact.bytes for artifact, _ in wanted.values()))
        for sha256, (artifact, compress) in wanted.items():
            with verified(artifact) as saved, saved.open("rb") as file:
                parts = iter(partial(file.read, PART_BYTES), b"")
                archive.add(out, f"files/{sha256}", progress.through(parts), compress=compress)
    size = output.stat().st_size
    return ExportResult(name, str(output), rows["snapshots"], rows["models"], rows["deployments"], len(wanted), size)


def import_project(path: Path, project_name: str | None = None) -> ImportResult:
    """Recreate the project of an export in this registry and MLflow, under its own name or another.

    The whole file is verified before anything is written. The rows are written in one transaction after every file is
    in MLflow's store.

    Raises:
        ExportDamaged, ExportTooNew: the file cannot be imported; nothing was written.
        ProjectExists, ProjectImported: the name is taken, or the project exists here; nothing was written.
        TrackingUnavailable, RegistryConflict, …: no row was written; MLflow's run of the import ended as FAILED.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    try:
        with archive.open_archive(path) as source:
            return _import(source, path, checked_name(project_name or source.project_name))
    except ExportDamaged as error:
        raise ExportDamaged(f"{path} cannot be imported: {error}") from error


def _import(source: Archive, path: Path, name: str) -> ImportResult:
    rows = _verify(source)
    transfer.refuse_known(name, next(source.rows("snapshots")).get("request_key", ""))
    note = f"Imported from {path.name}, where the project is called {source.project_name!r}."
    run = runs.start_import(name, note)
    try:
        with runs.training_run(run):
            transfer.insert_project(source.rows, name, _save_files(source, run, name))
    except BaseException:
        log.warning("nothing was imported; delete the run %s in MLflow with the files below it", run.id)
        raise
    live = queries.live_model(name)
    log.info("%s: %d models and %d deployments were imported", name, rows["models"], rows["deployments"])
    return ImportResult(
        name,
        rows["snapshots"],
        rows["models"],
        rows["deployments"],
        live.id if live else None,
        mirror_live(name) if live else None,
    )


def _lines(table: str, rows: Iterable[Row], counts: dict[str, int], wanted: Wanted) -> Iterator[bytes]:
    """Yield rows as JSON, count them, and add the files that they refer to."""
    for row in rows:
        counts[table] += 1
        for column in FILES:
            if column.table == table and (artifact := _artifact(column, row)):
                wanted[artifact.sha256] = artifact, column.compress
        yield json.dumps(row).encode() + b"\n"


def _artifact(column: FileColumn, row: Row) -> Artifact | None:
    """Return the file of a row; None if it never had one, or if it was pruned."""
    uri, sha256, size = (row[f"{column.prefix}_{part}"] for part in ("uri", "sha256", "bytes"))
    gone = row.get("status", "trained") != "trained" or row.get("pruned_at")
    return Artifact(uri, sha256, size) if uri and sha256 and not gone else None


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """Create a file next to the output, readable by its owner only, that replaces it at the end."""
    try:
        with NamedTemporaryFile(dir=output.parent, prefix=".frontrunner-", delete=False) as file:
            path = Path(file.name)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}") from error
    try:
        yield path
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(output)
    except FrontrunnerError:
        raise
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        path.unlink(missing_ok=True)


def _verify(source: Archive) -> dict[str, int]:
    """Read every row and file, and return the number of rows in each table. Raises: ExportDamaged."""
    counts = dict.fromkeys(transfer.TABLES, 0)
    for table in transfer.TABLES:
        for row in source.rows(table):
            counts[table] += 1
            for artifact in _artifacts(table, row).values():
                if source.files.get(artifact.sha256) != artifact.bytes:
                    raise ExportDamaged(f"it lacks a file of row {row['id']} of {table}")
    if not counts["projects"] or not counts["snapshots"]:
        raise ExportDamaged("it has no project")
    progress = Progress("verified", sum(source.files.values()))
    for sha256 in source.files:
        for _ in progress.through(source.parts(sha256)):
            pass
    return counts


def _artifacts(table: str, row: Row) -> dict[FileColumn, Artifact]:
    try:
        found = {column: _artifact(column, row) for column in FILES if column.table == table}
    except KeyError as error:
        raise ExportDamaged(f"row {row['id']} of {table} has no {error}") from error
    return {column: artifact for column, artifact in found.items() if artifact}


def _save_files(source: Archive, run: MlflowRun, project_name: str) -> NewLocations:
    """Send every file to MLflow, and return the new values of its row's columns."""
    locations: NewLocations = {}
    progress = Progress("sent", sum(source.files.values()))
    for table in ("snapshots", "models"):
        for row in source.rows(table):
            files = _artifacts(table, row)
            if files and table == "models":
                model_run = runs.start_imported_model(run, project_name, row)
                with runs.training_run(model_run):
                    locations[table, row["id"]] = _save(source, model_run, "model", files, progress)
                locations[table, row["id"]]["mlflow_run_id"] = model_run.id
            elif files:
                locations[table, row["id"]] = _save(source, run, f"snapshot-{row['id']}", files, progress)
    return locations


def _save(source: Archive, run: MlflowRun, folder: str, files: dict[FileColumn, Artifact], progress: Progress) -> Row:
    """Send the files of a row to a run's folder and return their new addresses by their columns."""
    new: Row = {}
    for column, artifact in files.items():
        with TemporaryDirectory(prefix="frontrunner-") as temporary:
            path = Path(temporary) / column.file
            with path.open("wb") as file:
                for part in progress.through(source.parts(artifact.sha256)):
                    file.write(part)
            sent = runs.save_file(run, path, folder)
        with verified(sent):  # the store has what was sent
            new[f"{column.prefix}_uri"] = sent.uri
    return new

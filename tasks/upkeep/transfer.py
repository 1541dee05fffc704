"""A project with its history and its files as one file, from one registry and MLflow to another: backup and move."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from time import monotonic

from registry import queries, transfer
from registry.errors import ArtifactChanged, ExportDamaged, FrontrunnerError, InvalidInput
from registry.names import checked_name
from registry.serving.artifacts import verified
from registry.transfer import NewLocations, Row
from registry.values import Artifact
from tasks.tracking import runs
from tasks.tracking.alias import mirror_live
from tasks.tracking.models import FILE
from tasks.upkeep import archive
from tasks.upkeep.archive import PART, Archive, Writer
from tasks.values import MlflowRun

log = logging.getLogger("frontrunner")

TOLD_SECONDS = 10


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A file of a row: the columns `<prefix>_uri`, `_sha256` and `_bytes` say where and what it is."""

    table: str
    prefix: str
    file: str
    packed: bool  # it is not compressed already


FILES = (
    FileColumn("snapshots", "artifact", "rows.parquet", packed=False),
    FileColumn("snapshots", "hashes", "rows.hashes", packed=False),
    FileColumn("models", "artifact", FILE, packed=True),
)


@dataclass(frozen=True, slots=True)
class Exported:
    project_name: str
    output: str
    snapshots: int
    models: int
    deployments: int
    files: int
    bytes: int  # of the export


@dataclass(frozen=True, slots=True)
class Imported:
    """`mirrored`: MLflow's alias names the live model, too; None where nothing is live."""

    project_name: str
    snapshots: int
    models: int
    deployments: int
    live_model_id: int | None
    mirrored: bool | None


@dataclass(slots=True)
class Progress:
    """Says every TOLD_SECONDS how much went through."""

    verb: str
    total: int
    done: int = 0
    told: float = field(default_factory=monotonic)

    def through(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            yield part
            self.done += len(part)
            if monotonic() - self.told > TOLD_SECONDS:
                self.told = monotonic()
                log.info("%s %s of %s MB", self.verb, f"{self.done / 1e6:,.0f}", f"{self.total / 1e6:,.0f}")


def export_project(project_name: str, output: Path) -> Exported:
    """Writes a project's rows, as they are at one moment, and every file that they name, each verified.

    What is at `output` is replaced when the export is whole.

    Raises:
        UnknownProject: there is no such project.
        ArtifactMissing, ArtifactChanged: a file is gone, or is not the one that was recorded.
        InvalidInput: the output cannot be written.
    """
    name = checked_name(project_name)
    wanted: dict[str, tuple[Artifact, bool]] = {}
    rows: dict[str, int] = {}
    with _whole(output) as path, archive.new_archive(path, name) as out:
        with transfer.read_project(name) as read:
            for table in transfer.TABLES:
                rows[table] = 0
                out.add(f"{table}.jsonl", _lines(table, read(table), rows, wanted), packed=True)
        _add_files(out, wanted)
    size = output.stat().st_size
    return Exported(name, str(output), rows["snapshots"], rows["models"], rows["deployments"], len(wanted), size)


def import_project(path: Path, project_name: str | None = None) -> Imported:
    """Makes the project of an export anew in this registry and MLflow, under its own name or another.

    The whole file is verified before anything is written, the rows are written in one transaction after every file is
    in MLflow's store.

    Raises:
        ExportDamaged, ExportTooNew: the file cannot be imported; nothing was written.
        ProjectExists, ProjectImported: the name is taken, or the project is here already; nothing was written.
        TrackingUnavailable, RegistryConflict, …: there is no such project; MLflow's run of the import ended as FAILED.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    try:
        with archive.open_archive(path) as source:
            return _imported(source, path, checked_name(project_name or source.project_name))
    except ExportDamaged as error:
        raise ExportDamaged(f"{path} cannot be imported: {error}") from error


def _imported(source: Archive, path: Path, name: str) -> Imported:
    rows = _checked(source)
    transfer.refuse_known(name, next(source.rows("snapshots")).get("request_key", ""))
    note = f"Imported from {path.name}, where the project is called {source.project_name!r}."
    run = runs.start_import(name, note)
    try:
        with runs.training_run(run):
            transfer.insert_project(source.rows, name, _places(source, run, name))
    except BaseException:
        log.warning("nothing was imported; what MLflow has of it by now is below its run %s: delete that", run.id)
        raise
    live = queries.live_model(name)
    log.info("%s: %d models and %d deployments were imported", name, rows["models"], rows["deployments"])
    return Imported(
        name,
        rows["snapshots"],
        rows["models"],
        rows["deployments"],
        live.id if live else None,
        mirror_live(name) if live else None,
    )


def _lines(
    table: str, rows: Iterable[Row], counts: dict[str, int], wanted: dict[str, tuple[Artifact, bool]]
) -> Iterator[bytes]:
    import json

    for row in rows:
        counts[table] += 1
        for kept in FILES:
            if kept.table == table and (artifact := _artifact(kept, row)):
                wanted[artifact.sha256] = artifact, kept.packed
        yield json.dumps(row).encode() + b"\n"


def _artifact(kept: FileColumn, row: Row) -> Artifact | None:
    """None where there never was a file, or where it is not kept any more."""
    uri, sha256, size = (row[f"{kept.prefix}_{part}"] for part in ("uri", "sha256", "bytes"))
    gone = row.get("status", "trained") != "trained" or row.get("pruned_at")
    return Artifact(uri, sha256, size) if uri and sha256 and not gone else None


def _add_files(out: Writer, wanted: dict[str, tuple[Artifact, bool]]) -> None:
    progress = Progress("written", sum(artifact.bytes for artifact, _ in wanted.values()))
    for artifact, packed in wanted.values():
        with verified(artifact) as path:
            entry = out.add(f"files/{artifact.sha256}", progress.through(_read(path)), packed=packed)
        if (entry.sha256, entry.bytes) != (artifact.sha256, artifact.bytes):
            raise ArtifactChanged(f"{artifact.uri} was changed while it was exported: try again")


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(PART):
            yield part


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A file beside the output, only its owner's, that takes its place at the end."""
    try:
        with NamedTemporaryFile(dir=output.parent, prefix=".frontrunner-", delete=False) as file:
            beside = Path(file.name)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}") from error
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(output)
    except FrontrunnerError:
        raise
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _checked(source: Archive) -> dict[str, int]:
    """How many rows each table has, when every entry is what the manifest says and every file of a row is there."""
    progress = Progress("verified", sum(entry.bytes for entry in source.entries.values()))
    for name in source.entries:
        for _ in progress.through(source.parts(name)):
            pass
    counts = dict.fromkeys(transfer.TABLES, 0)
    for table in transfer.TABLES:
        for row in source.rows(table):
            counts[table] += 1
            for artifact in _artifacts(table, row).values():
                entry = source.entries.get(f"files/{artifact.sha256}")
                if entry is None or (entry.sha256, entry.bytes) != (artifact.sha256, artifact.bytes):
                    raise ExportDamaged(f"it lacks a file of row {row['id']} of {table}")
    if not counts["projects"] or not counts["snapshots"]:
        raise ExportDamaged("it holds no project")
    return counts


def _artifacts(table: str, row: Row) -> dict[FileColumn, Artifact]:
    try:
        found = {kept: _artifact(kept, row) for kept in FILES if kept.table == table}
    except KeyError as error:
        raise ExportDamaged(f"row {row['id']} of {table} has no {error}") from error
    return {kept: artifact for kept, artifact in found.items() if artifact}


def _places(source: Archive, run: MlflowRun, project_name: str) -> NewLocations:
    """Sends every file to MLflow; what the columns of its row say from now on."""
    places: NewLocations = {}
    progress = Progress("sent", sum(entry.bytes for name, entry in source.entries.items() if name.startswith("files/")))
    for table in ("snapshots", "models"):
        for row in source.rows(table):
            files = _artifacts(table, row)
            if files and table == "models":
                its_run = runs.start_imported_model(run, project_name, row)
                with runs.training_run(its_run):
                    places[table, row["id"]] = _sent(source, its_run, "model", files, progress)
                places[table, row["id"]]["mlflow_run_id"] = its_run.id
            elif files:
                places[table, row["id"]] = _sent(source, run, f"snapshot-{row['id']}", files, progress)
    return places


def _sent(source: Archive, run: MlflowRun, folder: str, files: dict[FileColumn, Artifact], progress: Progress) -> Row:
    """The files' new addresses, by their columns."""
    new: Row = {}
    for kept, artifact in files.items():
        with TemporaryDirectory(prefix="frontrunner-") as beside:
            path = Path(beside) / kept.file
            with path.open("wb") as file:
                for part in progress.through(source.parts(f"files/{artifact.sha256}")):
                    file.write(part)
            sent = runs.save_file(run, path, folder)
        with verified(sent):  # what the store has is what was sent
            new[f"{kept.prefix}_uri"] = sent.uri
    return new

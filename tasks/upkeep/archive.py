"""The file format of an exported project: a zip of its tables' rows, its files by their SHA-256, and a manifest.

No content is trusted. zipfile unpacks no more of an entry than the size in its directory and checks the entry's CRC.
The names of entries never become paths.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from registry.errors import ExportDamaged, ExportTooNew
from registry.schema import REVISION
from registry.transfer import TABLES, Row

FORMAT = 2  # the manifest of format 1 also has a digest of every entry, which is ignored
MANIFEST, FILES = "manifest.json", "files/"
NAME = re.compile(rf"{re.escape(MANIFEST)}|(?:{'|'.join(TABLES)})\.jsonl|files/[0-9a-f]{{64}}")
PART_BYTES = 2**20
MANIFEST_BYTES = 2**26  # format 1 lists every entry in it
# An export that unpacks to more than MAX_RATIO times its size, and to more than HARMLESS_BYTES, is a zip bomb.
MAX_RATIO, HARMLESS_BYTES = 100, 10**9


@dataclass(frozen=True, slots=True)
class Archive:
    """An open export; `files` are the sizes of its files by their SHA-256."""

    zip: ZipFile
    project_name: str
    files: dict[str, int]

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table. Raises: ExportDamaged."""
        with _reading(f"{table}.jsonl"), self.zip.open(f"{table}.jsonl") as file:
            for line in file:
                row = _json(line, f"a row of {table}")
                if type(row.get("id")) is not int:
                    raise ExportDamaged(f"a row of {table} has no id")
                yield row

    def parts(self, sha256: str) -> Iterator[bytes]:
        """Yield the bytes of a file. Raises: ExportDamaged: at the end, if they do not have its SHA-256."""
        name, digest = FILES + sha256, hashlib.sha256()
        with _reading(name), self.zip.open(name) as file:
            while part := file.read(PART_BYTES):
                digest.update(part)
                yield part
        if digest.hexdigest() != sha256:
            raise ExportDamaged(f"{name} is not the file of that SHA-256")


@contextmanager
def new_archive(path: Path, project_name: str) -> Iterator[ZipFile]:
    """Create an archive to `add` entries to."""
    with ZipFile(path, "w") as zip_file:
        manifest = {"format": FORMAT, "revision": REVISION, "project": project_name}
        add(zip_file, MANIFEST, [json.dumps(manifest, indent=1).encode()])
        yield zip_file


def add(zip_file: ZipFile, name: str, parts: Iterable[bytes], *, compress: bool = True) -> None:
    """Write an entry without a timestamp, so that equal contents are equal bytes."""
    info = ZipInfo(name)
    info.compress_type = ZIP_DEFLATED if compress else ZIP_STORED
    with zip_file.open(info, "w", force_zip64=True) as file:
        for part in parts:
            file.write(part)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an export.

    Raises:
        ExportDamaged: it is not an export.
        ExportTooNew: a newer Frontrunner wrote it.
    """
    with _reading("its directory"):
        zip_file = ZipFile(path)
    with zip_file:
        manifest = _manifest(zip_file)
        if manifest.get("format") not in (1, FORMAT):
            raise ExportTooNew(path, f"format {manifest.get('format')!r}, this is {FORMAT}")
        if str(manifest.get("revision")) > REVISION:
            raise ExportTooNew(path, f"registry {manifest['revision']}, this is {REVISION}")
        entries = zip_file.infolist()
        if unknown := [entry.filename for entry in entries if not NAME.fullmatch(entry.filename)]:
            raise ExportDamaged(f"it has an entry {unknown[0][:100]!r}, which no export has")
        if sum(entry.file_size for entry in entries) > max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size):
            raise ExportDamaged(f"it would unpack to more than {MAX_RATIO} times its size")
        files = {entry.filename[len(FILES) :]: entry.file_size for entry in entries if entry.filename.startswith(FILES)}
        yield Archive(zip_file, str(manifest.get("project")), files)


def _manifest(zip_file: ZipFile) -> dict[str, Any]:
    with _reading(MANIFEST), zip_file.open(MANIFEST) as file:
        text = file.read(MANIFEST_BYTES + 1)
        if len(text) > MANIFEST_BYTES:
            raise ExportDamaged(f"its manifest has more than {MANIFEST_BYTES:,} bytes")
    return _json(text, "its manifest")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except ExportDamaged:
        raise
    except Exception as error:  # a damaged file makes zipfile raise many types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportDamaged(f"{name} cannot be read: {reason}") from error


def _json(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExportDamaged(f"{what} is not JSON") from error
    if not isinstance(value, dict):
        raise ExportDamaged(f"{what} is not a JSON object")
    return value

"""The file that a project is exported to: a zip of its rows, its files by their SHA-256, and a manifest of them all.

Nothing of it is trusted: an entry is read part by part, no further than the manifest says, and is what its digest says
or an error. No name in it ever becomes a path.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from registry.errors import ExportDamaged, ExportTooNew
from registry.schema import REVISION
from registry.transfer import TABLES, Row

FORMAT = 1
MANIFEST = "manifest.json"
NAME = re.compile(rf"(?:{'|'.join(TABLES)})\.jsonl|files/[0-9a-f]{{64}}")
PART = 2**20  # bytes
MANIFEST_LIMIT = 2**26  # bytes; an entry takes some 170
# An export that unfolds to more than this many times its size is a bomb, once that is more than so many bytes.
UNFOLDS, HARMLESS = 100, 10**9


@dataclass(frozen=True, slots=True)
class Entry:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Writer:
    zip: ZipFile
    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, name: str, parts: Iterable[bytes], *, packed: bool) -> Entry:
        """Writes an entry; `packed`: it is worth compressing."""
        info = ZipInfo(name)
        info.compress_type = ZIP_DEFLATED if packed else ZIP_STORED
        digest, size = hashlib.sha256(), 0
        with self.zip.open(info, "w", force_zip64=True) as file:
            for part in parts:
                digest.update(part)
                size += file.write(part)
        self.entries[name] = Entry(digest.hexdigest(), size)
        return self.entries[name]


@contextmanager
def new_archive(path: Path, project_name: str) -> Iterator[Writer]:
    """A new archive; its manifest is written last."""
    with ZipFile(path, "w") as zip_file:
        writer = Writer(zip_file)
        yield writer
        entries = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in writer.entries.items()}
        said = {"format": FORMAT, "revision": REVISION, "project": project_name, "entries": entries}
        writer.add(MANIFEST, [json.dumps(said, indent=1).encode()], packed=True)


@dataclass(frozen=True, slots=True)
class Archive:
    """An export whose manifest was read."""

    zip: ZipFile
    project_name: str
    entries: dict[str, Entry]

    def parts(self, name: str) -> Iterator[bytes]:
        """An entry's bytes; at their end they are known to be those that were written.

        Raises:
            ExportDamaged: they are others, or more, or there is no such entry.
        """
        wanted = self.entries.get(name)
        if wanted is None:
            raise ExportDamaged(f"it has no {name}")
        digest, size = hashlib.sha256(), 0
        for part in _unpacked(self.zip, name):
            digest.update(part)
            size += len(part)
            if size > wanted.bytes:
                raise ExportDamaged(f"{name} unfolds to more than the {wanted.bytes:,} bytes of its manifest")
            yield part
        if (digest.hexdigest(), size) != (wanted.sha256, wanted.bytes):
            raise ExportDamaged(f"{name} is not what its manifest says")

    def rows(self, table: str) -> Iterator[Row]:
        """Raises: ExportDamaged."""
        rest = b""
        for part in self.parts(f"{table}.jsonl"):
            *lines, rest = (rest + part).split(b"\n")
            yield from map(_row, lines)
        if rest:
            yield _row(rest)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Raises: ExportDamaged: it is no export; ExportTooNew: of a Frontrunner newer than this one."""
    with _zip(path) as zip_file:
        said = _manifest(zip_file)
        if said.get("format") != FORMAT:
            raise ExportTooNew(path, f"format {said.get('format')!r}, this is {FORMAT}")
        if str(said.get("revision")) > REVISION:
            raise ExportTooNew(path, f"registry {said['revision']}, this is {REVISION}")
        entries = _entries(said)
        names = [info.filename for info in zip_file.infolist()]
        if odd := [name for name in names if name != MANIFEST and not NAME.fullmatch(name)]:
            raise ExportDamaged(f"it has an entry {odd[0][:100]!r}, which no export has")
        if sorted(names) != sorted([*entries, MANIFEST]):
            raise ExportDamaged("its entries are not those of its manifest")
        if sum(entry.bytes for entry in entries.values()) > max(HARMLESS, UNFOLDS * path.stat().st_size):
            raise ExportDamaged(f"it would unfold to more than {UNFOLDS} times its size")
        yield Archive(zip_file, str(said.get("project")), entries)


@contextmanager
def _zip(path: Path) -> Iterator[ZipFile]:
    try:
        zip_file = ZipFile(path)
    except Exception as error:  # whatever a damaged file makes zipfile raise
        raise ExportDamaged(_said(error)) from error
    with zip_file:
        yield zip_file


def _manifest(zip_file: ZipFile) -> dict[str, Any]:
    text = bytearray()
    for part in _unpacked(zip_file, MANIFEST):
        text += part
        if len(text) > MANIFEST_LIMIT:
            raise ExportDamaged(f"its manifest has more than {MANIFEST_LIMIT:,} bytes")
    return _row(bytes(text), "manifest")


def _entries(said: dict[str, Any]) -> dict[str, Entry]:
    try:
        return {name: Entry(str(each["sha256"]), int(each["bytes"])) for name, each in said["entries"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportDamaged("its manifest does not say what it holds") from error


def _row(line: bytes, what: str = "row") -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExportDamaged(f"a {what} of it is no JSON") from error
    if not isinstance(row, dict) or (what == "row" and type(row.get("id")) is not int):
        raise ExportDamaged(f"a {what} of it is of another form")
    return row


def _unpacked(zip_file: ZipFile, name: str) -> Iterator[bytes]:
    try:
        with zip_file.open(name) as file:
            while part := file.read(PART):
                yield part
    except Exception as error:  # as above
        raise ExportDamaged(f"{name} cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

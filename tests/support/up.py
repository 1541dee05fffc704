"""Run `frontrunner up` as a user does, in its own folder and on free ports."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from tests.support.processes import die_with_parent

ROOT = Path(__file__).parents[2]
FRONTRUNNER = Path(sys.executable).parent / "frontrunner"
FREE_PORTS = ("--prefect-port", "0", "--mlflow-port", "0", "--port", "0")
READY = "started!"  # in the log of Prefect's worker, which starts last


def folder(path: Path) -> Path:
    """Create a folder with the files of a clone and nothing that was written by running it."""
    path.mkdir()
    for name in ("flows", "tasks", "registry", "prefect.yaml"):
        (path / name).symlink_to(ROOT / name)
    return path


@dataclass
class Up:
    """A started `frontrunner up`; `mark` is in the environment of all its processes."""

    folder: Path
    process: subprocess.Popen[bytes]
    log: Path
    mark: str

    @property
    def env(self) -> dict[str, str]:
        lines = (self.folder / ".frontrunner" / "up.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def wait_for(self, text: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while text not in self.log.read_text():
            waits = self.process.poll() is None and time.monotonic() < until
            assert waits, self.log.read_text()[-4000:]
            time.sleep(0.1)

    def press_ctrl_c(self) -> int:
        """Send SIGINT to the process group, as a terminal does, and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(60)

    def gone(self, seconds: float = 5) -> list[str]:
        """Return the processes that are left after so many seconds; init reaps orphans."""
        until = time.monotonic() + seconds
        while self.left() and time.monotonic() < until:
            time.sleep(0.1)
        return self.left()

    def left(self) -> list[str]:
        """Return the running processes that it started."""
        return [line for process in psutil.process_iter() if (line := self._ours(process))]

    def _ours(self, process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline()) if process.environ().get("UP_MARK") == self.mark else ""
        except psutil.Error:
            return ""


@contextmanager
def up(path: Path, *options: str, piped: bool = False) -> Iterator[Up]:
    """Start `frontrunner up` without waiting until it is ready, and end all its processes at the end."""
    mark, log = uuid4().hex, path / f"up-{uuid4().hex[:6]}.log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*(["sh", "-c", '"$@" | cat', "sh"] if piped else []), FRONTRUNNER, "up", *(options or FREE_PORTS)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=clean | {"UP_MARK": mark},
            cwd=path,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at the same time)
            start_new_session=True,
        )
    started = Up(path, process, log, mark)
    try:
        yield started
    finally:
        if process.poll() is None:
            started.press_ctrl_c()
        for each in psutil.process_iter():
            if started._ours(each):
                each.kill()


def frontrunner(path: Path, *arguments: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, as from another terminal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.run(
        [FRONTRUNNER, *arguments], cwd=path, env=clean, capture_output=True, text=True, timeout=seconds, check=False
    )

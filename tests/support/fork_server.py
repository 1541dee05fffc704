"""Workers that start in milliseconds, because a process that has imported everything forks them.

Each may be killed at any time; none outlives the test run, nor ALARM_SECONDS.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.processes import die_with_parent
from tests.support.size import sized

ROOT = Path(__file__).parents[2]
ALARM_SECONDS = sized(1200)
LOG = "workers.log"  # in the folder where they work


class ForkServer:
    """The test run's side of the fork server; `imported` are the modules that it imports in advance."""

    def __init__(self, *imported: str) -> None:
        self._logs: dict[int, Path] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", *imported],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at the same time)
        )

    def start(self, work: Callable[..., None], folder: Path | None = None, **arguments: Any) -> int:
        """Start `work(**arguments)` in a folder with the current settings, and return the worker's process id."""
        settings = {name: os.environ[name] for name in ("REGISTRY_URL", "MLFLOW_TRACKING_URI") if name in os.environ}
        where = folder or Path.cwd()
        pid = self._ask(
            start=[work.__module__, work.__name__], arguments=arguments, settings=settings, folder=str(where)
        )
        self._logs[pid] = where / LOG
        return pid

    def ended(self, pid: int) -> int:
        """Wait for the worker, and return its exit code, or the negative signal that killed it."""
        code = self._ask(ended=pid)
        assert code in {0, -signal.SIGKILL}, f"a worker ended with {code}:\n{self._logs[pid].read_text()[-4000:]}"
        return code

    def kill(self, pid: int) -> int:
        """Kill the worker if it still runs; nobody else waits for it, so its id was not reused."""
        os.kill(pid, signal.SIGKILL)
        return self.ended(pid)

    def run(self, work: Callable[..., None], **arguments: Any) -> int:
        return self.ended(self.start(work, **arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=60)

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline()))


def killed() -> None:
    """Kill the calling process, as the kernel or a power failure would."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal comes before this ends


def _serve() -> None:
    for module in sys.argv[1:]:
        import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "ended" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["ended"], 0)[1])
        else:
            module, name = request["start"]
            work = getattr(import_module(module), name)
            gc.freeze()  # otherwise each child's collections would copy everything that was imported
            answer = os.fork() or _work(work, request["arguments"], request["settings"], request["folder"])
        print(answer, flush=True)


def _work(work: Callable[..., None], arguments: dict[str, Any], settings: dict[str, str], folder: str) -> int:
    die_with_parent()
    signal.alarm(ALARM_SECONDS)
    os.chdir(folder)
    os.environ.update(settings)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    warnings.filterwarnings("error", module="registry|tasks|tests")
    code = 1
    try:
        work(**arguments)
        code = 0
    except BaseException:  # noqa: BLE001  (the log has it, the exit code says it)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()

"""Programs that start and end as one, by honcho: a worker, and the servers that it talks to."""

import os
import signal
import time
from contextlib import suppress
from threading import Thread
from typing import Any

from honcho.manager import Manager
from honcho.printer import Printer
from honcho.process import Process

FIRST = ("worker",)
WORKER_SECONDS = 15  # for what they run to tell Prefect that it ends


class _Log(Printer):  # type: ignore[misc]  # untyped
    """Goes on when nobody reads any more: the terminal is closed, or Ctrl-C ended what it was piped to."""

    def write(self, message: Any) -> None:
        with suppress(OSError, ValueError):
            super().write(message)


class _Part(Process):  # type: ignore[misc]  # untyped
    """One of the programs. The process that honcho forks for it ends it when `up` is gone without a word."""

    def run(self, *arguments: Any) -> None:
        Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        super().run(*arguments)

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
            time.sleep(WORKER_SECONDS)
            os.killpg(self._child.pid, signal.SIGKILL)


class Together(Manager):  # type: ignore[misc]  # untyped
    """Ends what runs flows before the servers that it talks to, and minds Ctrl-C while processes still start."""

    asked = False

    def __init__(self) -> None:
        super().__init__(_Log())
        self._process_ctor = _Part

    def terminate(self) -> None:
        self.asked = self.asked or not self._any_stopped()
        if self._all_started():  # before, honcho does not know whom to end
            super().terminate()

    def end_what_is_left(self) -> None:
        """Whatever went wrong here, nothing goes on without us."""
        for process in self._processes.values():
            if "pid" in process and "returncode" not in process:
                with suppress(ProcessLookupError):
                    os.killpg(process["pid"], signal.SIGKILL)

    def _any_stopped(self) -> bool:
        return self.asked or any("returncode" in process for process in self._processes.values())

    def _killall(self, force: bool = False) -> None:
        if not force:
            running = [self._processes[name] for name in FIRST if name in self._processes]
            _end_first([each["pid"] for each in running if "returncode" not in each])
        super()._killall(force)


def _end_first(pids: list[int]) -> None:
    """They first end what they run; their whole groups go in the end."""
    until = time.monotonic() + WORKER_SECONDS
    for pid in pids:
        with suppress(ProcessLookupError):  # it is gone
            os.kill(pid, signal.SIGTERM)
    for pid in pids:
        with suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.killpg(pid, 0)
                time.sleep(0.1)

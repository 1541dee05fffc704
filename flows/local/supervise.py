"""Run several programs as one: print what they print, and end all of them together.

A guard, a process of its own, ends the programs. It reads their ids from a pipe, and acts when the pipe is closed: by
`ProcessGroup`, or by the system when the process of `ProcessGroup` was killed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import cycle
from queue import SimpleQueue
from threading import Thread

import psutil

WORKER_SECONDS = 15  # for its flow runs to report that they end
SERVER_SECONDS = 10
OUTPUT_SECONDS = 1
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = (36, 33, 35, 32)  # as terminals number them


class SupervisedProcess:
    """One of the programs, in a session of its own: signals of the terminal do not reach it."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], prefix: str) -> None:
        self.name = name
        self._prefix = prefix
        self._process = subprocess.Popen(  # noqa: S603  (the caller's commands)
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._printing = Thread(target=self._print_output, daemon=True)
        self._printing.start()

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        return self._process.wait()

    def finish(self) -> None:
        """Kill what is left of it, and print what is left of its output."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        self._printing.join(OUTPUT_SECONDS)

    def _print_output(self) -> None:
        for line in self._process.stdout or ():
            print_line(self._prefix, line.rstrip("\n"))


class ProcessGroup:
    """Programs that start together, and end together: the one that was started last before the others."""

    def __init__(self, commands: Mapping[str, list[str]], environment: Mapping[str, str]) -> None:
        self._commands = commands
        self._environment = environment
        self._width = max(map(len, [*commands, "system"]))
        self._processes: list[SupervisedProcess] = []
        self._events: SimpleQueue[tuple[str, int]] = SimpleQueue()  # what happened, and the exit code that follows

    def run(self) -> int:
        """Run the programs until a signal arrives (0) or one of them ends (not 0), and return that exit code."""
        for number in HANDLED_SIGNALS:
            signal.signal(number, lambda number, _: self._events.put((f"{signal.Signals(number).name} received", 0)))
        guard = subprocess.Popen(
            [sys.executable, "-m", "flows.local.supervise"], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            with guard:  # leaving closes its pipe, and waits until it has ended them
                self._start(guard)
                message, code = self._events.get()
                self._report(message)
        finally:
            for process in self._processes:
                process.finish()
        return code

    def _start(self, guard: "subprocess.Popen[str]") -> None:
        """Start the programs, unless a signal arrives or one of them ends meanwhile."""
        for (name, command), colour in zip(self._commands.items(), cycle(COLOURS), strict=False):
            if not self._events.empty():
                return
            process = SupervisedProcess(name, command, self._environment, self._prefix(name, colour))
            self._processes.append(process)
            print(process.pid, file=guard.stdin, flush=True)
            self._report(f"{name} started (pid={process.pid})")
            Thread(target=self._watch, args=(process,), daemon=True).start()

    def _watch(self, process: SupervisedProcess) -> None:
        code = process.wait()
        self._report(f"{process.name} stopped (rc={code})")
        self._events.put((f"ending the others, as {process.name} has stopped", max(code, 0) or 1))

    def _report(self, message: str) -> None:
        print_line(self._prefix("system"), message)

    def _prefix(self, name: str, colour: int = 0) -> str:
        prefix = f"%H:%M:%S {name:<{self._width}} | "
        return f"\033[{colour}m{prefix}\033[0m" if colour and sys.stdout.isatty() else prefix


def print_line(prefix: str, line: str) -> None:
    """Print a line in one piece, with the time in its prefix; go on when nobody reads any more."""
    with suppress(OSError):
        os.write(1, f"{time.strftime(prefix)}{line}\n".encode(errors="replace"))


def guard_programs() -> None:
    """Read the ids of programs until the pipe is closed, and then end them: first the last one, then all groups."""
    programs = []
    for line in sys.stdin:
        with suppress(psutil.NoSuchProcess):
            programs.append(psutil.Process(int(line)))
    for worker in programs[-1:]:
        with suppress(psutil.NoSuchProcess):
            worker.terminate()
    psutil.wait_procs(programs[-1:], WORKER_SECONDS)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for program in programs:
            with suppress(OSError):
                os.killpg(program.pid, number)
        psutil.wait_procs(programs, SERVER_SECONDS)


if __name__ == "__main__":
    guard_programs()

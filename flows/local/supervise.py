"""Run several programs as one: print their output, and end all of them together.

A separate process, the guard, ends the programs. It reads their ids from a pipe, and acts when the pipe is closed: by
`ProcessGroup`, or by the system if the process of `ProcessGroup` was killed.
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

WORKER_SECONDS = 15  # until its flow runs have reported that they end
SERVER_SECONDS = 10
OUTPUT_SECONDS = 1
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = (36, 33, 35, 32)  # codes of a terminal


class ProcessGroup:
    """Programs that start and end together. The one that was started last ends before the others."""

    def __init__(self, commands: Mapping[str, list[str]], environment: Mapping[str, str]) -> None:
        self._commands = commands
        self._environment = environment
        self._width = max(map(len, [*commands, "system"]))
        self._programs: list[tuple[subprocess.Popen[str], Thread]] = []  # each with the thread that prints its output
        self._events: SimpleQueue[tuple[str, int]] = SimpleQueue()  # a message and an exit code

    def run(self) -> int:
        """Run the programs until a signal arrives (0) or one of them ends (not 0), and return that exit code."""
        for number in HANDLED_SIGNALS:
            signal.signal(number, lambda number, _: self._events.put((f"{signal.Signals(number).name} received", 0)))
        guard = subprocess.Popen(
            [sys.executable, "-m", "flows.local.supervise"], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            with guard:  # leaving the block closes its pipe and waits until it has ended them
                self._start(guard)
                message, code = self._events.get()
                self._report(message)
        finally:
            for process, printing in self._programs:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                printing.join(OUTPUT_SECONDS)
        return code

    def _start(self, guard: "subprocess.Popen[str]") -> None:
        """Start the programs until a signal arrives or one of them ends."""
        for (name, command), colour in zip(self._commands.items(), cycle(COLOURS), strict=False):
            if not self._events.empty():
                return
            process = subprocess.Popen(  # noqa: S603  (the caller's commands)
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # so that signals of the terminal do not reach it
            )
            printing = Thread(target=_print_output, args=(process, self._prefix(name, colour)), daemon=True)
            printing.start()
            self._programs.append((process, printing))
            print(process.pid, file=guard.stdin, flush=True)
            self._report(f"{name} started (pid={process.pid})")
            Thread(target=self._watch, args=(name, process), daemon=True).start()

    def _watch(self, name: str, process: "subprocess.Popen[str]") -> None:
        code = process.wait()
        self._report(f"{name} stopped (rc={code})")
        self._events.put((f"ending the others, as {name} has stopped", max(code, 0) or 1))

    def _report(self, message: str) -> None:
        print_line(self._prefix("system"), message)

    def _prefix(self, name: str, colour: int = 0) -> str:
        prefix = f"%H:%M:%S {name:<{self._width}} | "
        return f"\033[{colour}m{prefix}\033[0m" if colour and sys.stdout.isatty() else prefix


def _print_output(process: "subprocess.Popen[str]", prefix: str) -> None:
    for line in process.stdout or ():
        print_line(prefix, line.rstrip("\n"))


def print_line(prefix: str, line: str) -> None:
    """Print a line with the time in its prefix, in one write. A closed output is ignored."""
    with suppress(OSError):
        os.write(1, f"{time.strftime(prefix)}{line}\n".encode(errors="replace"))


def guard_programs() -> None:
    """Read the ids of programs until the pipe is closed; then end the last program, and then all process groups."""
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

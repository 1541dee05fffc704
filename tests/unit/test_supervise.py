"""Programs that start and end as one, whatever ends them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tests.support.processes import die_with_parent

ROOT = Path(__file__).parents[2]
SLEEP = "import time; print('sleeps', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
WITH_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); {SLEEP}"
)
WORKER = """
import signal, sys, time
def end(*_):
    print("asked to end", flush=True)
    time.sleep(0.5)
    print("a last word", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("works", flush=True)
time.sleep(600)
"""


class Group:
    """A process that runs Python programs as a ProcessGroup; `MARK` is in the environment of everything it starts."""

    def __init__(self, programs: dict[str, str], log: Path, reader: str = "") -> None:
        commands = {name: [sys.executable, "-c", code] for name, code in programs.items()}
        code = f"import os; from flows.local.supervise import *; sys.exit(ProcessGroup({commands!r}, os.environ).run())"
        command = [sys.executable, "-c", code]
        self._mark, self._log = uuid4().hex, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["sh", "-c", f'exec "$@" | {reader}', "sh", *command] if reader else command,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={"MARK": self._mark, "PATH": os.environ["PATH"]},
                preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
                start_new_session=True,
            )

    def wait_for(self, *texts: str) -> None:
        until = time.monotonic() + 30
        while not all(text in self.output() for text in texts):
            assert time.monotonic() < until, self.output()
            time.sleep(0.05)

    def output(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def left(self, seconds: float = 10) -> list[psutil.Process]:
        """Return what still runs after so many seconds; orphans are reaped by init."""
        until = time.monotonic() + seconds
        while (left := self.running()) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def running(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("MARK") == self._mark
        except psutil.Error:
            return False


@contextmanager
def group(folder: Path, **programs: str) -> Iterator[Group]:
    started = Group(programs, folder / "log")
    try:
        yield started
    finally:
        for process in started.running():
            process.kill()
        started.process.wait(30)


def test_each_line_has_the_time_and_the_name_of_its_program(tmp_path: Path) -> None:
    with group(tmp_path, server="print('one\\ntwo'); print('\\udcff', end='')", worker=SLEEP) as started:
        started.process.wait(30)
        assert not started.left()
    lines = [line for line in started.output().splitlines() if "server |" in line]
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines[:2]] == ["server | one", "server | two"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_worker_before_its_servers(tmp_path: Path, number: signal.Signals) -> None:
    with group(tmp_path, server=WITH_CHILD, worker=WORKER) as started:
        started.wait_for("sleeps", "works")
        assert started.end(number) == 0
        assert not started.left()
    order = re.findall(r"received|asked to end|a last word|\w+ stopped", started.output())
    assert order == ["received", "asked to end", "a last word", "worker stopped", "server stopped"]


@pytest.mark.parametrize(("code", "expected"), [("raise SystemExit(3)", 3), ("pass", 1), ("os.abort()", 1)])
def test_one_that_ends_takes_the_others_with_it(tmp_path: Path, code: str, expected: int) -> None:
    with group(tmp_path, server=f"import os, time; time.sleep(1); {code}", other=WITH_CHILD, worker=WORKER) as started:
        assert started.process.wait(30) == expected
        assert not started.left()
    assert "ending the others, as server has stopped" in started.output()
    assert "a last word" in started.output()


def test_a_signal_while_they_start_starts_no_more(tmp_path: Path) -> None:
    programs = {f"server{number}": SLEEP for number in range(200)}
    with group(tmp_path, **programs) as started:
        started.wait_for("server3 started")
        assert started.end(signal.SIGTERM) == 0
        assert not started.left()
    assert "server199 started" not in started.output()


def test_they_end_when_their_group_is_killed(tmp_path: Path) -> None:
    with group(tmp_path, server=WITH_CHILD, worker=WORKER) as started:
        started.wait_for("sleeps", "works")
        started.end(signal.SIGKILL)
        assert not started.left()


def test_it_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    talkative = "import time\nwhile True: print('word ' * 50, flush=True); time.sleep(0.001)"
    started = Group({"server": talkative, "worker": SLEEP}, tmp_path / "log", reader="head -n 3")
    try:
        started.wait_for("worker started")
        time.sleep(1)
        assert len(started.running()) >= 4  # it, its guard and both programs
    finally:
        for process in started.running():
            process.send_signal(signal.SIGTERM)
        assert not started.left(20)
        started.process.wait(30)


def test_one_that_ignores_the_request_is_killed_after_a_while() -> None:
    code = "from flows.local import supervise as s; s.WORKER_SECONDS = s.SERVER_SECONDS = 0.5; s.guard_programs()"
    with stubborn() as server, stubborn() as worker:
        pids = f"{server.pid}\n{worker.pid}\n"
        subprocess.run([sys.executable, "-c", code], input=pids, text=True, check=True, cwd=ROOT, timeout=30)
        assert [server.wait(5), worker.wait(5)] == [-signal.SIGKILL] * 2


@contextmanager
def stubborn() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that ignores SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()

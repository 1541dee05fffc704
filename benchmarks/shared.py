"""What the sections share: sides that take turns, whole processes that are timed, and the table.

It imports the standard library alone: a process that is started counts its starter's memory as its own peak.
"""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from itertools import cycle, permutations
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

from tests.support.processes import die_with_parent

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
FRONTRUNNER = str(Path(sys.executable).parent / "frontrunner")
CORES = len(os.sched_getaffinity(0))
# What a measured program must not get from whoever measures: its settings, and an order to compile its modules anew.
SETTINGS = ("PREFECT_", "MLFLOW_", "SOURCE_", "FRONTRUNNER_", "OMP_", "OPENBLAS_", "LOKY_")
OTHERS = ("REGISTRY_URL", "DATA_ROOT", "CANDIDATES_ON", "MIN_COMPARED_ROWS", "PYTHONDONTWRITEBYTECODE")
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
MARK = "FRONTRUNNER_BENCHMARK"


@dataclass(frozen=True)
class Options:
    quick: bool = False
    full: bool = False  # the sizes that want much memory
    plans: bool = False
    cache: Path | None = None  # where generated rows are kept; None: in the section's own folder
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Row:
    """A line of the table. What was measured in one round stands at one place in `ours` and in `theirs`.

    A side that is too slow for every round has fewer. The ratio is ours by theirs, whatever the unit.
    """

    section: str
    what: str
    unit: str
    ours: list[float]
    yardstick: str = ""
    theirs: list[float] = field(default_factory=list)
    target: str = ""
    ours_p99: float | None = None
    theirs_p99: float | None = None

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False)]


class Ran(NamedTuple):
    """`peak_mb`: the largest process of it, as the kernel counted."""

    seconds: float
    peak_mb: float
    out: str


class Calls(NamedTuple):
    """Milliseconds: the median of each round, and the 99th percentile of all."""

    medians: list[float]
    p99: float


class Unequal(Exception):
    """Two sides did not come to the same answer, so their times say nothing."""


def measured(section: str, options: Options) -> list[Row]:
    """A section, in a process and a folder of its own that vanish with it."""
    die_with_parent()
    with TemporaryDirectory(prefix="frontrunner-bench-") as folder:
        rows: list[Row] = import_module(f"benchmarks.{section}").measure(options, Path(folder))
    return rows


def say(options: Options, text: str) -> None:
    print(f"{time.monotonic() - options.started:7.1f} s  {text}", file=sys.stderr, flush=True)


def environment(**more: str) -> dict[str, str]:
    """The same for every side."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS) and name not in OTHERS}
    return kept | QUIET | more


def threads(count: int) -> dict[str, str]:
    """How many each fit may use, for a program that does not decide it itself."""
    return {"OMP_NUM_THREADS": str(count), "OPENBLAS_NUM_THREADS": str(count)}


def run(command: list[str], folder: Path, env: Mapping[str, str], watch: Callable[[int], None] | None = None) -> Ran:
    """A whole process, from its start to its end. `watch` gets its id every tenth of a second while it runs.

    Raises:
        RuntimeError: it failed; the end of what it printed is said.
    """
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    with TemporaryFile("w+") as out, TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, MARK: mark},
            stdout=out,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (a section has one thread)
        )
        while watch is not None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            watch(process.pid)
            time.sleep(0.1)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        end_marked(mark)
        if process.returncode:
            out.seek(0), log.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{(out.read() + log.read())[-3000:]}")
        out.seek(0)
        return Ran(seconds, usage.ru_maxrss / 1024, out.read())


def end_marked(mark: str) -> None:
    """Ends what a command has left running, and says so."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                print(f"left running, ended now: {' '.join(process.cmdline())[:150]}", file=sys.stderr)
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def alternately(rounds: int, sides: Mapping[str, Callable[[], Any]], fewer: Mapping[str, int] | None = None) -> Any:
    """{side: what it answered in each round}: A B A B …; a side may have `fewer` rounds."""
    answers: dict[str, list[Any]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            if number < (fewer or {}).get(name, rounds):
                answers[name].append(side())
    return answers


def calls(rounds: int, each: int, sides: Mapping[str, Callable[[], Any]]) -> dict[str, Calls]:
    """Times calls within this process, one of each side at a time; every side is called once before, uncounted.

    All orders take turns, since a side finds the caches and the memory as the one before has left them.
    """
    for call in sides.values():
        call()
    orders = cycle(permutations(sides))
    rounded: dict[str, list[float]] = {name: [] for name in sides}
    every: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(each):
            for name in next(orders):
                started = time.perf_counter()
                sides[name]()
                times[name].append(1000 * (time.perf_counter() - started))
        for name in sides:
            rounded[name].append(median(times[name]))
            every[name] += times[name]
    return {name: Calls(rounded[name], percentile(every[name], 99)) for name in sides}


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def machine() -> dict[str, str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    packages = ("scikit-learn", "xgboost", "mlflow", "prefect", "sqlalchemy", "skops")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": names[0] if names else platform.machine(),
        "cores": str(CORES),
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "niceness": str(os.nice(0)),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
        **{name: version(name) for name in packages},
    }


def as_json(rows: list[Row], where: dict[str, str]) -> dict[str, Any]:
    return {"machine": where, "rows": [asdict(row) | {"ratios": row.ratios} for row in rows]}


def table(rows: list[Row], where: dict[str, str]) -> str:
    """Markdown, to be read as it is and to be pasted."""
    head = ["section", "what", "ours", "yardstick", "its", "ratio", "spread", "rounds", "target"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*text, "", "; ".join(f"{name} {value}" for name, value in where.items())])


def _cells(row: Row) -> list[str]:
    ratios = row.ratios
    return [
        row.section,
        row.what,
        _figure(row.ours, row.unit, row.ours_p99),
        row.yardstick,
        _figure(row.theirs, row.unit, row.theirs_p99) if row.theirs else "",
        f"{median(ratios):.3g}" if ratios else "",
        f"{min(ratios):.3g} to {max(ratios):.3g}" if ratios else "",
        str(len(ratios) if ratios else len(row.ours)),
        row.target,
    ]


def _figure(values: list[float], unit: str, p99: float | None) -> str:
    tail = "" if p99 is None else f" (p99 {_number(p99)})"
    return f"{_number(median(values))} {unit}{tail}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

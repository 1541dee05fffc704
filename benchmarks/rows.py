"""How time and memory grow with the rows: ten thousand to ten million of thirty float columns.

Every training is of a new project beside running servers, so its rows are read, frozen and fitted. The bare fit reads
the same file with pandas, splits, fits and scores the same two models with all cores. The peak of memory is the
kernel's, of the largest process; for four candidates it is what all processes of a training
have together (PSS).
"""

import json
from itertools import count
from pathlib import Path

import psutil

from benchmarks.data import generated
from benchmarks.shared import PYTHON, ROOT, Options, Row, alternately, environment, run, say
from benchmarks.training import Trained, check_equal, scores, servers, train

SIZES, QUICK_SIZES, LARGEST = {10_000: 5, 100_000: 5, 1_000_000: 3}, {10_000: 1}, {10_000_000: 2}  # size: rounds
LARGEST_WANTS = 14 * 2**30  # bytes that are free, for ten million rows
TWO = {"linear": {}, "xgboost": {"n_estimators": 20}}
ONE = {"hist_gradient_boosting": {"max_iter": 20}}  # which takes the most of the four
FOUR = TWO | {"ridge": {}} | ONE
BARE = "a bare fit"


class Tree:
    """The most memory that a process and what it started had together, each shared page counted once."""

    def __init__(self) -> None:
        self.peak_mb = 0.0

    def __call__(self, pid: int) -> None:
        total = 0
        try:
            parent = psutil.Process(pid)
            for process in [parent, *parent.children(recursive=True)]:
                total += process.memory_full_info().pss
        except psutil.Error:  # one of them has just ended
            return
        self.peak_mb = max(self.peak_mb, total / 2**20)


def measure(options: Options, folder: Path) -> list[Row]:
    sizes = QUICK_SIZES if options.quick else SIZES
    if options.full or (not options.quick and psutil.virtual_memory().available > LARGEST_WANTS):
        sizes = sizes | LARGEST
    with servers(folder, options) as home:
        return [row for size, rounds in sizes.items() for row in _of(size, rounds, home, options)]


def _of(size: int, rounds: int, home: Path, options: Options) -> list[Row]:
    path, env, numbers = generated(home / "data", size, options), environment(), count()
    script = [PYTHON, str(ROOT / "benchmarks/scripts/bare_rows.py"), str(path), json.dumps(TWO)]

    def ours(candidates: dict[str, dict[str, int]] = TWO, tree: Tree | None = None) -> Trained:
        asked = ["--task", "regression", "--relation-name", f"files:{path.name}", "--y-column-name", "target"]
        asked += ["--algorithms", ",".join(candidates), "--hyperparams", json.dumps(candidates)]
        trained = train(f"rows-{size}-{next(numbers)}", asked, home, env, watch=tree)
        say(options, f"rows: {size:,}, {len(candidates)} candidates, {trained.ran.seconds:.1f} s")
        return trained

    def bare() -> Trained:
        ran = run(script, home, env)
        say(options, f"rows: {size:,}, bare, {ran.seconds:.1f} s")
        return Trained(ran, scores(ran), {})

    def together(candidates: dict[str, dict[str, int]]) -> float:
        tree = Tree()
        ours(candidates, tree)
        return tree.peak_mb

    found = alternately(rounds, {"ours": ours, BARE: bare})
    check_equal(found["ours"][0].scores, found[BARE][0].scores, BARE)
    seconds = {name: [each.ran.seconds for each in trained] for name, trained in found.items()}
    peaks = {name: [each.ran.peak_mb for each in trained][:2] for name, trained in found.items()}
    trees = alternately(min(rounds, 2), {"four": lambda: together(FOUR), "one": lambda: together(ONE)})
    times, room, more = ("≤ 1.3", "≤ 1.5", "≤ 1.5") if size in LARGEST else ("", "", "")
    what = f"{size:,} rows"
    return [
        Row("rows", f"{what}, linear and xgboost", "s", seconds["ours"], BARE, seconds[BARE], times),
        Row("rows", f"{what}, peak memory", "MB", peaks["ours"], BARE, peaks[BARE], room),
        Row("rows", f"{what}, peak memory of four candidates", "MB", trees["four"], "of one", trees["one"], more),
    ]

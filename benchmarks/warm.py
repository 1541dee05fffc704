"""The same training where servers run and the stores are there: what a training costs on an ordinary day."""

from pathlib import Path

from benchmarks.cold import ASKED, BARE, THREADS, WHAT, compared
from benchmarks.shared import PYTHON, ROOT, Options, Row, alternately, environment, run, say
from benchmarks.training import Trained, scores, servers, train


def measure(options: Options, folder: Path) -> list[Row]:
    bare_script = [PYTHON, str(ROOT / "benchmarks/scripts/bare_digits.py")]

    def bare() -> Trained:
        ran = run(bare_script, folder, environment(**THREADS))
        return Trained(ran, scores(ran), {})

    with servers(folder, options) as home:
        sides = {"ours": lambda: train("digits", ASKED, home, environment()), BARE: bare}
        say(options, "warm: a first training of each, uncounted")
        alternately(1, sides)
        say(options, "warm: taking turns")
        found = alternately(2 if options.quick else 7, sides)
    return compared("warm", WHAT, found, {BARE: "≤ 1.6"})

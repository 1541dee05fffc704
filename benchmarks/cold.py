"""A first training in a new folder with no server running: new stores, Prefect's home as an earlier run has left it."""

from pathlib import Path

from benchmarks.shared import CORES, PYTHON, ROOT, Options, Row, alternately, environment, run, say, threads
from benchmarks.training import Trained, check_equal, new_folder, scores, train, used_prefect_home

ALGORITHMS = ("linear", "svm", "random_forest", "extra_trees", "xgboost")
DIGITS = ["--task", "classification", "--relation-name", "sklearn:digits", "--y-column-name", "target"]
ASKED = [*DIGITS, "--algorithms", ",".join(ALGORITHMS)]
BARE, GLUE = "a bare script", "Prefect and MLflow by hand"
TARGETS = {BARE: "≤ 3.6", GLUE: "≤ 0.25"}
# The threads that the product gives each of five fits.
THREADS = threads(max(1, CORES // len(ALGORITHMS)))


def measure(options: Options, folder: Path) -> list[Row]:
    home = used_prefect_home(folder, options)

    def script(name: str) -> Trained:
        where = new_folder(folder / "script", home)
        env = environment(
            PREFECT_HOME=str(where / "prefect"), PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120", **THREADS
        )
        ran = run([PYTHON, str(ROOT / "benchmarks/scripts" / name)], where, env)
        say(options, f"cold: {name}, {ran.seconds:.1f} s")
        return Trained(ran, scores(ran), {})

    def ours() -> Trained:
        where = new_folder(folder / "ours", home)
        trained = train("digits", ASKED, where, environment(PREFECT_HOME=str(where / "prefect")))
        say(options, f"cold: frontrunner, {trained.ran.seconds:.1f} s")
        return trained

    sides = {"ours": ours, BARE: lambda: script("bare_digits.py"), GLUE: lambda: script("glue_digits.py")}
    if options.quick:
        del sides[GLUE]  # one run of it takes minutes
    script("bare_digits.py")  # the disk is warm then
    found = alternately(1 if options.quick else 5, sides, {GLUE: 2})
    return _compare(found)


def _compare(found: dict[str, list[Trained]]) -> list[Row]:
    """Raises: Unequal: a side has other scores."""
    seconds = {name: [each.ran.seconds for each in trained] for name, trained in found.items()}
    for name, trained in found.items():
        for each in trained:
            check_equal(found["ours"][0].scores, each.scores, name)
    return [
        Row("cold", "train five on digits", "s", seconds["ours"], name, seconds[name], target)
        for name, target in TARGETS.items()
        if name in seconds
    ]

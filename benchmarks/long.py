"""Eight candidates with minutes of fitting between them: what is left of the product's own time when the fits are long.

The yardstick is the best that a script can do: joblib on all cores, the longest fit first, its share of the cores
each. Frontrunner is given the algorithms by the alphabet, as by somebody who does not know how long each takes; its own
order by algorithm is that of these settings.
"""

import json
from pathlib import Path

from benchmarks.cold import compared
from benchmarks.data import generated
from benchmarks.shared import CORES, PYTHON, ROOT, Options, Row, alternately, environment, run, say, threads
from benchmarks.training import Trained, scores, servers, train

ROWS, QUICK_ROWS = 50_000, 3_000
JOBLIB = "joblib, the longest first"
# The longest first.
HYPERPARAMS = {
    "random_forest": {"n_estimators": 50},
    "gradient_boosting_trees": {"n_estimators": 80},
    "bagging": {"n_estimators": 35},
    "extra_trees": {"n_estimators": 100},
    "ada_boost": {"n_estimators": 60},
    "xgboost": {"n_estimators": 1000},
    "xgboost_random_forest": {"n_estimators": 500},
    "hist_gradient_boosting": {"max_iter": 1500},
}


THREADS = max(1, CORES // len(HYPERPARAMS))  # of each fit, as Frontrunner shares the cores


def measure(options: Options, folder: Path) -> list[Row]:
    count = QUICK_ROWS if options.quick else ROWS
    asked = ["--task", "regression", "--relation-name", f"files:{count}.parquet", "--y-column-name", "target"]
    asked += ["--algorithms", ",".join(sorted(HYPERPARAMS)), "--hyperparams", json.dumps(HYPERPARAMS)]
    with servers(folder, options) as home:
        path = generated(home / "data", count, options)
        script = [PYTHON, str(ROOT / "benchmarks/scripts/joblib_loop.py"), str(path), json.dumps(HYPERPARAMS)]
        script.append(str(THREADS))

        def bare() -> Trained:
            ran = run(script, folder, environment(**threads(THREADS)))
            say(options, f"long: joblib, {ran.seconds:.1f} s")
            return Trained(ran, scores(ran), {})

        def ours() -> Trained:
            trained = train("long", asked, home, environment())
            fits = ", ".join(f"{name} {seconds:.1f}" for name, seconds in trained.fits.items())
            say(options, f"long: frontrunner, {trained.ran.seconds:.1f} s; fits: {fits}")
            return trained

        found = alternately(1 if options.quick else 3, {"ours": ours, JOBLIB: bare})
    return compared("long", f"train eight on {count:,} rows", found, {JOBLIB: "≤ 1.10"})

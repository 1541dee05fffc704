"""What one more candidate costs beyond its own fit.

Each training is a whole process beside running servers. What it takes beyond its fits is its wall time less the seconds
of fit and score that its leaderboard says, these divided by the cores as the best of schedules would have them, so that
nothing that the product does hides in what is subtracted. One more candidate is (beyond(n) - beyond(1)) / (n - 1).
"""

import json
from pathlib import Path

from benchmarks.cold import DIGITS
from benchmarks.shared import CORES, Options, Row, alternately, environment, say
from benchmarks.training import servers, train

# The classifiers of the catalogue that fit digits within moments, so that little is subtracted.
CHEAP = {
    "ridge": {},
    "linear": {"max_iter": 20},
    "stochastic_gradient_descent": {"max_iter": 20},
    "perceptron": {"max_iter": 20},
    "passive_aggressive": {"max_iter": 20},
    "knn": {},
    "svm": {"max_iter": 50},
    "nu_svm": {"nu": 0.1, "max_iter": 50},
    "linear_svm": {"max_iter": 20},
    "ada_boost": {"n_estimators": 3},
    "bagging": {"n_estimators": 3},
    "extra_trees": {"n_estimators": 10},
    "random_forest": {"n_estimators": 10},
    "gradient_boosting_trees": {"n_estimators": 2},
    "hist_gradient_boosting": {"max_iter": 2},
    "xgboost": {"n_estimators": 2},
    "xgboost_random_forest": {"n_estimators": 5},
}
COUNTS, QUICK_COUNTS = (1, 5, 10, 17), (1, 5)
REPEATED = 3  # trainings of all of them in one project: 51 candidates


def measure(options: Options, folder: Path) -> list[Row]:
    counts = QUICK_COUNTS if options.quick else COUNTS
    env = environment()
    with servers(folder, options) as home:

        def beyond(project: str, count: int) -> float:
            trained = train(project, _asked(count), home, env)
            say(options, f"candidates: {count}, {trained.ran.seconds:.1f} s, fits {sum(trained.fits.values()):.1f} s")
            return trained.ran.seconds - sum(trained.fits.values()) / CORES

        beyond("first", counts[-1])  # uncounted
        sides = {str(count): lambda count=count: beyond(f"of-{count}", count) for count in counts}
        found = alternately(2 if options.quick else 5, sides)
        again = [] if options.quick else [beyond("again", counts[-1]) for _ in range(REPEATED)]
    return _lines(counts, found) + _repeated(again, counts[-1])


def _lines(counts: tuple[int, ...], found: dict[str, list[float]]) -> list[Row]:
    alone = found["1"]
    more = {
        count: [(beyond - one) / (count - 1) for beyond, one in zip(found[str(count)], alone, strict=True)]
        for count in counts[1:]
    }
    least = counts[1]
    return [
        Row("candidates", "one candidate, all beyond its fit", "s", alone),
        *(
            Row(
                "candidates",
                f"one more, of {count}",
                "s",
                seconds,
                *((f"of {least}", more[least]) if count != least else ()),
                target="≤ 0.25 s",
            )
            for count, seconds in more.items()
        ),
    ]


def _repeated(again: list[float], count: int) -> list[Row]:
    """Whether a project that has had many candidates is slower than a new one."""
    if not again:
        return []
    what = f"all of {count}, {count * (REPEATED - 1)} candidates before"
    return [Row("candidates", what, "s", again[-1:], "none before", again[:1])]


def _asked(count: int) -> list[str]:
    chosen = dict(list(CHEAP.items())[:count])
    return [*DIGITS, "--algorithms", ",".join(chosen), "--hyperparams", json.dumps(chosen)]

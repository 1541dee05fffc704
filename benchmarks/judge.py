"""The automatic rule on trial: how often it is wrong, what it sees, and what becomes of it when the world changes.

Rows are generated, models are scikit-learn's, and everything between them is the rule itself: the row hashes, the key
metric, the bootstrap and the verdict. `make judge` writes docs/judge.md; the seeds are fixed.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from registry.values import Evidence, ModelRecord, Terms
from registry.vocabulary import Basis, Compare, Status, Task
from tasks.data.row_hashes import STORED, occur_in, row_hashes
from tasks.estimators.scoring import key_metric
from tasks.promotion.automatic import code_version
from tasks.promotion.bootstrap import interval
from tasks.promotion.rule import apply_rule

LABELS = np.array([0, 1])
COEFFICIENTS = np.array([1.0, 0.7, 0.5, 0.3, 0.2])
SURE = Terms(confidence=0.95)
MODES = {
    "recorded scores": Terms(Compare.RECORDED),
    "same rows": Terms(),
    "same rows, 95 %": SURE,
}


class Window(NamedTuple):
    """What one training gets: its rows, split."""

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


class Fitted(NamedTuple):
    model: Any
    record: ModelRecord
    window: Window


def rows(
    draw: np.random.Generator, task: Task, count: int, *, noise: float = 1.0, turn: float = 0.0
) -> tuple[Any, Any]:
    """`turn` is how far the truth has moved from what it was."""
    X = draw.normal(size=(count, len(COEFFICIENTS)))
    signal = X @ ((1 - turn) * COEFFICIENTS + turn * COEFFICIENTS[::-1])
    y = signal + noise * draw.normal(size=count)
    return X, y if task is Task.REGRESSION else (y > 0).astype(int)


def split(X: Any, y: Any, test: int) -> Window:
    return Window(X[:-test], y[:-test], X[-test:], y[-test:])


def estimator(task: Task) -> Any:
    return LinearRegression() if task is Task.REGRESSION else LogisticRegression()


def trained(task: Task, model: Any, window: Window, number: int) -> Fitted:
    """A candidate with its recorded score."""
    score = key_metric(task, window.y_test, model.predict(window.X_test), LABELS)
    never = datetime.fromtimestamp(0, UTC)
    record = ModelRecord(number, 1, number, "model", {}, {}, Status.TRAINED, score, {}, None, None, None, None, never)
    return Fitted(model, record, window)


def unseen(challenger: Window, live: Window) -> Any:
    """As the rule knows them: by the hashes of the rows that the live model was trained on."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.hashes"
        path.write_bytes(hashes(live.X_train, live.y_train).astype(STORED).tobytes())
        return ~occur_in(hashes(challenger.X_test, challenger.y_test), path, len(live.y_train))


def hashes(X: Any, y: Any) -> Any:
    return row_hashes(pa.table({**{f"x{column}": X[:, column] for column in range(X.shape[1])}, "y": y}))


def deserves(
    task: Task, candidates: Sequence[Fitted], live: Fitted, terms: Terms, *, exclude: bool = True
) -> tuple[bool, Evidence]:
    """What the rule says of the best of the candidates."""
    challenger = max(candidates, key=lambda each: (each.record.score, each.record.id))
    window, ids = challenger.window, tuple(each.record.id for each in candidates)
    if terms.compare is Compare.RECORDED:
        found = Evidence(Basis.RECORDED, live.record.id, ids, challenger.record.score, live.record.score)
        return apply_rule(task, challenger.record, live.record, found, terms).deploy, found
    kept = unseen(window, live.window) if exclude else np.ones(len(window.y_test), bool)
    X, y = window.X_test[kept], window.y_test[kept]
    its = live.model.predict(X)
    predictions = [each.model.predict(X) for each in candidates]
    place = [each.record.id for each in candidates].index(challenger.record.id)
    found = Evidence(
        Basis.SAME_ROWS,
        live.record.id,
        ids,
        key_metric(task, y, predictions[place], LABELS),
        key_metric(task, y, its, LABELS),
        rows_compared=int(kept.sum()),
        rows_excluded=int((~kept).sum()),
        interval=interval(task, y, its, predictions, place, LABELS, terms.confidence, challenger.record.id)
        if terms.confidence
        else None,
    )
    return apply_rule(task, challenger.record, live.record, found, terms).deploy, found


def false_promotions(task: Task, candidates: int, retrains: int, test_rows: int = 300) -> dict[str, float]:
    """A/A: every window is drawn from one world and every model is of one algorithm; whatever wins, wins by luck.

    Several candidates are the algorithm on several samples of the training rows.
    """
    shares = {}
    for name, terms in MODES.items():
        draw = np.random.default_rng(1)
        live, wins = None, 0
        for number in range(1, retrains + 2):
            window = split(*rows(draw, task, 4 * test_rows), test_rows)
            fitted = []
            for each in range(candidates):
                taken = draw.integers(0, len(window.y_train), len(window.y_train)) if candidates > 1 else slice(None)
                model = estimator(task).fit(window.X_train[taken], window.y_train[taken])
                fitted.append(trained(task, model, window, 10 * number + each))
            best = max(fitted, key=lambda each: each.record.score)
            if live is None:
                live = best
            elif deserves(task, fitted, live, terms)[0]:
                live, wins = best, wins + 1
        shares[name] = wins / retrains
    return shares


def power(task: Task, candidates: int, tries: int, test_rows: int, blind: float) -> tuple[float, float]:
    """The true gain of a challenger over a live model that sees its first column through noise of this size, and the
    share of tries in which the rule, asked for 95 %, lets it go live. The other candidates are as good as the live one.
    """
    draw = np.random.default_rng(2)

    def seen(X: Any) -> Any:
        return np.column_stack([X[:, 0] + blind * np.sin(1e6 * X[:, 1]), X[:, 1:]])

    class Blind(NamedTuple):
        model: Any

        def predict(self, X: Any) -> Any:
            return self.model.predict(seen(X))

    wins, gains = 0, []
    X_all, y_all = rows(np.random.default_rng(3), task, 100_000)
    for number in range(1, tries + 1):
        before, now = (split(*rows(draw, task, 4 * test_rows), test_rows) for _ in range(2))
        old = Blind(estimator(task).fit(seen(before.X_train), before.y_train))
        live = trained(task, old, before, 1)
        better = trained(task, estimator(task).fit(now.X_train, now.y_train), now, 10 * number)
        others = []
        for each in range(1, candidates):
            taken = draw.integers(0, len(now.y_train), len(now.y_train))
            model = Blind(estimator(task).fit(seen(now.X_train[taken]), now.y_train[taken]))
            others.append(trained(task, model, now, 10 * number + each))
        won, _ = deserves(task, [better, *others], live, SURE)
        wins += won
        if number <= 5:
            gains.append(
                key_metric(task, y_all, better.model.predict(X_all), LABELS)
                - key_metric(task, y_all, old.predict(X_all), LABELS)
            )
    return float(np.mean(gains)), wins / tries


def drift(seeds: int, months: int = 48, month_rows: int = 600) -> dict[str, tuple[float, float, float]]:
    """Four years, a training a month; halfway the truth turns and what can be known of it becomes less.

    For each mode: F1 of the live model on the month after, in the second and in the last year, and the promotions.
    """
    task = Task.CLASSIFICATION
    models: list[Callable[[], Any]] = [
        LogisticRegression,
        lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
        lambda: DecisionTreeClassifier(max_depth=8, random_state=0),
    ]
    found = {name: np.zeros(3) for name in MODES}
    for name, terms in MODES.items():
        for seed in range(seeds):
            draw = np.random.default_rng(seed)
            worlds = [
                {"noise": 0.7, "turn": 0.0} if month < months // 2 else {"noise": 1.5, "turn": 1.0}
                for month in range(months + 1)
            ]
            stream = [rows(draw, task, month_rows, **world) for world in worlds]
            live, wins, scores = None, 0, []
            for month in range(months):
                window = split(*stream[month], month_rows // 4)
                fitted = [
                    trained(task, make().fit(window.X_train, window.y_train), window, 10 * (month + 1) + each)
                    for each, make in enumerate(models)
                ]
                best = max(fitted, key=lambda each: (each.record.score, each.record.id))
                if live is None:
                    live = best
                elif deserves(task, fitted, live, terms)[0]:
                    live, wins = best, wins + 1
                X_next, y_next = stream[month + 1]
                scores.append(key_metric(task, y_next, live.model.predict(X_next), LABELS))
            found[name] += np.array([np.mean(scores[12:24]), np.mean(scores[-12:]), wins]) / seeds
    return {name: tuple(map(float, figures)) for name, figures in found.items()}


def leak(retrains: int, window_rows: int = 1000, moved: int = 100) -> list[tuple[str, float, float, float]]:
    """A live model that knows its rows by heart, windows that overlap by nine tenths, shuffled splits.

    Of the live model beside an honest challenger: its score as compared and on new rows, and the share of promotions.
    """
    task, draw = Task.REGRESSION, np.random.default_rng(4)
    X, y = rows(draw, task, window_rows + moved * (retrains + 1), noise=1.5)
    X_new, y_new = rows(draw, task, 20_000, noise=1.5)
    lines = []
    for name, exclude in (("all test rows", False), ("rows that it never saw", True)):
        shuffle = np.random.default_rng(5)
        compared, true, wins = [], [], 0
        for number in range(1, retrains + 1):
            windows = []
            for start in (moved * number - moved, moved * number):
                order = start + shuffle.permutation(window_rows)
                windows.append(split(X[order], y[order], window_rows // 2))
            by_heart = KNeighborsRegressor(1).fit(windows[0].X_train, windows[0].y_train)
            live = trained(task, by_heart, windows[0], 1)
            honest = trained(
                task, LinearRegression().fit(windows[1].X_train, windows[1].y_train), windows[1], 10 * number
            )
            won, evidence = deserves(task, [honest], live, Terms(), exclude=exclude)
            compared.append(evidence.live_score)
            true.append(key_metric(task, y_new, by_heart.predict(X_new), None))
            wins += won
        lines.append((name, float(np.mean(compared)), float(np.mean(true)), wins / retrains))
    return lines


def report(retrains: int, tries: int, seeds: int) -> str:
    tasks = {"F1": Task.CLASSIFICATION, "R2": Task.REGRESSION}
    said = [
        "# The automatic rule on trial",
        (
            "`make judge` writes this page: simulations on generated rows with fixed seeds, by the rule's own code"
            f" ({code_version()}). What each one is stands in `benchmarks/judge.py`."
        ),
        "## Nothing is better: how often does something win?",
        (
            f"{retrains} retrains of one unchanged algorithm on fresh rows of one unchanged world (900 to fit, 300 to"
            " test); every promotion is luck. With 95 % asked for, one in twenty may be; the sampling error of that is"
            f" {100 * np.sqrt(0.05 * 0.95 / retrains):.1f} points."
        ),
        table(
            ["metric", "candidates", *MODES],
            [
                [
                    label,
                    str(candidates),
                    *(f"{share:.1%}" for share in false_promotions(task, candidates, retrains).values()),
                ]
                for label, task in tasks.items()
                for candidates in (1, 5)
            ],
        ),
        "## Something is better: is it seen?",
        f"The share of {tries} tries in which a challenger of this true gain goes live when 95 % is asked for.",
        table(
            ["metric", "candidates", "test rows", "true gain", "goes live"],
            [
                [label, str(candidates), f"{test_rows:,}", f"{gain:+.3f}", f"{share:.0%}"]
                for label, task in tasks.items()
                for candidates, test_rows in ((1, 300), (5, 300), (1, 2000))
                for gain, share in [power(task, candidates, tries, test_rows, blind) for blind in (0.0, 0.4, 0.7, 1.2)]
            ],
        ),
        "## The world changes",
        (
            f"Four years of monthly retrains with three candidates; after two years the truth turns and gets noisier."
            f" F1 of the live model on the month after, the mean of {seeds} worlds."
        ),
        table(
            ["compared by", "second year", "last year", "promotions in four years"],
            [
                [name, f"{second:.2f}", f"{last:.2f}", f"{wins:.1f}"]
                for name, (second, last, wins) in drift(seeds).items()
            ],
        ),
        "## A model that has seen the answers",
        (
            f"The live model knows its training rows by heart, and nine tenths of the next window are the same rows. R2"
            f" in {tries} retrains; the challenger is honest, and better on new rows."
        ),
        table(
            ["the live model is scored on", "as compared", "on new rows", "the challenger goes live"],
            [[name, f"{compared:.2f}", f"{true:.2f}", f"{share:.0%}"] for name, compared, true, share in leak(tries)],
        ),
    ]
    return "\n\n".join(said) + "\n"


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines])


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1:]] or [800, 300, 10]
    print(report(*sizes), end="")

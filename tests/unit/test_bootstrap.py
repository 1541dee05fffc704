"""The paired bootstrap: its figures are those of scikit-learn on resampled rows, and it holds what it promises."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, r2_score

from registry.vocabulary import Task
from tasks.promotion import bootstrap
from tasks.promotion.bootstrap import interval

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION


def labels(count: int, kinds: int, right: float, seed: int, y: np.ndarray | None = None) -> np.ndarray:
    draw = np.random.default_rng(seed)
    guesses = draw.integers(0, kinds, count)
    return guesses if y is None else np.where(draw.random(count) < right, y, guesses)


class TestTheScores:
    @pytest.mark.parametrize(
        ("names", "average"),
        [
            ([0, 1], {"average": "binary"}),
            ([0, 1, 2], {"average": "macro"}),
            (["a", "b", "c", "d"], {"average": "macro"}),
        ],
    )
    def test_f1_of_the_rows_and_of_a_resample(self, names, average, monkeypatch: pytest.MonkeyPatch) -> None:
        """One resample whose counts are known: scikit-learn measures the rows repeated as often."""
        monkeypatch.setattr(bootstrap, "RESAMPLES", 1)
        names = np.array(names)
        y = labels(60, len(names), 1, 0)
        predictions = [labels(60, len(names), 0.7, seed, y) for seed in (1, 2)]
        cells, counts = np.unique(np.column_stack([y, *predictions]), axis=0, return_counts=True)
        drawn = np.random.default_rng(5).multinomial(60, counts / 60, 1)[0]
        measured, [resampled] = bootstrap._f1(
            names[y], [names[each] for each in predictions], names, np.random.default_rng(5)
        )
        rows = np.repeat(cells, drawn, axis=0)
        for model in (0, 1):
            assert measured[model] == pytest.approx(f1_score(y, predictions[model], **average), abs=1e-12)
            assert resampled[model] == pytest.approx(f1_score(rows[:, 0], rows[:, model + 1], **average), abs=1e-12)

    def test_many_cells_are_drawn_row_by_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y = labels(4000, 3, 1, 0)
        predictions = [labels(4000, 3, 0.7, seed, y) for seed in (1, 2)]
        few = bootstrap._f1(y, predictions, np.arange(3), np.random.default_rng(0))
        monkeypatch.setattr(bootstrap, "MAX_MULTINOMIAL_CELLS", 1)
        many = bootstrap._f1(y, predictions, np.arange(3), np.random.default_rng(0))
        assert few[0].tolist() == pytest.approx(many[0].tolist(), abs=1e-6)
        assert few[1].mean(axis=0).tolist() == pytest.approx(many[1].mean(axis=0).tolist(), abs=1e-3)
        assert few[1].std(axis=0).tolist() == pytest.approx(many[1].std(axis=0).tolist(), rel=0.1)

    def test_a_label_that_nobody_says_and_that_is_never_true_does_not_count(self) -> None:
        y, said = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
        measured, _ = bootstrap._f1(y, [said], np.arange(5), np.random.default_rng(0))
        assert measured[0] == pytest.approx(f1_score(y, said, average="macro"))

    @pytest.mark.parametrize("targets", [1, 3])
    def test_r2_of_the_rows(self, targets: int) -> None:
        draw = np.random.default_rng(0)
        y = 1e6 + draw.normal(size=(200, targets))
        predictions = [y + scale * draw.normal(size=y.shape) for scale in (0.5, 1.0)]
        measured, resampled = bootstrap._r2(y, predictions, None, np.random.default_rng(0))
        assert measured.tolist() == pytest.approx([r2_score(y, each) for each in predictions], abs=1e-8)
        by_hand = [
            [r2_score(y[taken], each[taken]) for each in predictions]
            for taken in np.random.default_rng(1).integers(0, 200, (400, 200))
        ]
        assert resampled.mean(axis=0).tolist() == pytest.approx(np.mean(by_hand, axis=0).tolist(), abs=0.05)
        assert resampled.std(axis=0).tolist() == pytest.approx(np.std(by_hand, axis=0).tolist(), rel=0.15)


def test_a_target_whose_variance_is_in_two_rows() -> None:
    """A resample without them has no R2: it does not count, whatever rounding makes of it."""
    draw = np.random.default_rng(0)
    y = np.full(200, 0.1)
    y[:2] = 5.0
    live, other = y + 0.1 * draw.normal(size=200), y + 0.1 * draw.normal(size=200)
    low, high = interval(REGRESSION, y, live, [other], 0, None, 0.95, 0)
    assert -2 < low < high < 2
    assert np.isnan(interval(REGRESSION, np.full(50, 0.1), live[:50], [other[:50]], 0, None, 0.95, 0)).all()


def test_many_labels_take_no_more_memory_than_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    y = labels(3000, 8, 1, 0)
    said = [labels(3000, 8, 0.7, seed, y) for seed in (1, 2)]
    for few_cells in (5000, 1):
        monkeypatch.setattr(bootstrap, "MAX_MULTINOMIAL_CELLS", few_cells)
        monkeypatch.setattr(bootstrap, "MAX_DENSE_LABELS", 50)
        dense = interval(CLASSIFICATION, y, said[0], [said[1]], 0, np.arange(8), 0.95, 0)
        monkeypatch.setattr(bootstrap, "MAX_DENSE_LABELS", 2)
        assert interval(CLASSIFICATION, y, said[0], [said[1]], 0, np.arange(8), 0.95, 0) == pytest.approx(dense)


def test_poisson_counts_have_mean_and_variance_one() -> None:
    assert bootstrap._POISSON.mean() == pytest.approx(1, abs=1e-4)
    assert bootstrap._POISSON.var() == pytest.approx(1, abs=1e-3)
    shares = np.bincount(bootstrap._POISSON.astype(int))[:4] / 2**16
    assert shares.tolist() == pytest.approx([np.exp(-1), np.exp(-1), np.exp(-1) / 2, np.exp(-1) / 6], abs=1e-4)


class TestTheInterval:
    def test_the_same_seed_the_same_digits(self) -> None:
        y = labels(300, 3, 1, 0)
        live, *others = (labels(300, 3, 0.7, seed, y) for seed in range(1, 5))
        once, again, other = (
            interval(CLASSIFICATION, y, live, others, 1, np.arange(3), 0.95, seed) for seed in (7, 7, 8)
        )
        assert once == again != other

    def test_a_model_beside_itself_is_neither_better_nor_worse(self) -> None:
        y = np.random.default_rng(0).normal(size=200)
        said = y + np.random.default_rng(1).normal(size=200)
        assert interval(REGRESSION, y, said, [said], 0, None, 0.95, 0) == (0.0, 0.0)

    def test_more_candidates_ask_for_more(self) -> None:
        draw = np.random.default_rng(0)
        y = draw.normal(size=400)
        live, best, *others = (y + draw.normal(size=400) for _ in range(6))
        alone = interval(REGRESSION, y, live, [best], 0, None, 0.95, 0)
        among = interval(REGRESSION, y, live, [best, *others], 0, None, 0.95, 0)
        assert among[0] < alone[0]
        assert among[1] == pytest.approx(alone[1])

    def test_more_confidence_is_a_wider_interval(self) -> None:
        y = labels(400, 2, 1, 0)
        live, other = labels(400, 2, 0.6, 1, y), labels(400, 2, 0.8, 2, y)
        low, high = interval(CLASSIFICATION, y, live, [other], 0, np.arange(2), 0.8, 0)
        lower, higher = interval(CLASSIFICATION, y, live, [other], 0, np.arange(2), 0.99, 0)
        assert lower < low < high < higher

    @pytest.mark.parametrize("task", list(Task))
    @pytest.mark.parametrize("candidates", [1, 5])
    def test_equals_are_seldom_called_better(self, task: Task, candidates: int) -> None:
        """Models that are equally good by construction; `make judge` does the same with trained ones."""
        false, tries = 0, 300
        for seed in range(tries):
            draw = np.random.default_rng(seed)
            if task is REGRESSION:
                y = draw.normal(size=150)
                models = [y + draw.normal(size=150) for _ in range(candidates + 1)]
                scores = [r2_score(y, each) for each in models[1:]]
            else:
                y = draw.integers(0, 2, 150)
                models = [labels(150, 2, 0.6, 1000 * seed + number, y) for number in range(candidates + 1)]
                scores = [f1_score(y, each) for each in models[1:]]
            low, _ = interval(task, y, models[0], models[1:], int(np.argmax(scores)), np.arange(2), 0.95, seed)
            false += low > 0
        # The limit is a twentieth; its sampling error here is 1.3 points, so this fails by chance in one of 10,000.
        assert false / tries < 0.05 + 3.7 * np.sqrt(0.05 * 0.95 / tries)

    def test_a_clear_improvement_is_seen(self) -> None:
        y = labels(600, 2, 1, 0)
        live, better = labels(600, 2, 0.5, 1, y), labels(600, 2, 0.8, 2, y)
        low, high = interval(CLASSIFICATION, y, live, [better], 0, np.arange(2), 0.95, 0)
        gain = f1_score(y, better) - f1_score(y, live)
        assert 0 < low < gain < high

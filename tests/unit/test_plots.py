"""Figures of a candidate and of a search, beside scikit-learn's own numbers on the same predictions."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.validation import check_is_fitted

from registry.vocabulary import Task
from tasks.estimators.algorithms import ALGORITHMS, needs_encoded_labels, new_estimator
from tasks.estimators.plots import FEATURES, POINTS, model_plots, search_plot

REGRESSION, CLASSIFICATION = Task.REGRESSION, Task.CLASSIFICATION
CURVES = {"roc_curve", "precision_recall_curve"}


def data(load: Any) -> tuple[pd.DataFrame, np.ndarray]:
    bunch = load(as_frame=True)
    return bunch.data, bunch.target.to_numpy()


def fitted(estimator: Any, X: pd.DataFrame, y: np.ndarray) -> Pipeline:
    scaled = ColumnTransformer([("numeric", StandardScaler(), list(X))], verbose_feature_names_out=False)
    return Pipeline([("preprocessing", scaled), ("model", estimator)]).fit(X, y)


def halves(task: Task, estimator: Any, X: pd.DataFrame, y: np.ndarray) -> tuple[Pipeline, dict[str, Figure]]:
    """Fitted on every other row; the figures are of the others."""
    pipeline = fitted(estimator, X[::2], y[::2])
    return pipeline, model_plots(task, pipeline, X[1::2], y[1::2], pipeline.predict(X[1::2]))


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def labels(texts: Any) -> list[str]:
    return [text.get_text() for text in texts]


def names_below(figure: Figure) -> list[Text]:
    return figure.axes[0].get_xticklabels()


def names_beside(figure: Figure) -> list[Text]:
    return figure.axes[0].get_yticklabels()


def shares(figure: Figure) -> np.ndarray:
    """The shades of a confusion matrix."""
    (image,) = figure.axes[0].images
    return image.get_array()


def numbers(figure: Figure) -> np.ndarray:
    """The numbers in the cells of a confusion matrix; an empty cell is a 0."""
    shown = np.zeros(shares(figure).shape, dtype=int)
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        shown[row, column] = int(text.get_text() or 0)
    return shown


def explanations(figure: Figure) -> list[str]:
    """The legend's line for each curve."""
    return labels(figure.legends[0].get_texts())


def bars(figure: Figure) -> dict[str, float]:
    """From the top."""
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    low, high = figure.axes[0].get_ylim()
    assert low > high, "the first one is on top"
    return dict(zip(labels(names_beside(figure)), widths, strict=True))


def test_two_classes_have_all_figures_with_scikit_learns_numbers() -> None:
    X, y = data(load_breast_cancer)
    pipeline, figures = halves(CLASSIFICATION, LogisticRegression(), X, np.array(["good", "ill"])[1 - y])
    actual, probability = 1 - y[1::2], pipeline.predict_proba(X[1::2])[:, 1]
    assert figures.keys() == {"confusion_matrix", "feature_importance"} | CURVES
    matrix = figures["confusion_matrix"]
    assert labels(names_below(matrix)) == labels(names_beside(matrix)) == ["good", "ill"]
    expected = metrics.confusion_matrix(actual, probability > 0.5)
    assert (numbers(matrix) == expected).all()
    assert np.allclose(shares(matrix), expected / expected.sum(axis=1, keepdims=True))
    curve = figures["roc_curve"].axes[0].lines[0].get_xydata()
    assert np.array_equal(curve, np.column_stack(metrics.roc_curve(actual, probability)[:2]))
    assert explanations(figures["roc_curve"]) == [f"{metrics.roc_auc_score(actual, probability):.3f}  ill"]
    average = metrics.average_precision_score(actual, probability)
    assert explanations(figures["precision_recall_curve"]) == [f"{average:.3f}  ill"]


def test_ten_classes_have_a_curve_each() -> None:
    X, y = data(load_digits)
    pipeline, figures = halves(CLASSIFICATION, RandomForestClassifier(20, random_state=0), X, y)
    scores = pipeline.predict_proba(X[1::2])
    assert figures.keys() == {"confusion_matrix", "feature_importance"} | CURVES
    assert (numbers(figures["confusion_matrix"]) == metrics.confusion_matrix(y[1::2], pipeline.predict(X[1::2]))).all()
    areas = [metrics.roc_auc_score(y[1::2] == digit, scores[:, digit]) for digit in range(10)]
    assert explanations(figures["roc_curve"]) == [f"{area:.3f}  {digit}" for digit, area in enumerate(areas)]
    assert len(explanations(figures["precision_recall_curve"])) == 10


def test_eleven_classes_have_no_curves() -> None:
    X, y = pd.DataFrame({"x": np.arange(44.0)}), np.arange(44) // 4
    assert halves(CLASSIFICATION, GaussianNB(), X, y)[1].keys() == {"confusion_matrix"}


def test_more_classes_than_can_be_read_are_colours_alone() -> None:
    X, y = pd.DataFrame({"x": np.arange(124.0)}), np.arange(124) // 4
    few = halves(CLASSIFICATION, GaussianNB(), X[:120], y[:120])[1]["confusion_matrix"]
    assert numbers(few).sum() == 60
    many = halves(CLASSIFICATION, GaussianNB(), X, y)[1]["confusion_matrix"]
    assert shares(many).shape == (31, 31)
    assert not labels(many.axes[0].texts) + labels(names_below(many)) + labels(names_beside(many))


def test_features_are_named_and_the_largest_are_on_top() -> None:
    X, y = data(load_digits)
    pipeline, figures = halves(CLASSIFICATION, RandomForestClassifier(20, random_state=0), X, y)
    expected = pd.Series(pipeline["model"].feature_importances_, X.columns).nlargest(FEATURES)
    assert bars(figures["feature_importance"]) == pytest.approx(expected.to_dict())
    assert list(bars(figures["feature_importance"])) == list(expected.index)
    assert "20 largest of 64" in figures["feature_importance"].axes[0].get_title()


def test_without_probabilities_the_decision_function_ranks() -> None:
    X, y = data(load_breast_cancer)
    pipeline, figures = halves(CLASSIFICATION, LinearSVC(), X, y)
    area = metrics.roc_auc_score(y[1::2], pipeline.decision_function(X[1::2]))
    assert explanations(figures["roc_curve"]) == [f"{area:.3f}  1"]


def test_without_any_scores_there_are_no_curves() -> None:
    X, y = data(load_breast_cancer)
    hard = VotingClassifier([("one", LogisticRegression())], voting="hard")
    assert halves(CLASSIFICATION, hard, X, y)[1].keys() == {"confusion_matrix", "feature_importance"}


def test_scores_of_pairs_of_classes_are_not_drawn_as_those_of_classes() -> None:
    X, y = data(load_iris)  # three classes have three pairs
    assert halves(CLASSIFICATION, SVC(decision_function_shape="ovo"), X, y)[1].keys() == {"confusion_matrix"}
    assert halves(CLASSIFICATION, SVC(), X, y)[1].keys() == {"confusion_matrix"} | CURVES


def test_scores_that_are_not_finite_are_not_drawn() -> None:
    class Overflowing(DummyClassifier):
        def predict_proba(self, X):
            return np.full((len(X), 2), np.nan)

    X, y = data(load_breast_cancer)
    assert halves(CLASSIFICATION, Overflowing(), X, y)[1].keys() == {"confusion_matrix"}


def test_xgboost_in_its_vote_of_one_shows_its_own_importances() -> None:
    X, y = data(load_breast_cancer)
    booster = new_estimator(CLASSIFICATION, "xgboost", {"n_estimators": 5}, seed=0)
    vote = VotingClassifier([("xgboost", booster)], voting="soft")
    pipeline, figures = halves(CLASSIFICATION, vote, X, np.array(["ill", "good"])[y])
    assert figures.keys() == {"confusion_matrix", "feature_importance"} | CURVES
    expected = pd.Series(pipeline["model"].estimators_[0].feature_importances_, X.columns)
    shown = bars(figures["feature_importance"])
    assert shown == pytest.approx(expected[list(shown)].to_dict())
    assert min(shown.values()) >= expected.drop(list(shown)).max()


def test_a_linear_xgboost_of_several_classes_is_averaged_over_them() -> None:
    X, y = data(load_iris)
    booster = new_estimator(CLASSIFICATION, "xgboost", {"n_estimators": 5, "booster": "gblinear"}, seed=0)
    pipeline, figures = halves(CLASSIFICATION, VotingClassifier([("xgboost", booster)], voting="soft"), X, y)
    expected = abs(pipeline["model"].estimators_[0].feature_importances_).mean(axis=1)
    assert bars(figures["feature_importance"]) == pytest.approx(dict(zip(X.columns, expected, strict=True)))


def test_coefficients_may_be_sparse() -> None:
    X, y = data(load_breast_cancer)
    estimator = SGDClassifier(random_state=0)
    dense = bars(halves(CLASSIFICATION, estimator, X, y)[1]["feature_importance"])
    pipeline = fitted(estimator, X[::2], y[::2])
    pipeline["model"].sparsify()
    assert bars(model_plots(CLASSIFICATION, pipeline, X, y, pipeline.predict(X))["feature_importance"]) == dense


def test_test_rows_of_one_class_have_no_curves() -> None:
    X, y = data(load_breast_cancer)
    pipeline = fitted(LogisticRegression(), X, y)
    figures = model_plots(CLASSIFICATION, pipeline, X[y == 1], y[y == 1], pipeline.predict(X[y == 1]))
    assert figures.keys() == {"confusion_matrix", "feature_importance"}
    shown = numbers(figures["confusion_matrix"])
    assert shown[0].sum() == 0
    assert shown[1].sum() == 357


def test_a_class_that_is_among_the_test_rows_alone_has_a_row_and_no_curve() -> None:
    X, y = data(load_digits)
    known = y < 5
    pipeline = fitted(LogisticRegression(), X[known], y[known])
    figures = model_plots(CLASSIFICATION, pipeline, X[y < 6], y[y < 6], pipeline.predict(X[y < 6]))
    shown = numbers(figures["confusion_matrix"])
    assert shown[5].sum() == (y == 5).sum()
    assert shown[:, 5].sum() == 0
    assert [text.split()[-1] for text in explanations(figures["roc_curve"])] == list("01234")


def test_residuals_of_regression() -> None:
    X, y = data(load_diabetes)
    pipeline, figures = halves(REGRESSION, Ridge(), X, y)
    predicted = pipeline.predict(X[1::2])
    assert figures.keys() == {"residuals", "feature_importance"}
    (points,), (zero,) = figures["residuals"].axes[0].collections, figures["residuals"].axes[0].lines
    assert np.allclose(points.get_offsets(), np.column_stack([predicted, y[1::2] - predicted]))
    assert set(zero.get_ydata()) == {0}
    expected = pd.Series(abs(pipeline["model"].coef_), X.columns).sort_values(ascending=False)
    assert bars(figures["feature_importance"]) == pytest.approx(expected.to_dict())
    assert list(bars(figures["feature_importance"])) == list(expected.index)


def test_joint_targets_have_a_panel_each_and_their_mean_importance() -> None:
    X, y = data(load_linnerud)
    pipeline, figures = halves(REGRESSION, MultiOutputRegressor(Ridge()), X, y)
    residuals = y[1::2] - pipeline.predict(X[1::2])
    panels = figures["residuals"].axes
    assert [panel.get_title() for panel in panels] == ["Target 1", "Target 2", "Target 3"]
    assert np.allclose(np.column_stack([panel.collections[0].get_offsets()[:, 1] for panel in panels]), residuals)
    expected = np.mean([abs(each.coef_) for each in pipeline["model"].estimators_], axis=0)
    assert bars(figures["feature_importance"]) == pytest.approx(dict(zip(X.columns, expected, strict=True)))
    joint = bars(halves(REGRESSION, Ridge(), X, y)[1]["feature_importance"])
    assert joint == pytest.approx(bars(figures["feature_importance"]))


@pytest.mark.parametrize("targets", [1, 3])
def test_no_more_points_are_drawn_than_can_be_seen(targets: int) -> None:
    X = pd.DataFrame({"x": np.arange(POINTS + 5.0)})
    y = np.repeat(X.to_numpy(), targets, axis=1)
    pipeline = fitted(LinearRegression(), X, y)
    figure = model_plots(REGRESSION, pipeline, X, y, pipeline.predict(X))["residuals"]
    drawn = [len(panel.collections[0].get_offsets()) for panel in figure.axes]
    assert drawn == [POINTS // targets] * targets
    assert f"{drawn[0]:,} of 10,005" in figure.get_suptitle()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("task", "name"), [(task, name) for task in Task for name in ALGORITHMS[task]])
def test_every_algorithm_can_be_drawn(task: Task, name: str) -> None:
    if name in {"lightgbm", "catboost"}:
        pytest.importorskip(name)
    X, y = data(load_diabetes if task is REGRESSION else load_iris)
    X, y = X[::3], y[::3]
    few = {"n_estimators": 5} if name in {"xgboost", "lightgbm", "catboost"} else {}
    estimator = new_estimator(task, name, few, seed=0)
    if needs_encoded_labels(estimator):
        estimator = VotingClassifier([(name, estimator)], voting="soft")
    pipeline, figures = halves(task, estimator, X, y)
    model = pipeline["model"].estimators_[0] if isinstance(estimator, VotingClassifier) else pipeline["model"]
    explained = hasattr(model, "feature_importances_") or hasattr(model, "coef_")
    assert ("feature_importance" in figures) == explained
    assert "residuals" in figures or figures.keys() >= {"confusion_matrix"} | CURVES
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())


def test_an_importance_that_is_no_list_of_numbers_is_left_out() -> None:
    class Odd(LinearRegression):
        def fit(self, X, y):
            super().fit(X, y)
            self.coef_ = self.predict
            return self

        def predict(self, X):
            check_is_fitted(self)
            return np.zeros(len(X))

    class Short(Odd):
        def fit(self, X, y):
            super().fit(X, y)
            self.coef_ = np.ones(3)
            return self

    class Overflown(Odd):
        def fit(self, X, y):
            super().fit(X, y)
            self.coef_ = np.full(X.shape[1], np.inf)
            return self

    X, y = data(load_diabetes)
    assert halves(REGRESSION, Odd(), X, y)[1].keys() == {"residuals"}
    assert halves(REGRESSION, Short(), X, y)[1].keys() == {"residuals"}
    assert halves(REGRESSION, Overflown(), X, y)[1].keys() == {"residuals"}


@pytest.mark.parametrize("size", [0.0, 5e-324, 1e-300, 1.0, 1e300, 1.79e308])
def test_importances_may_have_any_size(size: float) -> None:
    class Sized(LinearRegression):
        def fit(self, X, y):
            super().fit(X, y)
            self.coef_ = np.full(X.shape[1], size)
            return self

        def predict(self, X):
            return np.zeros(len(X))

    X, y = data(load_diabetes)
    figure = halves(REGRESSION, Sized(), X, y)[1]["feature_importance"]
    assert png(figure).startswith(b"\x89PNG")
    assert {"0.0"} < {name.get_text() for name in names_below(figure)}


def test_names_are_neither_mathematics_nor_hidden_and_keep_both_ends() -> None:
    X, y = data(load_iris)
    X.columns = ["price_$ of_$ \\frac{", "_hidden", "two\nlines", "a very long name of a column, as surveys have it, 1"]
    names = np.array(["_$\\frac{$", "_b", "a class with quite a long name"])[y]
    figures = halves(CLASSIFICATION, LogisticRegression(), X, names)[1]
    assert all(png(figure) for figure in figures.values())
    shown = bars(figures["feature_importance"])
    assert shown.keys() == {
        "price_\\$ of_\\$ \\frac{",
        "_hidden",
        "two lines",
        "a very long name of … surveys have it, 1",
    }
    below = names_below(figures["confusion_matrix"])
    assert {name.get_rotation() for name in below} == {90}  # they would run into each other
    written = [text.split("  ")[1] for text in explanations(figures["roc_curve"])]
    assert written == ["_\\$\\frac{\\$", "_b", "a class wi…long name"]


@pytest.mark.parametrize(
    "names",
    [
        ["x", "y", "z"],
        ["W" * 30, "i", "価格カテゴリーのとても長い名前です"],
        [f"{'same' * 5}{n}{'end' * 5}" for n in range(3)],
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_nothing_is_cut_off(names: list[str]) -> None:
    X, y = data(load_iris)
    X.columns = [f"{name} {number}" for number, name in enumerate([*names, names[0]])]
    with mpl.rc_context({"font.size": 16}):  # as by somebody's matplotlibrc
        figures = halves(CLASSIFICATION, LogisticRegression(), X, np.array(names)[y])[1]
    assert len(explanations(figures["roc_curve"])) == 3
    assert len(figures) == 4
    for figure in figures.values():
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert 0 <= drawn.x0 < drawn.x1 <= width
        assert 0 <= drawn.y0 < drawn.y1 <= height


def test_it_predicts_once_for_each_need() -> None:
    asked: list[str] = []

    class Counted(GaussianNB):
        def predict(self, X):
            asked.append("predict")
            return np.zeros(len(X), dtype=int)

        def predict_proba(self, X):
            asked.append("predict_proba")
            return super().predict_proba(X)

    halves(CLASSIFICATION, Counted(), *data(load_iris))
    assert asked == ["predict", "predict_proba"]


def plots_of(task: Task, pipeline: Any, X: Any, y: Any) -> dict[str, Any]:
    return model_plots(task, pipeline, X, y, pipeline.predict(X))


def test_threads_draw_at_once_what_one_draws_alone() -> None:
    X, y = data(load_breast_cancer)
    digits, ten = data(load_digits)
    kinds = [
        partial(plots_of, CLASSIFICATION, fitted(LogisticRegression(), X, y), X, y),
        partial(plots_of, CLASSIFICATION, fitted(GaussianNB(), digits, ten), digits, ten),
        partial(plots_of, REGRESSION, fitted(ExtraTreesRegressor(5, random_state=0), X, y), X, y),
        lambda: {"search": search_plot([{"mean": 0.5, "std": 0.1}, {"mean": None, "std": None}], "F1")},
    ]

    def drawn(kind: Any) -> dict[str, bytes]:
        return {name: png(figure) for name, figure in kind().items()}

    alone = [drawn(kind) for kind in kinds]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, kinds * 3)) == alone * 3


def test_pyplot_opens_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are one state for all threads, and are kept until somebody closes them."""

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("pyplot opens a figure")

    monkeypatch.setattr(plt, "figure", opened)
    X, y = data(load_breast_cancer)
    figures = halves(CLASSIFICATION, LogisticRegression(), X, y)[1]
    figures |= halves(REGRESSION, Ridge(), X, y)[1]
    assert all(png(figure) for figure in figures.values())
    assert len(figures) == 5
    assert not plt.get_fignums()


def test_a_search_shows_its_scores_its_best_and_what_failed() -> None:
    means, stds = [None, 0.5, 0.4, None, 0.75, 0.6], [None, 0.1, 0.2, None, None, 0.05]
    trials = [{"params": {"depth": 1}, "mean": mean, "std": std} for mean, std in zip(means, stds, strict=True)]
    axes = search_plot(trials, "F1").axes[0]
    drawn = {line.get_label(): line for line in axes.lines}
    assert axes.get_ylabel().startswith("Mean F1")
    (points,) = axes.containers
    assert points[0].get_xydata().tolist() == [[2, 0.5], [3, 0.4], [5, 0.75], [6, 0.6]]
    errors = [segment[:, 1] for segment in points[2][0].get_segments()]
    assert np.allclose(errors, [[0.4, 0.6], [0.2, 0.6], [0.75, 0.75], [0.55, 0.65]])
    best = drawn["best so far (in the end 0.75)"]
    assert best.get_drawstyle() == "steps-post"
    assert np.array_equal(best.get_ydata(), [np.nan, 0.5, 0.5, 0.5, 0.75, 0.75], equal_nan=True)
    lost = drawn["failed or pruned"]
    assert lost.get_xdata().tolist() == [1, 4]
    assert lost.get_transform().transform([0, 0])[1] == axes.bbox.y0


def test_a_trial_that_was_given_up_cannot_be_the_best() -> None:
    trials = [{"mean": 0.5, "std": 0.1, "state": "complete"}, {"mean": 0.9, "std": 0.1, "state": "pruned"}]
    drawn = {line.get_label(): line for line in search_plot(trials, "F1").axes[0].lines}
    assert drawn["best so far (in the end 0.5)"].get_ydata().tolist() == [0.5, 0.5]
    assert drawn["failed or pruned"].get_xdata().tolist() == [2]


@pytest.mark.parametrize("trials", [[], [{"mean": None, "std": None}], [{"mean": 0.5, "std": None}]])
def test_a_search_with_next_to_nothing_to_show_can_be_drawn(trials: list[dict[str, Any]]) -> None:
    assert png(search_plot(trials, "R2")).startswith(b"\x89PNG")

"""What people look at for a candidate or a search, as figures of their own: pyplot has one state for all threads.

scikit-learn's Display classes import pyplot, so the few lines that they would save are here. Names and labels are
never read as mathematics: a column may be called `price_$`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxTransform, Transform, TransformedBbox
from sklearn import metrics
from sklearn.ensemble import VotingClassifier
from sklearn.multioutput import MultiOutputRegressor

from registry.vocabulary import Task

NUMBERED_CLASSES = 30  # a confusion matrix of more has neither numbers nor labels
CELL = 0.36  # inches, for a number of four digits
CURVED_CLASSES = 10
TITLE_SIZE, LABEL_SIZE = 12, 10  # points: matplotlib's own, whatever somebody's matplotlibrc says
POINTS = 10_000
FEATURES = 20
COLOURS = color_sequences["petroff10"]  # made for the colour-blind
BLUE, ORANGE, RED, GREY = COLOURS[0], COLOURS[1], COLOURS[2], "0.5"

Array = np.ndarray[Any, Any]
Ticks = Sequence[tuple[float, str]]  # where, on the scale, and what stands there
Ranked = dict[Any, tuple[Array, Array]]  # by class: whether a test row is of it, and its score for it; both (k,)


def model_plots(task: Task, pipeline: Any, X_test: pd.DataFrame, y_test: Array, predicted: Array) -> dict[str, Figure]:
    """The figures of a fitted pipeline on k test rows, by file name without its ending; y_test and what was predicted
    for them (k,) or (k, targets).

    What cannot be drawn is left out: curves without scores or for test rows of one class, importances that the
    estimator does not have.
    """
    if task is Task.REGRESSION:
        figures = {"residuals": _residuals(y_test.reshape(len(y_test), -1), predicted.reshape(len(y_test), -1))}
    else:
        figures = {"confusion_matrix": _confusion_matrix(pipeline.classes_, y_test, predicted.ravel())}
        if ranked := _ranked(pipeline, X_test, y_test):
            figures |= {"roc_curve": _roc(ranked), "precision_recall_curve": _precision_recall(ranked)}
    values = _importances(pipeline["model"])
    names = pipeline["preprocessing"].get_feature_names_out()
    if values.shape == names.shape and np.isfinite(values).all():
        figures["feature_importance"] = _feature_importance(names, values)
    return figures


def search_plot(trials: list[dict[str, Any]], metric_label: str) -> Figure:
    """Trials in the order they were tried, each with `mean` and `std` over the folds; higher is better.

    The mean of a trial whose `state` is pruned is that of some folds alone: it is no score, and cannot be the best.
    """
    figure = Figure((7.0, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.set(title=f"{metric_label} by trial", xlabel="Trial", ylabel=f"Mean {metric_label} ± standard deviation")
    number = np.arange(1, len(trials) + 1)
    mean, std = (np.array([trial[name] for trial in trials], dtype=float) for name in ("mean", "std"))
    scored = np.isfinite(mean) & np.array([trial.get("state") != "pruned" for trial in trials], dtype=bool)
    if scored.any():
        error = np.nan_to_num(std[scored])
        axes.errorbar(number[scored], mean[scored], error, fmt="o", color=BLUE, capsize=3, label="trial")
        best = np.fmax.accumulate(np.where(scored, mean, np.nan))
        axes.step(number, best, where="post", color=RED, label=f"best so far (in the end {best[-1]:.4g})")
    else:
        axes.set_yticks([])
    if not scored.all():
        bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 3}
        lost = number[~scored]
        axes.plot(lost, np.zeros(len(lost)), "X", ms=9, color=ORANGE, mec="black", label="failed or pruned", **bottom)
    axes.set_xlim(0.5, max(1, len(trials)) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if trials:
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _confusion_matrix(classes: Array, y_test: Array, predicted: Array) -> Figure:
    labels = np.union1d(classes, y_test)  # a rare one may be among the test rows alone
    counts = metrics.confusion_matrix(y_test, predicted, labels=labels)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    title, predicted_class = "Confusion matrix", "Predicted class (shade: share of the actual class)"
    count = len(labels)
    limits = (-0.5, count - 0.5), (count - 0.5, -0.5)
    if count > NUMBERED_CLASSES:
        title += f" of {count} classes"
        panel = _Panel(title, predicted_class, "Actual class", (5.5, 5.5), limits, left=0.5, bottom=0.5)
        panel.image(share)
        return panel.framed()
    names = [_short(label, 20) for label in labels]
    side, wide = max(4.5, CELL * count), _width(names)
    turned = wide > side / count - 0.05  # they would run into each other
    room: dict[str, float] = {"left": wide + 0.6, "bottom": (wide if turned else 0.15) + 0.5}
    panel = _Panel(title, predicted_class, "Actual class", (side, side), limits, **room)
    panel.image(share)
    panel.name_columns(names, turned=turned)
    panel.name_rows(names)
    size = min(11.0, 100 * max(CELL, 3 / count) / len(str(counts.max())))
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        panel.text(column, row, str(counts[row, column]), panel.data, size=size, color=colour)
    return panel.framed()


def _ranked(pipeline: Any, X_test: pd.DataFrame, y_test: Array) -> Ranked:
    """The larger of two classes, or each of up to ten; only those of which some test rows are, and some are not."""
    classes = pipeline.classes_
    methods = [method for method in ("predict_proba", "decision_function") if hasattr(pipeline, method)]
    if not methods or not 2 <= len(classes) <= CURVED_CLASSES or (len(classes) > 2 and _pairwise(pipeline["model"])):
        return {}
    scores = np.asarray(getattr(pipeline, methods[0])(X_test), dtype=float).reshape(len(y_test), -1)
    if not np.isfinite(scores).all():
        return {}
    columns = {classes[1]: scores[:, -1]} if len(classes) == 2 else dict(zip(classes, scores.T, strict=True))
    ranked = {label: (y_test == label, column) for label, column in columns.items()}
    return {label: (actual, column) for label, (actual, column) in ranked.items() if 0 < actual.sum() < len(actual)}


def _pairwise(model: Any) -> bool:
    """Whether its scores, if it gives any, are for pairs of classes."""
    return getattr(model, "decision_function_shape", "") == "ovo" or getattr(model, "multi_class", "") == "one_vs_one"


def _roc(ranked: Ranked) -> Figure:
    curves = []
    for label, (actual, scores) in ranked.items():
        x, y, _ = metrics.roc_curve(actual, scores)
        curves.append((f"{metrics.auc(x, y):.3f}  {_short(label, 20)}", x, y))
    panel = _curves("ROC curve", "False positive rate", "True positive rate", "Area under the curve", curves)
    panel.line([0, 1], [0, 1], panel.data, linestyle=":", color=GREY)
    return panel.figure


def _precision_recall(ranked: Ranked) -> Figure:
    curves = []
    for label, (actual, scores) in ranked.items():
        y, x, _ = metrics.precision_recall_curve(actual, scores, drop_intermediate=True)
        average = -np.sum(np.diff(x) * y[:-1])  # as scikit-learn has it, which would sort the rows again
        curves.append((f"{average:.3f}  {_short(label, 20)}", x, y))
    return _curves("Precision-recall curve", "Recall", "Precision", "Average precision", curves).figure


def _curves(title: str, x: str, y: str, figures: str, curves: list[tuple[str, Array, Array]]) -> "_Panel":
    """On the unit square; what each is stands beside it."""
    right = max(_width([f"{figures}:"]), 0.4 + _width([label for label, _, _ in curves])) + 0.4
    panel = _Panel(title, x, y, (4.2, 4.2), ((-0.05, 1.05), (-0.05, 1.05)), right=right)
    fifths = [(value, f"{value:.1f}") for value in np.linspace(0, 1, 6)]
    panel.framed(fifths, fifths)
    beside, top = panel.left + panel.wide + 0.2, panel.bottom + panel.high
    panel.text(beside, top - 0.1, f"{figures}:", ha="left")
    for number, (label, across, up) in enumerate(curves):
        look: dict[str, Any] = {"color": COLOURS[number], "linestyle": "-" if number < 5 else "--"}
        panel.line(across, up, panel.data, **look)
        height = top - 0.4 - 0.25 * number
        panel.line([beside, beside + 0.3], [height, height], **look)
        panel.text(beside + 0.4, height, label, ha="left")
    return panel


def _residuals(y_test: Array, predicted: Array) -> Figure:
    """y_test, predicted (k, targets): a panel for each target."""
    rows, targets = y_test.shape
    drawn = min(rows, POINTS // targets)
    some = np.sort(np.random.default_rng(0).choice(rows, drawn, replace=False))
    size = 8 if drawn < 1000 else 4
    across = math.ceil(math.sqrt(targets))
    down = math.ceil(targets / across)
    figure = Figure((max(7.0, 3.5 * across), max(5.0, 3.5 * down)), layout="constrained")
    figure.suptitle("Residuals" if drawn == rows else f"Residuals of {drawn:,} of {rows:,} test rows")
    for target in range(targets):
        axes = figure.add_subplot(down, across, target + 1, xlabel="Predicted", ylabel="Actual - predicted")
        axes.plot(predicted[some, target], (y_test - predicted)[some, target], ".", ms=size, color=BLUE, alpha=0.5)
        axes.axhline(0, color="black", linewidth=1)
        if targets > 1:
            axes.set_title(f"Target {target + 1}")
    return figure


def _importances(model: Any) -> Array:
    """(d,), or another shape where it has none."""
    if isinstance(model, VotingClassifier | MultiOutputRegressor):
        return np.asarray(np.mean([_importances(each) for each in model.estimators_], axis=0))
    # xgboost's linear models have both, of several classes with a row for each feature here, for each class there
    values: Any = getattr(model, "feature_importances_", None)
    values = getattr(model, "coef_", None) if values is None else np.transpose(values)
    if values is None or callable(values):
        return np.empty(0)
    values = values.toarray() if hasattr(values, "toarray") else values
    return np.asarray(np.abs(np.atleast_2d(values).astype(float)).mean(axis=0))


def _feature_importance(names: Array, values: Array) -> Figure:
    largest = np.argsort(-values, kind="stable")[:FEATURES]
    shown = [_short(names[which], 40) for which in largest]
    title = "Feature importance" + (f": the {FEATURES} largest of {len(names)}" if len(names) > FEATURES else "")
    across = "Importance, or size of the coefficient"
    greatest = min(values.max(), 1e307)
    end = 1.05 * greatest if greatest > 1e-280 else 1.0  # matplotlib's ticks are no smaller, either
    limits = (0, end), (len(shown) - 0.5, -0.5)
    panel = _Panel(title, across, "", (5.5, 4.2), limits, left=_width(shown) + 0.3)
    panel.bars(np.minimum(values[largest], end))
    panel.name_rows(shown)
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(0, end)
    return panel.framed([(value, f"{value:.4g}") for value in ticks if 0 <= value <= end])


class _Panel:
    """A box of a size in inches, room around it, and a linear scale: what matplotlib's own axes would be, whose ticks,
    spines and labels take three quarters of such a figure's time. `data` transforms from the scale; all else is in
    inches from the figure's lower left corner.
    """

    def __init__(
        self,
        title: str,
        x: str,
        y: str,
        size: tuple[float, float],
        limits: tuple[tuple[float, float], tuple[float, float]],
        left: float = 0.8,
        bottom: float = 0.6,
        right: float = 0.3,
    ) -> None:
        self.left, self.bottom = left, bottom
        self.wide, self.high = size
        self.figure = Figure((left + self.wide + right, bottom + self.high + 0.4))
        self._inches = self.figure.dpi_scale_trans
        self._box = Bbox.from_bounds(left, bottom, *size)
        self._scale = BboxTransform(Bbox(list(zip(*limits, strict=True))), self._box)
        self.data = self._scale + self._inches
        self.text(left + self.wide / 2, bottom + self.high + 0.2, title, size=TITLE_SIZE)
        self.text(left + self.wide / 2, 0.2, x)
        self.text(0.2, bottom + self.high / 2, y, rotation=90, va="center")

    def text(
        self,
        x: float,
        y: float,
        said: str,
        transform: Transform | None = None,
        *,
        size: float = LABEL_SIZE,
        ha: str = "center",
        va: str = "center_baseline",
        **look: Any,
    ) -> None:
        at = transform or self._inches
        self.figure.text(x, y, said, size=size, ha=ha, va=va, transform=at, parse_math=False, **look)

    def line(self, x: Any, y: Any, transform: Transform | None = None, **look: Any) -> None:
        self.figure.add_artist(Line2D(x, y, transform=transform or self._inches, **look))

    def image(self, share: Array) -> None:
        """share (rows, columns), each from 0 to 1, in the whole box."""
        bbox = TransformedBbox(self._box, self._inches)
        image = BboxImage(bbox, cmap="Blues", norm=Normalize(0, 1), interpolation="nearest", origin="upper")
        image.set_data(share)
        self.figure.add_artist(image)

    def bars(self, widths: Array) -> None:
        """From 0 to the right, a row each."""
        corners = [[(0, row - 0.4), (0, row + 0.4), (w, row + 0.4), (w, row - 0.4)] for row, w in enumerate(widths)]
        self.figure.add_artist(PolyCollection(corners, color=BLUE, linewidth=0, transform=self.data))

    def name_columns(self, names: list[str], *, turned: bool) -> None:
        for column, name in enumerate(names):
            x, _ = self._scale.transform((column, 0))
            self.text(x, self.bottom - 0.08, name, va="top", rotation=90 if turned else 0)

    def name_rows(self, names: list[str]) -> None:
        for row, name in enumerate(names):
            _, y = self._scale.transform((0, row))
            self.text(self.left - 0.08, y, name, ha="right")

    def framed(self, x_ticks: Ticks = (), y_ticks: Ticks = ()) -> Figure:
        """The figure, with the box's outline and ticks at its bottom and left."""
        (x0, y0), (x1, y1) = self._box.get_points()
        lines: list[tuple[Sequence[float], Sequence[float]]] = [((x0, x1, x1, x0, x0), (y0, y0, y1, y1, y0))]
        for value, name in x_ticks:
            x, _ = self._scale.transform((value, 0))
            lines.append(((x, x), (y0, y0 - 0.05)))
            self.text(x, y0 - 0.1, name, va="top")
        for value, name in y_ticks:
            _, y = self._scale.transform((0, value))
            lines.append(((x0, x0 - 0.05), (y, y)))
            self.text(x0 - 0.1, y, name, ha="right")
        x, y = (np.concatenate([[*each, np.nan] for each in sides]) for sides in zip(*lines, strict=True))
        self.line(x, y, color="black", linewidth=0.8)
        return self.figure


def _width(texts: list[str]) -> float:
    """Of the longest, in inches."""
    font = FontProperties(size=LABEL_SIZE)
    widths = (text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts)
    return max(widths) / 72


def _short(name: Any, most: int) -> str:
    """On one line; the middle is left out, as names of columns and categories differ at their ends."""
    text = " ".join(str(name).split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"

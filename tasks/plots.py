"""What people look at for a candidate or a search, as figures of their own: pyplot has one state for all threads.

scikit-learn's Display classes import pyplot, so the few lines that they would save are here. Names and labels are
never read as mathematics: a column may be called `price_$`.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
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
    predicted_class = "Predicted class (shade: share of the actual class)"
    if numbered := len(labels) <= NUMBERED_CLASSES:
        names = [_short(label, 20) for label in labels]
        side, wide = max(4.5, CELL * len(names)), _width(names)
        turned = wide > side / len(names) - 0.05  # they would run into each other
        figure, axes = _figure(
            *("Confusion matrix", predicted_class, "Actual class", (side, side)),
            left=wide + 0.6,
            bottom=(wide if turned else 0.15) + 0.5,
        )
    else:
        title = f"Confusion matrix of {len(labels)} classes"
        figure, axes = _figure(title, predicted_class, "Actual class", (5.5, 5.5), left=0.5, bottom=0.5)
    axes.set(xticks=[], yticks=[])
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if numbered:
        _name_columns(axes, names, side, turned=turned)
        _name_rows(axes, names, side)
        size = min(11.0, 100 * max(CELL, 3 / len(names)) / len(str(counts.max())))
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", size=size, color=colour)
    return figure


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
    figure = _curves("ROC curve", "False positive rate", "True positive rate", "Area under the curve", curves)
    figure.axes[0].plot([0, 1], [0, 1], ":", color=GREY)
    return figure


def _precision_recall(ranked: Ranked) -> Figure:
    curves = []
    for label, (actual, scores) in ranked.items():
        y, x, _ = metrics.precision_recall_curve(actual, scores, drop_intermediate=True)
        average = -np.sum(np.diff(x) * y[:-1])  # as scikit-learn has it, which would sort the rows again
        curves.append((f"{average:.3f}  {_short(label, 20)}", x, y))
    return _curves("Precision-recall curve", "Recall", "Precision", "Average precision", curves)


def _curves(title: str, x: str, y: str, figures: str, curves: list[tuple[str, Array, Array]]) -> Figure:
    """On the unit square; what each is stands beside it. matplotlib's legend of ten takes as long as the rest."""
    right = max(_width([f"{figures}:"]), 0.4 + _width([label for label, _, _ in curves])) + 0.4
    figure, axes = _figure(title, x, y, (4.2, 4.2), right=right)
    fifths = np.linspace(0, 1, 6)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xticks=fifths, yticks=fifths)
    beside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    axes.text(1.05, 0.97, f"{figures}:", va="center", size=LABEL_SIZE, **beside)
    for number, (label, across, up) in enumerate(curves):
        look: dict[str, Any] = {"color": COLOURS[number], "linestyle": "-" if number < 5 else "--"}
        axes.plot(across, up, **look)
        height = 0.9 - 0.06 * number
        axes.plot([1.05, 1.12], [height, height], **look, **beside)
        axes.text(1.15, height, label, va="center", size=LABEL_SIZE, parse_math=False, **beside)
    return figure


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
    figure, axes = _figure(title, across, "", (axes_width := 5.5, 4.2), left=_width(shown) + 0.3)
    axes.barh(range(len(largest)), values[largest], color=BLUE)
    axes.set(xlim=(0, None), ylim=(len(largest) - 0.5, -0.5), yticks=[])
    _name_rows(axes, shown, axes_width)
    return figure


def _figure(
    title: str, x: str, y: str, size: tuple[float, float], left: float = 0.8, bottom: float = 0.6, right: float = 0.3
) -> tuple[Figure, Axes]:
    """Axes of a size in inches, and what stands around them. matplotlib can find out itself how much room that needs,
    and where a title and labels go then; it takes as long as to draw it.
    """
    wide, high = left + size[0] + right, bottom + size[1] + 0.4
    figure = Figure((wide, high))
    axes = figure.add_axes((left / wide, bottom / high, size[0] / wide, size[1] / high))
    axes.set_title(title, size=TITLE_SIZE, y=1.0)
    axes.set_xlabel(x, size=LABEL_SIZE)
    axes.set_ylabel(y, size=LABEL_SIZE)
    axes.xaxis.set_label_coords(0.5, (0.28 - bottom) / size[1])
    axes.yaxis.set_label_coords((0.28 - left) / size[0], 0.5)
    axes.tick_params(labelsize=LABEL_SIZE)
    return figure, axes


def _name_columns(axes: Axes, names: list[str], high: float, *, turned: bool) -> None:
    """Below axes of so many inches. A tick is five artists, a text is one."""
    look: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top", "size": LABEL_SIZE}
    for place, name in enumerate(names):
        axes.text(place, -0.08 / high, name, parse_math=False, rotation=90 if turned else 0, **look)


def _name_rows(axes: Axes, names: list[str], wide: float) -> None:
    """Left of axes of so many inches."""
    look: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "size": LABEL_SIZE}
    for place, name in enumerate(names):
        axes.text(-0.08 / wide, place, name, parse_math=False, **look)


def _width(texts: list[str]) -> float:
    """Of the longest, in inches."""
    font = FontProperties(size=LABEL_SIZE)
    widths = (text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts)
    return max(widths) / 72


def _short(name: Any, most: int) -> str:
    """On one line; the middle is left out, as names of columns and categories differ at their ends."""
    text = " ".join(str(name).split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"

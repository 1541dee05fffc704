"""Figures of a candidate and of a search, drawn by scikit-learn's displays.

Figures are created without pyplot, whose state is shared by all threads. scikit-learn imports pyplot but does not draw
with it.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences, rcParams, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn import metrics
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, PredictionErrorDisplay, RocCurveDisplay
from sklearn.multioutput import MultiOutputRegressor

from registry.vocabulary import Task

MAX_LABELLED_CLASSES = 30  # a confusion matrix of more classes has neither numbers nor labels
MAX_CURVES = 10
CELL_INCHES = 0.36  # enough for a number of four digits
LETTER_INCHES = 0.13  # of a wide letter
POINTS = 10_000
FEATURES = 20
COLOURS = color_sequences["petroff10"]  # distinguishable by the colour-blind
BLUE, ORANGE, RED, GREY = COLOURS[0], COLOURS[1], COLOURS[2], "0.5"

Array = np.ndarray[Any, Any]
Ranked = dict[Any, tuple[Array, Array]]  # by class: which test rows belong to it, and their scores; both (k,)


def model_plots(task: Task, pipeline: Any, X_test: pd.DataFrame, y_test: Array, predicted: Array) -> dict[str, Figure]:
    """Return the figures of a fitted pipeline on k test rows, by file name without suffix.

    y_test and predicted are (k,) or (k, targets). Curves are left out without scores, or if all test rows have one
    class. Importances are left out if the estimator has none.
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
    """Draw the trials in order, each with `mean` and `std` over the folds; higher is better.

    The mean of a pruned trial covers only some folds, so it is not drawn as a score and cannot be the best.
    """
    figure, axes = _panel(f"{metric_label} by trial", 7.0, 5.0)
    axes.set(xlabel="Trial", ylabel=f"Mean {metric_label} ± standard deviation")
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


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, scaled with the font size of the user's matplotlibrc."""
    scale = rcParams["font.size"] / rcParamsDefault["font.size"]
    return Figure((width * scale, height * scale), layout="constrained")


def _panel(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _confusion_matrix(classes: Array, y_test: Array, predicted: Array) -> Figure:
    labels = np.union1d(classes, y_test)  # a rare class may occur in the test rows only
    counts = metrics.confusion_matrix(y_test, predicted, labels=labels)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1}
    if len(labels) > MAX_LABELLED_CLASSES:
        figure, axes = _panel(f"Confusion matrix of {len(labels)} classes", 6.1, 6.3)
        axes.imshow(share, interpolation="nearest", **shades)
        axes.set(xticks=[], yticks=[])
    else:
        names = [_short(label, 20) for label in labels]
        side, longest = max(4.5, CELL_INCHES * len(labels)), LETTER_INCHES * max(map(len, names))
        turned = longest > side / len(labels)  # the names would overlap
        figure, axes = _panel("Confusion matrix", side + longest + 0.6, side + (longest if turned else 0.2) + 0.8)
        display = ConfusionMatrixDisplay(share, display_labels=names)
        rotation = "vertical" if turned else "horizontal"
        display.plot(ax=axes, xticks_rotation=rotation, colorbar=False, im_kw=shades)
        _write_counts(display.text_, counts, share, size=65 * side / len(labels) / len(str(counts.max())))
    axes.set(xlabel="Predicted class (shade: share of the actual class)", ylabel="Actual class")
    return figure


def _write_counts(texts: Array, counts: Array, share: Array, size: float) -> None:
    """Replace the shares in the cells with the counts, and leave zeros out."""
    for cell, text in np.ndenumerate(texts):
        text.set(text=str(counts[cell] or ""), fontsize=min(11.0, size), color="w" if share[cell] > 0.5 else "k")


def _ranked(pipeline: Any, X_test: pd.DataFrame, y_test: Array) -> Ranked:
    """Return the larger of two classes, or each of up to ten. Classes of none or all of the test rows are left out."""
    classes = pipeline.classes_
    methods = [method for method in ("predict_proba", "decision_function") if hasattr(pipeline, method)]
    if not methods or not 2 <= len(classes) <= MAX_CURVES or (len(classes) > 2 and _pairwise(pipeline["model"])):
        return {}
    scores = np.asarray(getattr(pipeline, methods[0])(X_test), dtype=float).reshape(len(y_test), -1)
    if not np.isfinite(scores).all():
        return {}
    columns = {classes[1]: scores[:, -1]} if len(classes) == 2 else dict(zip(classes, scores.T, strict=True))
    ranked = {label: (y_test == label, column) for label, column in columns.items()}
    return {label: (actual, column) for label, (actual, column) in ranked.items() if 0 < actual.sum() < len(actual)}


def _pairwise(model: Any) -> bool:
    """Return whether the model's scores are for pairs of classes."""
    return getattr(model, "decision_function_shape", "") == "ovo" or getattr(model, "multi_class", "") == "one_vs_one"


def _roc(ranked: Ranked) -> Figure:
    curves = {}
    for label, (actual, scores) in ranked.items():
        x, y, _ = metrics.roc_curve(actual, scores)
        curves[f"{metrics.auc(x, y):.3f}", label] = RocCurveDisplay(fpr=x, tpr=y)
    figure = _curves("ROC curve", "Area under the curve", curves)
    figure.axes[0].plot([0, 1], [0, 1], ":", color=GREY)
    return figure


def _precision_recall(ranked: Ranked) -> Figure:
    curves = {}
    for label, (actual, scores) in ranked.items():
        y, x, _ = metrics.precision_recall_curve(actual, scores, drop_intermediate=True)
        average = -np.sum(np.diff(x) * y[:-1])  # average_precision_score would sort the rows again
        curves[f"{average:.3f}", label] = PrecisionRecallDisplay(y, x)
    return _curves("Precision-recall curve", "Average precision", curves)


def _curves(title: str, metric: str, curves: dict[tuple[str, Any], Any]) -> Figure:
    """Draw the displays with a legend of their metrics and classes."""
    labels = [f"{value}  {_short(label, 20)}" for value, label in curves]  # a legend hides labels that begin with _
    figure, axes = _panel(title, 5.8 + LETTER_INCHES * max(map(len, [metric, *labels])), 4.8)
    looks = [{"color": colour, "linestyle": "-" if number < 5 else "--"} for number, colour in enumerate(COLOURS)]
    lines = [curve.plot(axes, curve_kwargs=look).line_ for curve, look in zip(curves.values(), looks, strict=False)]
    figure.legend(lines, labels, title=metric, loc="outside right upper", frameon=False, alignment="left")
    return figure


def _residuals(y_test: Array, predicted: Array) -> Figure:
    """Draw a panel for each target. y_test and predicted are (k, targets)."""
    rows, targets = y_test.shape
    drawn = min(rows, POINTS // targets)
    some = np.sort(np.random.default_rng(0).choice(rows, drawn, replace=False))
    across = math.ceil(math.sqrt(targets))
    down = math.ceil(targets / across)
    figure = _figure(max(7.0, 3.5 * across), max(5.0, 3.5 * down))
    figure.suptitle("Residuals" if drawn == rows else f"Residuals of {drawn:,} of {rows:,} test rows")
    points = {"color": BLUE, "alpha": 0.5, "linewidths": 0, "s": 25 if drawn < 1000 else 5}
    for target in range(targets):
        axes = figure.add_subplot(down, across, target + 1)
        display = PredictionErrorDisplay(y_true=y_test[some, target], y_pred=predicted[some, target])
        display.plot(axes, kind="residual_vs_predicted", scatter_kwargs=points)
        axes.set_title(f"Target {target + 1}" if targets > 1 else "")
    return figure


def _importances(model: Any) -> Array:
    """Return the importance of each feature, (d,); another shape if the model has none."""
    if isinstance(model, VotingClassifier | MultiOutputRegressor):
        return np.asarray(np.mean([_importances(each) for each in model.estimators_], axis=0))
    # Of xgboost's linear models of several classes, feature_importances_ has a row per feature, coef_ one per class.
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
    figure, axes = _panel(title, 5.5 + LETTER_INCHES * max(map(len, shown)), 4.8)
    greatest = min(values.max(), 1e307)
    end = 1.05 * greatest if greatest > 1e-280 else 1.0  # matplotlib's ticks overflow beyond these sizes
    axes.barh(range(len(shown)), np.minimum(values[largest], end), color=BLUE)
    axes.set(xlim=(0, end), ylim=(len(shown) - 0.5, -0.5), xlabel="Importance, or size of the coefficient")
    axes.set_yticks(range(len(shown)), shown)
    return figure


def _short(name: Any, most: int) -> str:
    """Return a name on one line, without mathematics. A long name keeps its ends, in which names differ most."""
    text = " ".join(str(name).split())
    text = text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) + 1 :]}"
    return text.replace("$", r"\$")

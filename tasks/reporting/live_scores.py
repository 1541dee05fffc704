"""The chart of the live model's score over time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from registry.values import DeploymentRecord
from registry.vocabulary import Strategy

LABELLED = 12  # newest deployments whose algorithm is shown; more labels would overlap

Array = np.ndarray[Any, Any]


def live_scores(rows: Sequence[DeploymentRecord], label: str) -> bytes:
    """Return a PNG of the live model's recorded score until now. The deployments are given oldest first."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    when = np.array([row.deployed_at.astimezone(UTC).replace(tzinfo=None) for row in rows], dtype="datetime64[us]")
    scores = np.array([row.score for row in rows])
    _draw(axes, rows, when, scores)
    _label(axes, label)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _draw(axes: Axes, rows: Sequence[DeploymentRecord], when: Array, scores: Array) -> None:
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None))
    axes.step(np.append(when, now), np.append(scores, scores[-1]), where="post", color="0.6")
    automatic = np.array([row.strategy is Strategy.NEW_SCORE for row in rows])
    for name, shape, chosen in (("automatically", "o", automatic), ("manually", "s", ~automatic)):
        axes.plot(when[chosen], scores[chosen], shape, label=name)
    for row, x, y in list(zip(rows, when, scores, strict=True))[-LABELLED:]:
        axes.annotate(row.algorithm_name, (x, y), (4, 5), textcoords="offset points", fontsize=8)


def _label(axes: Axes, label: str) -> None:
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(y=0.25)
    axes.set_ylabel(label)
    axes.set_title(f"Recorded {label} of the live model (UTC); deployed", loc="left", fontsize=10)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)

"""What has been live over time, as a picture for a run's page."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

import numpy as np

from registry.values import DeploymentRecord
from registry.vocabulary import Strategy

NAMED = 12  # deployments have their algorithm written beside them; more would cover each other


def live_scores(rows: Sequence[DeploymentRecord], label: str) -> bytes:
    """A PNG of the recorded score of the live model from each deployment to the next, the oldest first, until now."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    when = np.array([row.deployed_at.astimezone(UTC).replace(tzinfo=None) for row in rows], dtype="datetime64[us]")
    scores = np.array([row.score for row in rows])
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None))
    axes.step(np.append(when, now), np.append(scores, scores[-1]), where="post", color="0.6")
    by_itself = np.array([row.strategy is Strategy.NEW_SCORE for row in rows])
    for named, shape, chosen in (("by itself", "o", by_itself), ("by hand", "s", ~by_itself)):
        axes.plot(when[chosen], scores[chosen], shape, label=named)
    for row, x, y in list(zip(rows, when, scores, strict=True))[-NAMED:]:
        axes.annotate(row.algorithm_name, (x, y), (4, 5), textcoords="offset points", fontsize=8)
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(y=0.25)
    axes.set_ylabel(label)
    axes.set_title(f"Recorded {label} of what was live (UTC); deployed", loc="left", fontsize=10)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()

"""Parts of a flow run's page, as Markdown."""

import re
from base64 import b64encode

from registry import queries
from registry.vocabulary import KEY_METRIC, METRIC_LABEL
from tasks.reporting.publish import attempt
from tasks.reporting.tables import Lines

DRAWN_DEPLOYMENTS = 200


def escaped(text: str) -> str:
    """Return the text with Markdown's special characters escaped, so that it cannot add a link or an image."""
    return re.sub(r"([\\\[\]<>|`*])", r"\\\1", text)


def table(lines: Lines) -> str:
    """Return lines of cells, the head first, as a table."""
    head, *rows = lines
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def score_charts(project_name: str) -> list[str]:
    """Return the chart of the live scores. There is none before the second deployment, or if it cannot be drawn."""
    return attempt("the page has no chart", lambda: _charts(project_name), instead=[])


def _charts(project_name: str) -> list[str]:
    rows = queries.history(project_name, limit=DRAWN_DEPLOYMENTS)[::-1]
    if len(rows) < 2:
        return []
    from tasks.reporting.live_scores import live_scores  # heavy: matplotlib, which would delay a deploy

    label = METRIC_LABEL[KEY_METRIC[queries.project(project_name).task]]
    image = b64encode(live_scores(rows, label)).decode()
    return [f"![the live model's {label} over time](data:image/png;base64,{image})"]

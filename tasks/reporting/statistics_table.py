"""The statistics of a snapshot's columns as a table."""

from collections.abc import Iterable, Mapping
from typing import Any

CELL_WIDTH = 32  # in characters
HEAD = ("column", "type", "missing", "distinct", "min", "mean", "median", "max", "std_dev", "most frequent")


def statistics_table(statistics: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return lines of cells, the head first. The cell of a statistic that a column does not have is empty."""
    names = ("name", *HEAD[1:-1])
    return [list(HEAD), *([_cell(each.get(name)) for name in names] + [_most_frequent(each)] for each in statistics)]


def _most_frequent(entry: Mapping[str, Any]) -> str:
    return f"{_cell(entry['mode'])} ({entry['mode_count']})" if entry.get("mode") is not None else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"

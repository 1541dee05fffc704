"""The statistics of a snapshot's columns as a table of text."""

from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 32  # of a cell, in characters
HEAD = ("column", "type", "missing", "distinct", "min", "mean", "median", "max", "std_dev", "most frequent")


def statistics_table(statistics: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Return lines of cells, the head first; a fact that a column does not have is an empty cell."""
    names = ("name", *HEAD[1:-1])
    return [list(HEAD), *([_cell(each.get(name)) for name in names] + [_most_frequent(each)] for each in statistics)]


def _most_frequent(entry: Mapping[str, Any]) -> str:
    return f"{_cell(entry['mode'])} ({entry['mode_count']})" if entry.get("mode") is not None else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"

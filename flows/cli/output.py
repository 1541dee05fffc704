"""What commands print: JSON for programs, tables for people."""

import json
import sys
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from registry.values import DecisionRecord


def print_rows(rows: list[dict[str, Any]], head: dict[str, str], *, as_json: bool, empty: str = "none") -> None:
    """Records as JSON, or the fields in `head` as a table under its titles, without columns that are empty."""
    if as_json:
        print_json(rows)
    elif rows:
        shown = [field for field in head if any(cell(row[field]) for row in rows)]
        print_table([head[field] for field in shown], [[cell(row[field]) for field in shown] for row in rows])
    else:
        print(empty)


def print_json(value: Any) -> None:
    print(json.dumps(value, default=_jsonable, indent=2))


def _jsonable(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value.isoformat()


def print_table(head: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # typer itself imports it only for help and errors
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(head))
    for column, title in enumerate(head):
        figures = all(not row[column].strip("-0123456789.") for row in rows)
        table.add_column(title, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: nothing is folded there.
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False).print(table)


def cell(value: Any) -> str:
    if value is None or value is False or value == {}:
        return ""
    if isinstance(value, tuple):
        return " to ".join(f"{each:+.4f}" for each in value)
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps(value) if isinstance(value, dict) else "yes" if value is True else str(value)


def flat(record: DecisionRecord) -> dict[str, Any]:
    """Return a receipt as one row."""
    fields = asdict(record)
    evidence, terms = fields.pop("evidence"), fields.pop("terms")
    for name in ("obstacle", "live_quarantined"):
        evidence.pop(name)
    return {"decision_id": fields.pop("id"), **fields, **evidence, **terms}

"""The output of commands: JSON for programs, tables for people."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from registry.values import DecisionRecord

# Titles of columns. The title of any other field is its name, with spaces.
TITLES = {
    "project_name": "project",
    "algorithm_name": "algorithm",
    "model_id": "model",
    "snapshot_id": "snapshot",
    "deployed_by": "by",
    "decision_id": "decision",
    "challenger_id": "challenger",
    "live_model_id": "live then",
    "challenger_score": "score",
    "rows_compared": "rows",
    "rows_excluded": "left out",
}


def print_rows(
    rows: list[dict[str, Any]],
    fields: Iterable[str],
    titles: Mapping[str, str] | None = None,
    *,
    as_json: bool,
    empty: str = "none",
) -> None:
    """Print records as JSON, or some of their fields as a table without empty columns; `titles` add to TITLES."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        print(empty)
        return
    shown = [field for field in fields if any(cell(row[field]) for row in rows)]
    known = TITLES | dict(titles or {})
    head = [known.get(field, field.replace("_", " ")) for field in shown]
    print_table(head, *([cell(row[field]) for field in shown] for row in rows))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print titles and values, a line each, without empty values."""
    print_table(["", ""], *([title, cell(value)] for title, value in fields.items() if cell(value)))


def print_json(value: Any) -> None:
    print(json.dumps(value, default=_jsonable, indent=2))


def _jsonable(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value.isoformat()


def print_table(head: list[str], *rows: list[str]) -> None:
    from rich.console import Console  # heavy: a rollback prints no table
    from rich.table import Table  # heavy

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(head))
    for column, title in enumerate(head):
        numeric = all(not row[column].strip("-0123456789.") for row in rows)
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width, so nothing is folded there.
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

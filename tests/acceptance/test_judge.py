"""The simulations run, and the page that they wrote says what is promised of the automatic rule."""

import re
import subprocess
import sys
from math import sqrt
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "judge.md").read_text()


def tables(page: str) -> list[list[dict[str, str]]]:
    """Each table as rows by their head."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", page, re.MULTILINE):
        head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()]
        found.append([dict(zip(head, line, strict=True)) for line in lines])
    return found


def number(cell: str) -> float:
    return float(cell.rstrip("%").replace(",", ""))


@pytest.mark.slow
def test_the_judge_writes_such_a_page() -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.judge", "12", "3", "1"]
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    assert [[list(row) for row in rows] for rows in tables(page)] == [
        [list(row) for row in rows] for rows in tables(PAGE)
    ]


def test_equals_win_at_most_one_time_in_twenty() -> None:
    [retrains] = re.findall(r"^(\d+) retrains of one unchanged algorithm", PAGE, re.MULTILINE)
    assert int(retrains) >= 400
    lines = tables(PAGE)[0]
    assert {(row["metric"], row["candidates"]) for row in lines} == {(m, k) for m in ("F1", "R2") for k in ("1", "5")}
    for row in lines:
        assert number(row["same rows, 95 %"]) <= 100 * (0.05 + 2 * sqrt(0.05 * 0.95 / int(retrains)))


def test_a_clear_gain_is_seen_and_recorded_scores_freeze_where_same_rows_follow() -> None:
    gains = tables(PAGE)[1]
    assert all(number(row["goes live"]) >= 90 for row in gains if number(row["true gain"]) > 0.06)
    assert all(number(row["goes live"]) <= 10 for row in gains if number(row["true gain"]) < 0.002)
    last_year = {row["compared by"]: number(row["last year"]) for row in tables(PAGE)[2]}
    assert last_year["same rows"] > last_year["recorded scores"] + 0.05
    assert last_year["same rows, 95 %"] > last_year["recorded scores"] + 0.05
    everything, unseen = tables(PAGE)[3]
    assert number(everything["as compared"]) > number(everything["on new rows"]) + 0.3
    assert abs(number(unseen["as compared"]) - number(unseen["on new rows"])) < 0.1

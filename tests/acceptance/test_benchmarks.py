"""The benchmarks run and print what they found; what they found is nobody's to test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shared import Calls, Row, Unequal, calls
from benchmarks.training import check_equal

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_section_prints_its_table_and_writes_its_measurements(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "imports", "--quick", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == []
    assert {"date", "processor", "cores", "python", "mlflow"} <= found["machine"].keys()
    for row in found["rows"]:
        [line] = [line for line in done.stdout.splitlines() if f"| {row['what']} " in line]
        assert line.count("|") == 10
        assert row["ratios"] == [ours / theirs for ours, theirs in zip(row["ours"], row["theirs"], strict=True)]
        assert len(row["ratios"]) == 3


def test_the_sides_take_turns_in_every_order() -> None:
    called: list[str] = []
    found = calls(2, 2, {"ours": lambda: called.append("ours"), "theirs": lambda: called.append("theirs")})
    assert called[:2] == ["ours", "theirs"], "these are not counted"
    assert called[2:] == ["ours", "theirs", "theirs", "ours"] * 2
    assert all(isinstance(each, Calls) and len(each.medians) == 2 for each in found.values())


def test_a_slower_side_is_paired_with_the_rounds_that_it_had() -> None:
    assert Row("section", "what", "s", [2.0, 3.0, 9.0], "slow", [4.0, 2.0]).ratios == [0.5, 1.5]


def test_scores_are_compared_as_they_are_printed() -> None:
    check_equal({"svm": 0.98761}, {"svm": 0.98759}, "the same")
    with pytest.raises(Unequal, match=r"0\.9876.*0\.9874"):
        check_equal({"svm": 0.9876}, {"svm": 0.9874}, "another")

"""A model answers as at training: numbers by the scale of its own answers, everything else exactly."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import lifecycle, queries
from registry.serving.proof import NOT_COMPARED, is_same, prove
from registry.values import NewSnapshot, Terms
from registry.vocabulary import Sampling
from tasks.promotion.automatic import decide
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy, describe
from tests.support.story import NO_FILE, Story


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1e-9, 2e-9, 9e-9], [1e-9, 2e-9, 9e-9 + 5e-15]),
        ([1e6, 1e6 + 1e-3, 1e6 + 2e-3], [1e6, 1e6 + 1e-3, np.nextafter(1e6 + 2e-3, np.inf)]),
        ([1e6, 3e6], [1e6 + 1, 3e6]),
        ([5.0, 5.0], [5.0 + 4e-6, 5.0]),
        ([5e-12, 5e-12], [5e-12, 5e-12 * (1 + 9e-7)]),
        ([0.0, 0.0], [0.0, -0.0]),
        ([0.0, 1.0], [5e-7, 1.0]),
        ([[1.0, 1e9], [2.0, 2e9]], [[1.0 + 5e-7, 1e9 + 500], [2.0, 2e9]]),
        ([3, 4], [3.0, 4.0]),
        ([1e308, -1e308], [1e308, -1e308]),
        ([np.inf, 1.0], [np.inf, 1.0]),
    ],
)
def test_last_digits_may_differ(expected: list[Any], found: list[Any]) -> None:
    assert is_same(np.array(found), expected)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1e-8], [9e-8]),
        ([1e-9, 2e-9, 9e-9], [1e-9, 2e-9, 9.1e-9]),
        ([1e6, 1e6 + 1e-3, 1e6 + 2e-3], [1e6, 1e6 + 1e-3, 1e6 + 2.1e-3]),
        ([1e6, 1e6], [1e6, 1e6 + 2]),
        ([0.0, 0.0], [0.0, 1e-12]),
        ([0.0, 1.0], [2e-6, 1.0]),
        ([[1.0, 1e9], [2.0, 2e9]], [[1.0 + 5e-6, 1e9], [2.0, 2e9]]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([1.0, np.nan], [1.0, np.nan]),
        ([1.0, None], [1.0, np.nan]),
        ([1e308, -1e308], [1e308, -0.99e308]),
        ([np.inf, 1.0], [np.inf, 1.1]),
        ([np.inf, 1.0], [-np.inf, 1.0]),
        ([1.0, 2.0], [1.0]),
        ([1.0, 2.0], [[1.0, 2.0]]),
        (["1.0", "2.0"], [1.0, 2.0]),
        ([[1.0], [1.0, 2.0]], [1.0, 2.0]),
    ],
)
def test_another_answer_is_another(expected: list[Any], found: list[Any]) -> None:
    assert not is_same(np.array(found), expected)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_a_model_that_answers_in_float32_may_differ_by_the_last_places_of_one(scale: float) -> None:
    """Its answers may be so close together that a millionth of their spread is less than one of its steps."""
    expected = (scale * np.array([1, 1 + 2e-6, 1 + 4e-6])).astype(np.float32)
    up = np.nextafter(np.nextafter(expected, np.float32(np.inf)), np.float32(np.inf))
    assert is_same(up, expected.tolist())
    assert not is_same(up.astype(np.float64), expected.tolist()), "a float64 has no such steps"
    assert not is_same((expected * np.float32(1 + 1e-5)).astype(np.float32), expected.tolist())


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (np.array([0, 1]), [0, 1], True),
        (np.array([0, 1]), [0, 2], False),
        (np.array([2**53 + 1]), [2**53], False),
        (np.array(["a", "bb"]), ["a", "bb"], True),
        (np.array(["a", "bb"]), ["a", "b"], False),
        (np.array([True, False]), [True, False], True),
        (np.array(["a", None], dtype=object), ["a", None], True),
    ],
)
def test_labels_and_whole_numbers_are_equal_or_not(found: Any, expected: list[Any], same: bool) -> None:
    assert is_same(found, expected) is same


@pytest.fixture
def without_golden_rows(registry_url: str, workspace: Path) -> Story:
    story = Story(folder=workspace)
    new = NewSnapshot(
        relation_name="sklearn:iris",
        y_column_names=("target",),
        test_size=0.25,
        test_sampling=Sampling.STRATIFIED,
        seed=0,
        train_rows=112,
        test_rows=38,
        columns=[{"name": "x", "type": "double"}, {"name": "target", "type": "int64"}],
        preprocess={},
        statistics=[],
        golden_rows=[],
        artifact=NO_FILE,
        hashes=NO_FILE,
    )
    story.snapshot = lifecycle.record_snapshot(story.project, story.task, new, story.key())
    return story


def test_where_there_are_no_golden_rows_it_is_said(
    without_golden_rows: Story, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    story = without_golden_rows
    first, second = story.trained(0.7), story.trained(0.8)
    with caplog.at_level(logging.WARNING, "frontrunner"):
        assert prove(queries.model(first)) == NOT_COMPARED
    assert "no answers could be compared" in caplog.text
    decision = decide(story.project, story.task, [queries.model(first)], Terms(), "automatic")
    assert decision.deployed
    assert decision.reason.endswith(NOT_COMPARED)
    request = checked_deploy(story.project, "best_score")
    result = deploy(request, "manual", announce=lambda _: None)
    assert (result.model_id, result.warning) == (second, NOT_COMPARED)
    assert describe(result, request).endswith(f"instead of model {first}; {NOT_COMPARED}")


def test_with_golden_rows_there_is_no_warning(registry_url: str, workspace: Path) -> None:
    story = Story(folder=workspace)
    assert prove(queries.model(story.trained(0.7))) is None

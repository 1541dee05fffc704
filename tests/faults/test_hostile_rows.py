"""Rows to predict for, of any JSON in any of the forms that are taken: answers, or one line that says what is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.serving import inputs
from registry.serving.features import Feature, Features
from registry.serving.http import new_app
from registry.serving.http_schema import FORMATS
from registry.serving.inputs import aligned
from tests.integration.test_service import served
from tests.support.hostile import JSON, SCALAR, examples, refused_or
from tests.support.story import Story

FEATURES = Features(
    (
        Feature("number", "double", used=True, nullable=True),
        Feature("whole", "int64", used=True, nullable=False),
        Feature("color", "string", used=True, nullable=True),
        Feature("day", "timestamp[us]", used=True, nullable=True),
        Feature("moment", "timestamp[us, tz=Europe/Zurich]", used=True, nullable=True),
    )
)
NUMBERS = Features(
    Feature(name, "double", used=name != "unused", nullable=True) for name in ("number", "unused", "whole")
)
GOOD = {"number": 0.5, "whole": 1, "color": "red", "day": "2026-01-01", "moment": "2026-01-01T00:00:00+01:00"}
VALUE = SCALAR | JSON | st.sampled_from([*GOOD.values(), "9999-12-31", "0000-00-00", "2026-13-45T99:99", "\ud800"])
RECORD = st.fixed_dictionaries({name: st.just(value) | VALUE for name, value in GOOD.items()})


@pytest.mark.filterwarnings("ignore")  # what pandas says of odd values
def test_any_values_in_any_form() -> None:
    outcomes = {"taken": 0, "refused": 0}
    forms = (
        st.lists(RECORD, max_size=3)
        | st.fixed_dictionaries({name: st.lists(st.just(value) | VALUE, max_size=2) for name, value in GOOD.items()})
        | st.lists(st.tuples(*(st.just(value) | VALUE for value in GOOD.values())).map(list), max_size=2)
        | JSON
    )

    @examples(400)
    @given(forms)
    @example([GOOD])
    @example([GOOD | {"day": "\ud800"}])
    def check(rows: Any) -> None:
        frame = refused_or(lambda: aligned(rows, FEATURES))
        outcomes["refused" if frame is None else "taken"] += 1

    check()
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.filterwarnings("ignore")
def test_numbers_in_any_form_are_the_table_that_they_are_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a shorter way, on which all tables share their columns."""
    shorter = inputs._plain_numbers
    outcomes = {"taken": 0, "refused": 0}
    number = st.floats(width=32) | st.integers(-(2**70), 2**70) | st.none() | SCALAR
    record = st.fixed_dictionaries({"number": number, "whole": number}, optional={"unused": number, "other": number})
    columns = st.fixed_dictionaries({name: st.lists(number, max_size=2) for name in ("number", "unused", "whole")})
    forms = st.lists(record, max_size=3) | columns | st.lists(st.lists(number, min_size=3, max_size=3), max_size=3)

    @examples(400)
    @given(forms)
    @example([{"whole": 1, "number": 2.0}])
    @example([[1.0, 2.0, 3.0]])
    def check(rows: Any) -> None:
        monkeypatch.setattr(inputs, "_plain_numbers", shorter)
        frame = refused_or(lambda: aligned(rows, NUMBERS))
        monkeypatch.setattr(inputs, "_plain_numbers", lambda *_: None)
        slow = refused_or(lambda: aligned(rows, Features(NUMBERS)))
        outcomes["refused" if frame is None else "taken"] += 1
        assert (frame is None) is (slow is None)
        if frame is not None:
            assert frame.columns.tolist() == ["number", "whole"]
            assert np.array_equal(frame.to_numpy(float), slow.to_numpy(float), equal_nan=True)

    check()
    assert min(outcomes.values()) > 0, outcomes
    assert NUMBERS.columns.tolist() == NUMBERS.names == ["number", "whole"]
    assert NUMBERS.columns.name is None
    monkeypatch.setattr(inputs, "_plain_numbers", shorter)
    assert aligned([{"whole": 1, "unused": 0, "number": 2.0}], NUMBERS).to_numpy().tolist() == [[2, 1]], "by name"


@pytest.mark.filterwarnings("ignore")
def test_any_body_for_the_service(workspace: Path) -> None:
    Story(folder=workspace).trained_and_promoted(0.5)
    statuses: dict[int, int] = {}
    good = st.sampled_from([{"x": [1.0]}, [[1.0], [2]], [{"x": 1}], [{"x": "\ud800"}], [{"\ud800": 1}]])
    rows = st.dictionaries(st.sampled_from([*FORMATS, "params", "other"]), good | JSON, min_size=1, max_size=2)
    with served(new_app(refresh_seconds=60)) as client:

        @examples(200)
        @given(rows.map(json.dumps) | JSON.map(json.dumps) | st.text(max_size=20).filter(str.isprintable))
        @example('{"inputs": ' + "[" * 5000 + "]" * 5000 + "}")
        @example('{"dataframe_records": [{"x": ' + "9" * 400 + "}]}")
        @example('{"dataframe_records": [{"x": 1, "x": 2}]}')
        @example('{"inputs": [[1]], "inputs": []}')
        @example('{"instances": [[1e999]]}')
        def check(body: str) -> None:
            answer = client.post(
                "/projects/churn/predict", content=body.encode(), headers={"Content-Type": "application/json"}
            )
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code in (200, 400, 422), answer.text
            if answer.status_code != 200:
                assert list(answer.json()) == ["error"]
                assert "\n" not in answer.json()["error"]

        check()
    assert {200, 400, 422} == set(statuses)

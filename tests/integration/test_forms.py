"""What Prefect's form makes of a flow's parameters, and what a flow takes from a form, a schedule or Python."""

import inspect
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.deploy import best_score, deploy, most_recent, rollback
from flows.predict import predict
from flows.reconcile import reconcile
from flows.train import train

FLOWS: list[Flow[Any, Any]] = [train, deploy, best_score, most_recent, rollback, predict, reconcile]


def schema(flow: Flow[Any, Any]) -> dict[str, Any]:
    return parameter_schema(flow).model_dump()


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_field_is_described_and_none_is_a_pair_of_tabs(flow: Flow[Any, Any]) -> None:
    properties = schema(flow)["properties"]
    for name, field in properties.items():
        assert field["description"].endswith("."), name
        assert ("anyOf" in field) == (name == "y_column_name"), "one column or several is a choice; optional is none"
        assert field.get("default", "") is not None, "a default of null would be sent as a value"
    assert sorted(field["position"] for field in properties.values()) == list(range(len(properties)))


def test_what_most_people_set_comes_first() -> None:
    fields = sorted(schema(train)["properties"].items(), key=lambda field: field[1]["position"])
    assert [name for name, _ in fields[:5]] == ["project_name", "relation_name", "y_column_name", "algorithms", "task"]


def test_choices_are_dropdowns_and_dictionaries_are_editors_of_json() -> None:
    properties = schema(train)["properties"]
    for name in ("task", "search", "test_sampling", "compare"):
        assert properties[name]["type"] == "string"
        assert properties[name]["enum"]
    assert "svm" in properties["algorithms"]["items"]["enum"]
    for name in ("hyperparams", "search_params", "search_args", "preprocess"):
        assert properties[name]["type"] == "object"
        assert "properties" not in properties[name]


def test_the_server_takes_what_a_schedule_or_another_program_sends() -> None:
    given = {
        "project_name": "digits",
        "y_column_name": ["a", "b"],
        "hyperparams": {"svm": {"C": 1}},
        "relation_name": None,
        "confidence": None,
        "search_params": None,
        "test_size": 20,
    }
    assert validate(given, schema(train), raise_on_error=True, ignore_required=True, allow_none_with_default=True) == []


def test_the_signature_is_the_contract() -> None:
    names = "project_name task relation_name y_column_name algorithms hyperparams search search_params search_args"
    names += " test_size test_sampling preprocess automatic_deploy seed compare min_improvement confidence"
    parameters = inspect.signature(train.fn).parameters
    assert list(parameters) == [*names.split(), "must_beat_baseline"]
    assert parameters["task"].default is None
    assert parameters["test_size"].default == 0.25
    assert [*inspect.signature(rollback.fn).parameters][:5] == [
        "project_name", "algorithm_name", "steps", "to_seq", "quarantine"
    ]  # fmt: skip

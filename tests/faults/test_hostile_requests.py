"""Whatever is asked for, of whatever type: a typed error in one line, or what was asked for; nothing is recorded."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import Predictor, queries
from registry.errors import InvalidName
from tasks.parameters import DeployParameters, RollbackParameters, TrainParameters
from tasks.promotion.deploy_request import checked_deploy
from tasks.promotion.manual import deploy
from tasks.training.requests import checked_request
from tasks.validation import check, definitions
from tasks.values import TrainingRequest
from tests.support.hostile import JSON, SCALAR, examples, refused_or
from tests.support.story import Story

TRAIN = {
    "project_name": "churn",
    "task": "classification",
    "relation_name": "sklearn:iris",
    "y_column_name": "target",
    "algorithms": ["linear"],
}
DEPLOY = {
    name: each.default
    for kind in (DeployParameters, RollbackParameters)
    for name, each in definitions(kind).items()
    if name not in ("project_name", "strategy")
}


def some_of(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), JSON, min_size=1, max_size=2)


def test_any_value_for_any_argument_of_a_training(story: Story) -> None:
    story.trained_and_promoted(0.5)
    before = story.history, queries.models("churn")

    @examples(300)
    @given(some_of([*definitions(TrainParameters)]))
    def check(odd: dict[str, Any]) -> None:
        refused_or(lambda: request(odd))

    check()
    assert (story.history, queries.models("churn")) == before


def test_any_space_of_any_search(story: Story) -> None:
    a_range = st.dictionaries(st.sampled_from(["low", "high", "step", "log"]), SCALAR, min_size=2)
    space = st.dictionaries(st.sampled_from(["C", "tol", "max_iter", "penalty"]), JSON | a_range, max_size=3)
    args = st.dictionaries(st.sampled_from(["cv", "n_iter", "n_trials", "timeout"]), SCALAR, max_size=2)

    @examples(300)
    @given(st.sampled_from(["grid", "random", "optuna"]), space | st.fixed_dictionaries({"linear": space}), args)
    def check(search: str, params: dict[str, Any], args: dict[str, Any]) -> None:
        refused_or(lambda: request({"search": search, "search_params": params, "search_args": args}))

    check()


def test_any_value_for_any_argument_of_a_deploy(story: Story) -> None:
    story.trained_and_promoted(0.5)
    story.trained_and_promoted(0.6)
    before = story.history

    @examples(300)
    @given(st.sampled_from(["rollback", "best_score", "specific"]), some_of([*DEPLOY, "project_name", "strategy"]))
    def check(strategy: str, odd: dict[str, Any]) -> None:
        asked = {"project_name": "churn", "strategy": strategy, **DEPLOY, "force": True, "reason": "so", **odd}
        refused_or(lambda: deploy(checked_deploy(**(asked | {"plan": True})), "key"))

    check()
    assert story.history == before


def test_any_name_of_a_project_for_a_predictor(story: Story) -> None:
    @examples(100)
    @given(SCALAR)
    def check(name: Any) -> None:
        refused_or(lambda: Predictor(name))

    check()
    with pytest.raises(InvalidName, match="no database can store"):
        Predictor("half \ud800")


def test_a_predictor_finds_a_project_by_either_spelling_of_its_name(registry_url: str, workspace: Path) -> None:
    Story("\u00e9t\u00e9", folder=workspace).trained_and_promoted(0.5)
    assert Predictor(unicodedata.normalize("NFD", "\u00e9t\u00e9")).model.project_name == "\u00e9t\u00e9"


def request(odd: dict[str, Any]) -> TrainingRequest:
    return checked_request(check(TrainParameters, TRAIN | odd))

"""What is asked for, checked before anything happens."""

import math

import pytest

from registry import queries, session
from registry.errors import (
    BadHyperparameter,
    InvalidInput,
    InvalidName,
    NothingToTrainOn,
    TaskMismatch,
    UnknownProject,
    UnknownValue,
)
from registry.vocabulary import Sampling, Task
from tasks.callers import request_key
from tasks.parameters import TrainParameters
from tasks.training.requests import checked_request
from tasks.validation import check
from tasks.values import TrainingRequest
from tests.support.story import Story


def asked(**changes) -> TrainingRequest:
    arguments = {
        "project_name": "iris",
        "task": "classification",
        "relation_name": "sklearn:iris",
        "y_column_name": "target",
        "algorithms": None,
        "hyperparams": None,
        "search": None,
        "search_params": None,
        "search_args": None,
        "test_size": 0.25,
        "test_sampling": None,
        "preprocess": None,
        "seed": 0,
    }
    return checked_request(check(TrainParameters, arguments | changes))


def test_a_request_outside_of_a_flow_run_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "0" * 32)  # a command that a flow run starts finds it there
    assert request_key() != request_key()


def test_the_defaults() -> None:
    request = asked()
    assert request.algorithms == ("linear", "random_forest", "xgboost")
    assert request.test_sampling is Sampling.STRATIFIED
    assert asked(task="regression").test_sampling is Sampling.RANDOM


def test_what_a_form_leaves_empty_is_not_given() -> None:
    """Prefect's form sends an emptied text as "" or null, and a list without chips as []."""
    optional = ("search", "search_params", "search_args", "hyperparams", "preprocess", "test_sampling", "confidence")
    for empty in ("", None, []):
        assert asked(algorithms=empty, **dict.fromkeys(optional, empty)) == asked()
    with pytest.raises(InvalidInput, match="is new: set its task"):
        asked(task="")
    with pytest.raises(UnknownProject):
        asked(project_name="churn", relation_name="", task="", y_column_name="")


REFUSED = {
    "a blank name": ({"project_name": " "}, InvalidName, "not blank"),
    "no task": ({"task": None}, InvalidInput, "is new: set its task"),
    "an unknown task": ({"task": "clustering"}, UnknownValue, "choose one of regression, classification"),
    "an unknown algorithm": ({"algorithms": ["svn"]}, UnknownValue, "unknown classification algorithm 'svn': .*svm"),
    "the other task's algorithm": ({"algorithms": ["lasso"]}, UnknownValue, "unknown classification algorithm 'lasso'"),
    "one algorithm as text": ({"algorithms": "svm"}, InvalidInput, "algorithms is a list of names, not 'svm'"),
    "an unknown sampling": ({"test_sampling": "first"}, UnknownValue, "choose one of random, stratified, last"),
    "no target": ({"y_column_name": None}, InvalidInput, "y_column_name"),
    "an unknown hyperparameter": (
        {"algorithms": ["svm"], "hyperparams": {"svm": {"c": 1}}},
        BadHyperparameter,
        "svm has no hyperparameter 'c'; it has C,",
    ),
    "an unknown hyperparameter of xgboost": (
        {"hyperparams": {"xgboost": {"max_dept": 3}}},
        BadHyperparameter,
        "xgboost has no hyperparameter 'max_dept'.*max_depth",
    ),
    "a parameter that xgboost's forests refuse when they are created": (
        {
            "algorithms": ["xgboost_random_forest"],
            "hyperparams": {"xgboost_random_forest": {"early_stopping_rounds": 3}},
        },
        BadHyperparameter,
        "hyperparams of 'xgboost_random_forest' are invalid: .*early_stopping_rounds",
    ),
    "hyperparams of an algorithm that is not trained": (
        {"algorithms": ["svm"], "hyperparams": {"knn": {}}},
        BadHyperparameter,
        "'knn', which is not among",
    ),
    "hyperparams that are no dict": (
        {"hyperparams": {"linear": 3}},
        BadHyperparameter,
        r"hyperparams is {algorithm: {parameter: value}}, not {'linear': 3}",
    ),
    "a preprocess that is a list": (
        {"preprocess": [{"x": 1}]},
        InvalidInput,
        "preprocess is {column: {option: value}}",
    ),
    "hyperparams that cannot be kept": (
        {"hyperparams": {"linear": {"C": math.nan}}},
        BadHyperparameter,
        "cannot be written as JSON",
    ),
    "a seed that is none": ({"seed": -1}, InvalidInput, "seed is a whole number"),
    "two targets to classify": ({"y_column_name": ["a", "b"]}, InvalidInput, "are for regression"),
    "a target twice": ({"task": "regression", "y_column_name": ["a", "a"]}, InvalidInput, "names a column twice"),
    "a target that is no name": ({"y_column_name": [3]}, InvalidInput, "is the name of a column"),
    "a value of a wrong type": (
        {"algorithms": ["svm"], "hyperparams": {"svm": {"C": "big"}}},
        BadHyperparameter,
        "hyperparams of 'svm' are invalid: The 'C' parameter",
    ),
    "a value of a wrong type for xgboost": (
        {"hyperparams": {"xgboost": {"max_depth": "deep"}}},
        BadHyperparameter,
        "hyperparams of 'xgboost' are invalid: .*max_depth",
    ),
    "a search that there is not": ({"search": "bayes"}, UnknownValue, "unknown search 'bayes'"),
    "an unknown preprocess option": ({"preprocess": {"x": {"scale": "big"}}}, InvalidInput, "big"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_in_one_line_and_nothing_is_recorded(what: str) -> None:
    changes, error, reason = REFUSED[what]
    with pytest.raises(error, match=reason):
        asked(**changes)
    assert queries.projects() == []


@pytest.mark.parametrize("size", [0, 1.0, 1, -1, 1.5, math.nan, math.inf, "0.2", None, True])
def test_a_test_size_that_is_neither_a_share_nor_a_count(size) -> None:
    with pytest.raises(InvalidInput, match="test_size is a share between 0 and 1 or a count"):
        asked(test_size=size)


class TestTrainingAgain:
    again = {"relation_name": None, "y_column_name": None, "task": None, "project_name": "churn"}

    def test_takes_the_newest_snapshot_as_it_is(self) -> None:
        story = Story()
        newest = story.new_snapshot()
        request = asked(**self.again)
        assert request.snapshot == newest
        assert (request.relation_name, request.y_column_names) == ("sklearn:iris", ("target",))

    @pytest.mark.parametrize(
        "changes", [{"y_column_name": "other"}, {"test_size": 0.5}, {"test_sampling": "last"}, {"test_size": 20}]
    )
    def test_what_disagrees_with_it_is_refused(self, changes) -> None:
        Story()
        with pytest.raises(InvalidInput, match="snapshot 1 of sklearn:iris has"):
            asked(**(self.again | changes))

    def test_another_preprocess_is_honoured_and_the_snapshots_own_holds_without_one(self) -> None:
        Story()
        chosen = {"x": {"scale": "standard"}}
        assert asked(**self.again).preprocess == {}
        assert asked(**(self.again | {"preprocess": chosen})).preprocess == chosen

    def test_what_agrees_may_be_said(self) -> None:
        Story()
        assert asked(**(self.again | {"y_column_name": "target", "test_sampling": "stratified"})).snapshot

    def test_an_unknown_project(self) -> None:
        session.upgrade()
        with pytest.raises(UnknownProject, match="there is no project 'churn'; train one first"):
            asked(**self.again)

    def test_another_task(self) -> None:
        Story()
        with pytest.raises(TaskMismatch):
            asked(project_name="churn", task=Task.REGRESSION)

    def test_nothing_to_train_on(self) -> None:
        from registry.schema import Project
        from registry.session import transaction

        with transaction(write=True) as session:
            session.add(Project(name="churn", task=Task.CLASSIFICATION))
        with pytest.raises(NothingToTrainOn, match="'churn' has no snapshot"):
            asked(**self.again)

"""The closed sets, stored by value, and the key metric of each task."""

from enum import StrEnum
from typing import TypeVar

from registry.errors import UnknownValue


class Task(StrEnum):
    REGRESSION = "regression"
    CLASSIFICATION = "classification"


class Sampling(StrEnum):
    """The choice of test rows: at random, at random with equal class shares, or the newest, from the end."""

    RANDOM = "random"
    STRATIFIED = "stratified"
    LAST = "last"


class Status(StrEnum):
    RUNNING = "running"
    TRAINED = "trained"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"  # its file is gone or about to be deleted; its score stays for the history


class Strategy(StrEnum):
    """The strategy of a deployment; `new_score` is the automatic rule, the others are manual."""

    BEST_SCORE = "best_score"
    MOST_RECENT = "most_recent"
    ROLLBACK = "rollback"
    SPECIFIC = "specific"
    NEW_SCORE = "new_score"


class Compare(StrEnum):
    """The automatic rule compares both models on rows that neither was trained on, or their recorded scores."""

    SAME_ROWS = "same_rows"
    RECORDED = "recorded"


class Basis(StrEnum):
    """The basis of a decision; the last four keep the live model without a comparison."""

    NOTHING_LIVE = "nothing_live"
    QUARANTINED = "quarantined"  # the live model is in quarantine, so any challenger replaces it
    RECORDED = "recorded"
    SAME_ROWS = "same_rows"
    NOT_COMPARABLE = "not_comparable"  # too few rows, a class or a column missing, another target
    UNREACHABLE = "unreachable"  # a file for the comparison could not be read
    UNPROVEN = "unproven"  # the challenger's file does not answer as it did at training
    HELD = "held"  # the challenger is in quarantine


WHY = {
    Strategy.NEW_SCORE: "it beat the model that was live",
    Strategy.BEST_SCORE: "it has the highest key metric of all trained models",
    Strategy.MOST_RECENT: "it is the newest trained model",
    Strategy.ROLLBACK: "it was live before",
    Strategy.SPECIFIC: "it was named",
}
KEY_METRIC = {Task.REGRESSION: "r2", Task.CLASSIFICATION: "f1"}
METRIC_LABEL = {"r2": "R2", "f1": "F1"}
DEFAULT_SAMPLING = {Task.REGRESSION: Sampling.RANDOM, Task.CLASSIFICATION: Sampling.STRATIFIED}


def task_named(value: str) -> Task:
    return _member("task", value, list(Task))


def strategy_named(value: str) -> Strategy:
    """Return a manual strategy. Raises: UnknownValue."""
    return _member("strategy", value, [s for s in Strategy if s is not Strategy.NEW_SCORE])


Kind = TypeVar("Kind", bound=StrEnum)


def _member(what: str, value: str, members: list[Kind]) -> Kind:
    for member in members:
        if member == value:
            return member
    raise UnknownValue(what, value, members)

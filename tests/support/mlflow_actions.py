"""The actions of workers with MLflow; a separate module, because importing it takes seconds."""

from collections.abc import Callable
from importlib import import_module
from random import Random
from typing import Any

import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (both are imported once, not by each worker)

from registry import queries
from registry.errors import NoCandidate
from registry.values import Decision
from tasks.data.snapshots import take_snapshot
from tasks.parameters import TrainParameters
from tasks.promotion import automatic, manual
from tasks.promotion.deploy_request import checked_deploy
from tasks.training.fit import train_one
from tasks.training.requests import checked_request
from tests.support.actions import BY_HAND, one_after_the_other, seq_of
from tests.support.fork_server import killed


def at_work_with_mlflow(number: int, models: list[int]) -> None:
    """Deploy manually, with proof and mirror, until there are enough actions."""
    one_after_the_other(number, lambda key: _action(key, models))


def _action(key: str, models: list[int]) -> dict[str, Any]:
    draw = Random(key)
    strategy = draw.choice(BY_HAND)
    wish = {"model_id": draw.choice(models)} if strategy == "specific" else {}
    try:
        result = manual.deploy(checked_deploy("churn", strategy, **wish), key)
    except NoCandidate:
        return {"model": None, "changed": False, "seq": None, "request_key": key}
    return {"model": result.model_id, "changed": result.changed, "seq": seq_of(key), "request_key": key}


def train(key: str) -> Decision:
    """Train with the steps of the flow."""
    given = TrainParameters("iris", "classification", "sklearn:iris", "target", ["linear"])
    request = checked_request(given)
    begun = take_snapshot.fn(request, key)
    train_one(begun, "linear", threads=1)
    return automatic.promote.fn(begun, queries.run_models("iris", f"{key}:"), automatic_deploy=True)


def train_until(key: str, module: str, step: str) -> None:
    """Train, and crash as soon as the step is done."""
    last_of(module, step)
    train(key)


def deploy_until(key: str, module: str, step: str) -> None:
    last_of(module, step)
    manual.deploy(checked_deploy("churn", "rollback"), key)


def last_of(module: str, step: str) -> None:
    where = import_module(module)
    done: Callable[..., Any] = getattr(where, step)

    def and_no_further(*given: Any, **named: Any) -> None:
        done(*given, **named)
        killed()

    setattr(where, step, and_no_further)

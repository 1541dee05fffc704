"""The actions of the workers in the promises' tests: they train, promote and deploy, and record the results."""

import json
import os
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select

from registry import history, lifecycle, queries
from registry.errors import NoCandidate, RegistryUnavailable
from registry.schema import Deployment
from registry.session import transaction
from registry.vocabulary import Task
from tests.support.story import NO_FILE, Story

ENOUGH = Path("enough")  # a worker that finds it here ends after its action
BY_HAND = ("best_score", "most_recent", "rollback", "specific")
OUTAGE_SECONDS = 120


class Retold(Story):
    """A project that another process created. Pass every key, because this process's own keys are not unique."""

    def __init__(self, project: str) -> None:
        self.project, self.task, self.file = project, Task.CLASSIFICATION, NO_FILE
        self.snapshot = queries.newest_snapshot(project)


def at_work(number: int, models: list[int]) -> None:
    """Train, promote and deploy until there are enough actions."""
    one_after_the_other(number, lambda key: action(key, models))


def one_after_the_other(number: int, action: Callable[[str], dict[str, Any]]) -> None:
    """Repeat the action with new keys. A worker that replaces a killed one begins with the action that was not
    acknowledged: the same request with the same key."""
    log = Path(f"worker-{number}")
    round_number = len(acknowledged(log))
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while not ENOUGH.exists():
        key = f"worker-{number}-{round_number}"
        answer = _through_outages(partial(action, key))
        os.write(file, f"{json.dumps(answer | {'key': key})}\n".encode())  # whole, and the kernel's from here on
        round_number += 1


def acknowledged(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


_retold = cache(Retold)  # once for each worker


def action(key: str, models: list[int]) -> dict[str, Any]:
    """Make a request that is drawn from its key, and return its result; `seq` is that of its deployment."""
    draw, story = Random(key), _retold("churn")
    if draw.random() < 0.4:
        return _by_hand(draw, story, key, models)
    model_id = draw.choice(models)
    if draw.random() < 0.3:
        model = lifecycle.start_model(story.snapshot, draw.choice(["svm", "linear"]), {}, key)
        model_id = story.finish(model.id, round(draw.random(), 2)).id  # two digits: there are ties
    decision = story.promoted(model_id, key)
    where = history.attempt(key, model_id)
    return {"model": model_id, "changed": decision.deployed, "seq": seq_of(where), "request_key": where}


def _by_hand(draw: Random, story: Story, key: str, models: list[int]) -> dict[str, Any]:
    strategy = draw.choice(BY_HAND)
    wish = {"model_id": draw.choice(models)} if strategy == "specific" else {}
    try:
        result = story.deploys(strategy, key=key, **wish)
    except NoCandidate:
        return {"model": None, "changed": False, "seq": None, "request_key": key}
    return {"model": result.model_id, "changed": result.changed, "seq": seq_of(key), "request_key": key}


def seq_of(request_key: str) -> int | None:
    with transaction() as session:
        return session.scalar(select(Deployment.seq).where(Deployment.request_key == request_key))


def _through_outages(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    until = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return action()
        except RegistryUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)

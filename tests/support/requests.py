"""A checked request to train, for tests of a training's steps."""

from typing import Any

from registry.values import Terms
from registry.vocabulary import DEFAULT_SAMPLING, Task
from tasks.values import TrainingRequest


def request(task: Task, **changes: Any) -> TrainingRequest:
    values = {
        "project_name": "p",
        "task": task,
        "relation_name": "files:t.csv",
        "y_column_names": ("y",),
        "algorithms": ("linear",),
        "hyperparams": {},
        "search": None,
        "preprocess": {},
        "test_size": 0.34,
        "test_sampling": DEFAULT_SAMPLING[task],
        "seed": 0,
        "snapshot": None,
        "terms": Terms(),
    }
    return TrainingRequest(**(values | changes))

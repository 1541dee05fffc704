"""Values of every type for every parameter of every algorithm: a typed error, or a fit that ends or gives a reason.

No value makes a process read or write a file.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BadHyperparameter
from registry.timeouts import with_timeout
from registry.vocabulary import Task
from tasks.data.snapshots import freeze
from tasks.estimators.algorithms import ALGORITHMS, FILES, check_parameters, checked_hyperparams
from tasks.estimators.preprocessing import OPTIONS, checked_preprocess
from tasks.parameters import TrainParameters
from tasks.training.fit import fit, one_line
from tasks.validation import check as checked
from tasks.values import Rows
from tests.support.hostile import JSON, SCALAR, examples, refused_or
from tests.support.requests import request

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what the libraries say of odd values

SECONDS = 60
N = 24
CANARY = "k4n4ry"
# None of them is an amount that takes long: how many trees to fit is asked for, and not odd.
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    3,
    0.5,
    -0.5,
    2.0,
    "",
    "auto",
    "svd",
    "l1",
    "../canary",
    [],
    [1],
    [0.5, "a"],
    {},
    {"a": 1},
]
CHOICES = [(task, name) for task in Task for name in ALGORITHMS[task]]


def rows(task: Task) -> Rows:
    import pandas as pd

    draw = np.random.default_rng(0)
    X = pd.DataFrame(draw.normal(size=(2 * N, 2)), columns=["a", "b"])
    y = X["a"].to_numpy() * 2 + 1 if task is Task.REGRESSION else np.where(X["a"] > 0, "yes", "no")
    return Rows(X[:N], y[:N], X[N:], y[N:])


@pytest.fixture
def canary(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file beside the working folder."""
    (workspace / "work").mkdir()
    monkeypatch.chdir(workspace / "work")
    (workspace / "canary").write_text(CANARY)
    return workspace / "canary"


@pytest.mark.parametrize(("task", "name"), CHOICES, ids=[f"{task}-{name}" for task, name in CHOICES])
def test_any_value_of_any_parameter(canary: Path, task: Task, name: str) -> None:
    parameters = sorted(check_parameters(task, name, []))
    learnt, said = rows(task), []

    @examples(6)
    @given(
        st.dictionaries(st.sampled_from(parameters), st.sampled_from([*VALUES, str(canary)]), min_size=1, max_size=2)
    )
    def check(odd: dict[str, Any]) -> None:
        checked = refused_or(lambda: checked_hyperparams(task, [name], {name: odd}))
        if checked is None:
            return
        try:
            wanted = request(task, algorithms=(name,), hyperparams=checked)
            with_timeout(SECONDS, "fit", lambda: fit(wanted, name, learnt, 1))
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a library raises: it is the candidate's reason)
            said.append(one_line(error))

    check()
    assert all(reason.isprintable() and CANARY not in reason for reason in said)
    assert canary.read_text() == CANARY
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("parameter", sorted(FILES["catboost"]))
def test_no_parameter_names_a_file(parameter: str) -> None:
    with pytest.raises(BadHyperparameter, match=f"catboost has no hyperparameter '{parameter}'"):
        checked_hyperparams(Task.REGRESSION, ["catboost"], {"catboost": {parameter: "canary"}})


@pytest.mark.parametrize(
    ("name", "parameter"), [("random_forest", "n_jobs"), ("xgboost", "n_jobs"), ("catboost", "thread_count")]
)
@pytest.mark.parametrize("threads", [10**6, -(10**6), 1e6])
def test_more_threads_than_any_machine_starts(name: str, parameter: str, threads: float) -> None:
    with pytest.raises(BadHyperparameter, match="at most 1,024 threads"):
        checked_hyperparams(Task.REGRESSION, [name], {name: {parameter: threads}})


def test_any_preprocessing(workspace: Path) -> None:
    table = pa.table({
        "x": np.arange(N) * 0.5,
        "word": ["red", "green", None] * (N // 3),
        "day": pa.array(range(N), pa.date32()),
        "y": np.arange(N) * 1.0,
    })  # fmt: skip
    value = st.sampled_from([each for values in OPTIONS.values() for each in values]) | SCALAR | JSON
    choice = st.dictionaries(st.sampled_from([*OPTIONS, "other"]), value, max_size=2) | JSON
    outcomes = {"frozen": 0, "refused": 0}

    @examples(200)
    @given(st.dictionaries(st.sampled_from([*table.column_names, "z"]), choice, max_size=2) | JSON)
    def check(preprocess: Any) -> None:
        def take() -> Any:
            given = checked(TrainParameters, {"project_name": "p", "preprocess": preprocess})
            wanted = request(Task.REGRESSION, preprocess=checked_preprocess(given.preprocess))
            with TemporaryDirectory() as folder:
                return freeze(table, wanted, Path(folder))

        outcomes["refused" if refused_or(take) is None else "frozen"] += 1

    check()
    assert min(outcomes.values()) > 0, outcomes

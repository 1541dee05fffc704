"""Candidates that run at once share the cores instead of fighting for them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pandas as pd
import pytest
from joblib import effective_n_jobs
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from registry.vocabulary import Task
from tasks.estimators.pipeline import new_pipeline
from tasks.training import threads as threads_module
from tasks.training.threads import cores_shared, limited, threads_each
from tasks.values import MlflowRun, Rows, Training
from tests.support.limits import threads
from tests.support.requests import request


@pytest.fixture(autouse=True)
def libraries_with_three_threads():
    """More than one, however few cores there are, so that a limit shows."""
    HistGradientBoostingClassifier(max_iter=1).fit(np.arange(20).reshape(-1, 1), np.arange(20) % 2)  # loads OpenMP
    with threadpool_limits(3):
        yield


@pytest.mark.parametrize(("cores", "candidates", "each"), [(2, 4, 1), (2, 1, 2), (8, 3, 2), (1, 5, 1), (8, 8, 1)])
def test_candidates_times_threads_make_the_cores(monkeypatch: pytest.MonkeyPatch, cores, candidates, each) -> None:
    monkeypatch.setattr(threads_module, "cpu_count", lambda: cores)
    many = request(Task.REGRESSION, algorithms=tuple("abcdefgh"[:candidates]))
    assert threads_each(Training(many, "key", 1, MlflowRun("", "", "", {}), one_by_one=False)) == each
    assert threads_each(Training(many, "key", 1, MlflowRun("", "", "", {}), one_by_one=True)) == cores


def test_a_fit_has_its_share_and_gives_it_back() -> None:
    with cores_shared(1), limited(1):
        assert threads("blas") == threads("openmp") == {1}
        assert effective_n_jobs(None) == 1
    assert threads("blas") == threads("openmp") == {3}


@pytest.mark.parametrize(("name", "limit"), [("lightgbm", "n_jobs"), ("catboost", "thread_count")])
def test_what_ignores_the_limits_is_told_its_share(name: str, limit: str) -> None:
    rows = Rows(pd.DataFrame({"x": range(40)}), np.arange(40.0), pd.DataFrame({"x": range(4)}), np.arange(4.0))
    asked = request(Task.REGRESSION)
    assert new_pipeline(asked, name, {}, rows, threads=2)[0]["model"].get_params()[limit] == 2
    assert new_pipeline(asked, name, {limit: 1}, rows, threads=2)[0]["model"].get_params()[limit] == 1


def test_a_candidate_that_is_done_does_not_unleash_the_others() -> None:
    both_inside, first_left = Barrier(2), Barrier(2)

    def first() -> None:
        with limited(1):
            both_inside.wait(10)
        first_left.wait(10)

    def second() -> list[set[int]]:
        with limited(1):
            both_inside.wait(10)
            first_left.wait(10)
            return [threads("blas"), threads("openmp")]

    with cores_shared(1), ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        assert other.result(20) == [{1}, {1}]
        one.result(20)
    assert threads("blas") == {3}

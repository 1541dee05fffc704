"""Code that tests plant in a candidate's process, which monkeypatching the test's own process does not reach.

A test puts one of these in place of `fit.train_alone`; the process imports it from here, and runs it.
"""

import json
import os
import signal
from pathlib import Path
from typing import NoReturn

from threadpoolctl import threadpool_limits

from tasks.estimators import algorithms, plots
from tasks.training import fit
from tasks.values import Outcome, Training
from tests.support.limits import Limits

train_alone = fit.train_alone


def with_limits(training: Training, algorithm: str, threads: int) -> Outcome:
    """An estimator of the tests, which writes its thread limits to a file in the working folder."""
    algorithms.REGRESSION[algorithm] = "tests.support.limits.Limits"
    try:
        with threadpool_limits(3):  # more than one even on one core, so that a limit is visible
            return train_alone(training, algorithm, threads)
    finally:
        seen = [[sorted(blas), sorted(openmp), jobs] for blas, openmp, jobs in Limits.seen]
        Path(f"{algorithm}.json").write_text(json.dumps(seen))


def with_plots_that_raise(training: Training, algorithm: str, threads: int) -> Outcome:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("no such colour")

    plots.model_plots = fail
    return train_alone(training, algorithm, threads)


def with_plots_that_crash(training: Training, algorithm: str, threads: int) -> Outcome:
    plots.model_plots = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
    return train_alone(training, algorithm, threads)

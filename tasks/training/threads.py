"""Share the machine's cores between candidates that run at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import cpu_count, parallel_config
from threadpoolctl import threadpool_limits

from tasks.values import Training


def threads_each(training: Training) -> int:
    """Return the number of threads for each candidate, so that all candidates together use every core."""
    cores, at_once = workers(), 1 if training.one_by_one else len(training.request.algorithms)
    return max(1, cores // min(cores, at_once))


def workers() -> int:
    """Return the number of candidates that run at once: the cores that this process may use, also in a container."""
    return int(cpu_count())


@contextmanager
def cores_shared(threads: int) -> Iterator[None]:
    """Limit BLAS, which has one limit for the process; the thread that waits for the candidates sets it."""
    import scipy.linalg  # noqa: F401  (slow; only a BLAS that is loaded can be limited)

    with threadpool_limits(threads, user_api="blas"):
        yield


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit OpenMP (scikit-learn's trees, xgboost) and joblib, which have a limit for each thread."""
    with threadpool_limits(threads, user_api="openmp"), parallel_config(backend="threading", n_jobs=threads):
        yield

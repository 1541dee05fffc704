"""How the machine's cores are shared by candidates that run at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import cpu_count

from tasks.values import Training


def threads_each(training: Training) -> int:
    """Candidates that run at once times their threads make the machine's cores."""
    cores, at_once = workers(), 1 if training.one_by_one else len(training.request.algorithms)
    return max(1, cores // min(cores, at_once))


def workers() -> int:
    """How many candidates run at once: the cores that this process may use, in a container too."""
    return int(cpu_count())


@contextmanager
def cores_shared(threads: int) -> Iterator[None]:
    """BLAS has one limit for the whole process: the thread that waits for the candidates holds it, not theirs."""
    import scipy.linalg  # noqa: F401  (only a BLAS that is loaded can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        yield


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """OpenMP (scikit-learn's trees, xgboost) and joblib have limits that are this thread's alone."""
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="openmp"), parallel_config(backend="threading", n_jobs=threads):
        yield

"""Processes for candidates, forked from a command that has imported everything and has no thread yet.

Threads share one interpreter's lock, which drawing, saving and logging hold. A fork takes 20 ms, where a new process
imports for four seconds; but a fork of a process with threads can hang, so all are made before Prefect begins any.
Where none was made (another system than Linux, the Python API, a Prefect worker's run), candidates are the flow's own
threads.
"""

import gc
import logging
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from itertools import pairwise
from logging.handlers import QueueHandler
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from queue import Empty, LifoQueue
from threading import Lock, Thread, active_count
from time import sleep
from typing import Any, NamedTuple, TypeVar, cast

from registry.artifacts import bound_mlflow
from registry.errors import FrontrunnerError

log = logging.getLogger("frontrunner")

# What is imported where it is needed, and so would be in every process.
NEEDED = (
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.tracking.sqlalchemy_store",
    "prefect.flow_engine",
    "prefect.task_engine",
    "tasks.plots",
    "tasks.preprocessing",
    "tasks.scoring",
    "xgboost",
)

Result = TypeVar("Result")


class ProcessLost(FrontrunnerError):
    """The process of a call ended before the call did."""


class Worker(NamedTuple):
    process: ForkProcess
    calls: "Connection[Any, Any]"

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """What the function returns or raises there; then the process is free again.

        Its log records are handled in this thread.

        Raises:
            ProcessLost: the process was killed, or crashed.
        """
        try:
            self.calls.send((function, args))
            while (said := self.calls.recv())[0] == "log":
                if log.isEnabledFor(said[1].levelno):
                    log.handle(said[1])
        except (EOFError, OSError):
            self.process.join()
            raise ProcessLost(f"its process {how_it_ended(self.process.exitcode or 0)}") from None
        _idle.put(self)
        kind, value = said
        if kind == "error":
            raise _linked(value)
        return cast("Result", value)


_idle: LifoQueue[Worker] = LifoQueue()  # the last one used is used again: it has read what there is to read


def preload() -> None:
    """Imports what a training needs, once for all of its processes."""
    bound_mlflow()
    with _NotInstalled("cupy", "dask", "pytest", "torch"):
        import_module("skops.io")  # before all: it looks for some 800 functions in every module that there is by then
    for module in NEEDED:
        import_module(module)


class _NotInstalled(MetaPathFinder):
    """As if packages were not, for skops, which has scikit-learn look for estimators in all of its modules: some would
    import these, which takes up to seconds. Who needs them imports them later.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, name: str, *_: Any) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"not needed: {name}", name=name)

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)


def begin(count: int) -> None:
    """Makes processes, which wait for a call and end with this one. They have what this one has imported."""
    if sys.platform != "linux" or active_count() > 1:
        return
    context = get_context("fork")
    with forking():
        kept = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in them: by it multiprocessing ends them, and waits
        try:
            for _ in range(count):
                ours, its = context.Pipe()
                process = context.Process(target=_serve, args=(its,), daemon=True)
                process.start()
                its.close()  # so that the end of the process is the end of the connection
                _idle.put(Worker(process, ours))
        finally:
            signal.signal(signal.SIGTERM, kept)


@contextmanager
def forking() -> Iterator[None]:
    """Without Python's warning of threads: it counts OpenBLAS's, too, which a fork makes anew."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*use of fork.*may lead to deadlocks", DeprecationWarning)
        yield


def free() -> Worker | None:
    """One that waits, to be called once."""
    with suppress(Empty):
        return _idle.get_nowait()
    return None


def are_there() -> bool:
    return not _idle.empty()


def how_it_ended(code: int) -> str:
    """A process, by its exit code."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return how + (": the machine may have no memory left" if code == -signal.SIGKILL else "")


def end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone; for a thread, begun with that one's id."""
    while os.getppid() == parent:
        sleep(0.5)
    os._exit(1)


def _serve(calls: "Connection[Any, Any]") -> None:
    gc.freeze()  # what was imported is no garbage: each collection would look through all of it, and copy it
    os.setpgid(0, 0)  # Ctrl-C and the end of a terminal are for the command, with which this process ends
    Thread(target=_end_with_parent, daemon=True).start()
    sending = Lock()  # a library may warn in a thread of its own

    def send(kind: str, said: Any) -> None:
        with sending:
            calls.send((kind, said))

    log.handlers = [_Sender(send)]
    while True:
        try:
            function, args = calls.recv()
        except EOFError:
            return
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001  (it is raised where the call was made)
            send("error", _chain(error))
        else:
            send("result", result)


class _Sender(QueueHandler):
    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(send)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue("log", record)  # type: ignore[operator]


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes; pickle keeps no cause. The traceback is a note, as it is shown."""
    error.add_note("In its own process:\n" + "".join(traceback.format_exception(error)).rstrip())
    chain: list[BaseException] = []
    each: BaseException | None = error
    while each is not None:
        chain.append(_portable(each))
        each = each.__cause__
    return chain


def _portable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
    except Exception:  # noqa: BLE001  (whatever an error of a library does)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _linked(chain: list[BaseException]) -> BaseException:
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]

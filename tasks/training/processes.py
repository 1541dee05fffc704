"""Processes for candidates, forked from a command that has imported what it needs and has no thread yet.

Threads share one interpreter's lock, which drawing, saving and logging hold. A fork takes 20 ms, where a new process
imports for four seconds; but a fork of a process with threads can hang, so it is made before Prefect begins any. This
first one is the parent of the others: it imports what else candidates need, while the command goes on, and forks them.
Where none was made (another system than Linux, the Python API, a Prefect worker's run), candidates are the flow's own
threads.
"""

import ctypes
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
from contextvars import ContextVar
from importlib import import_module
from importlib.abc import MetaPathFinder
from itertools import pairwise
from logging.handlers import QueueHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from queue import Empty, LifoQueue
from threading import Lock, active_count
from time import sleep
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeVar, cast

from registry.errors import FrontrunnerError
from registry.serving.artifacts import bound_mlflow

log = logging.getLogger("frontrunner")

# What is imported where it is needed, and so would be in every process: of a command, and of its candidates alone.
NEEDED = (
    "scipy.special",  # early: skops looks for its functions, some 400, in one module after the other
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.tracking.sqlalchemy_store",
    "prefect.flow_engine",
    "prefect.task_engine",
    "tasks.estimators.preprocessing",
    "tasks.estimators.scoring",
    "xgboost",
)
FOR_CANDIDATES = (
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "tasks.estimators.plots",
)

PR_SET_PDEATHSIG = 1
MINDED = (signal.SIGTERM, signal.SIGCHLD)  # by the parent of the processes

candidate_at_work: ContextVar[str] = ContextVar("candidate_at_work", default="")  # in this thread, by its algorithm
Pipe: TypeAlias = "tuple[Connection[Any, Any], Connection[Any, Any]]"  # the command's end, and theirs
Result = TypeVar("Result")


class ProcessLost(FrontrunnerError):
    """The process of a call ended before the call did."""


class Worker(NamedTuple):
    calls: "Connection[Any, Any]"
    ended: "Connection[Any, Any]"  # tells how it ended
    parent: ForkProcess

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
            raise ProcessLost(f"its process {self._how_it_ended()}") from None
        _idle.put(self)
        kind, value = said
        if kind == "error":
            raise _linked(value)
        return cast("Result", value)

    def _how_it_ended(self) -> str:
        with suppress(EOFError, OSError):
            return str(self.ended.recv())
        with _joining:
            self.parent.join()  # with which it ended
        return how_it_ended(self.parent.exitcode or 0)


_idle: LifoQueue[Worker] = LifoQueue()  # the last one used is used again: it has read what there is to read
_joining = Lock()  # of two threads that wait for one process one is told nothing


def preload() -> None:
    """Imports what a training needs, once for all of its processes."""
    bound_mlflow()
    for module in NEEDED:
        import_module(module)
    with _NotInstalled("cupy", "dask", "pytest", "torch"):
        import_module("skops.io")


def preload_for_candidates() -> None:
    """Imports what their processes need besides."""
    for module in FOR_CANDIDATES:
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
    """Makes processes that wait for a call, and end with this one. They have what this one has imported, and more."""
    if sys.platform != "linux" or active_count() > 1:
        return
    context = get_context("fork")
    calls, ends = [context.Pipe() for _ in range(count)], [context.Pipe(duplex=False) for _ in range(count)]
    parent = context.Process(target=_fork, args=(calls, ends, os.getpid()), daemon=True)
    with forking():
        kept = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in them: by it multiprocessing ends them, and waits
        try:
            parent.start()
        finally:
            signal.signal(signal.SIGTERM, kept)
    for (call, its), (ended, telling) in zip(calls, ends, strict=True):
        its.close()  # so that the end of a process is the end of its connections
        telling.close()
        _idle.put(Worker(call, ended, parent))


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


def _fork(calls: list[Pipe], ends: list[Pipe], command: int) -> None:
    """What their parent does: it tells how each of them ended, and ends none without the others."""
    end_with_parent(command, by=signal.SIGTERM)
    gc.disable()
    os.setpgid(0, 0)  # Ctrl-C and the end of a terminal are for the command, with which all of these end
    for of_the_command, _ in (*calls, *ends):
        of_the_command.close()
    with suppress(Exception):  # who needs it imports it again, and says what is wrong
        preload_for_candidates()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was ignored, the system would wait for them
    signal.pthread_sigmask(signal.SIG_BLOCK, MINDED)
    parent, running = os.getpid(), {}
    for (_, call), (_, telling) in zip(calls, ends, strict=True):
        try:
            with forking():
                pid = os.fork()
        except OSError as error:
            telling.send(f"could not be begun: {error.strerror}")
        else:
            if not pid:
                _be_a_worker(call, parent, {its for _, its in (*calls, *ends)} - {call})
            running[pid] = telling
        call.close()
    _mind(running)


def _mind(running: "dict[int, Connection[Any, Any]]") -> None:
    """Until all of them have ended, or this process is asked to end: each is told of through its connection."""
    while running and signal.sigwait(MINDED) == signal.SIGCHLD:
        for pid in tuple(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):  # the command ends
                    running.pop(pid).send(how_it_ended(os.waitstatus_to_exitcode(status)))
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    for pid in running:
        os.waitpid(pid, 0)  # in a container nobody else may
    if running:
        sys.exit(128 + signal.SIGTERM)


def _be_a_worker(call: "Connection[Any, Any]", parent: int, others: "set[Connection[Any, Any]]") -> NoReturn:
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, MINDED)
        end_with_parent(parent, by=signal.SIGKILL)
        for each in others:
            each.close()
        _serve(call)
        code = 0
    except SystemExit as end:  # a library's
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001  (it must not go on as another parent)
        traceback.print_exc()
    finally:
        os._exit(code)


def end_with_parent(parent: int, *, by: signal.Signals) -> None:
    """Has the system send this process a signal when the one that forked it is gone. Linux alone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


def _serve(calls: "Connection[Any, Any]") -> None:
    gc.freeze()  # what was imported is no garbage: each collection would look through all of it, and copy it
    gc.enable()
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
            send("error", _with_causes(error))
        else:
            send("result", result)


class _Sender(QueueHandler):
    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(send)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue("log", record)  # type: ignore[operator]


def _with_causes(error: BaseException) -> list[BaseException]:
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

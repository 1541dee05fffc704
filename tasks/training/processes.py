"""Run a function in a process of its own, forked by a server that has already imported what candidates need.

This is multiprocessing's fork server: a process without threads that imports `PRELOADED` once and is forked for every
candidate, so that a candidate starts at once and may be killed without harm to the others. It works the same way for a
command, a worker's run and a notebook, on Linux and on macOS.
"""

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from logging.handlers import QueueHandler
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Lock, Thread
from types import ModuleType
from typing import Any, TypeVar, cast

from registry.errors import FrontrunnerError

log = logging.getLogger("frontrunner")

# The heavy modules of a candidate. None of them starts a thread when it is imported, and none is Prefect's.
PRELOADED = [
    "tasks.training.fit",
    "xgboost",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "pyarrow.parquet",
    "skops.io",
    "tasks.estimators.plots",
    "tasks.estimators.preprocessing",
    "tasks.estimators.scoring",
    "matplotlib.backends.backend_agg",
]
EXIT_SECONDS = 10  # for a process that has closed its connection

context = multiprocessing.get_context("forkserver")
Result = TypeVar("Result")
_bookkeeping = Lock()  # two threads that ask multiprocessing for one exit code at once get it once


class ProcessLost(FrontrunnerError):
    """The process of a call ended before the call did."""


def start_server() -> None:
    """Start the fork server, if it is not running; its imports go on while the caller continues."""
    with _bookkeeping:
        _ensure_server()


def call(name: str, function: Callable[..., Result], *args: Any) -> Result:
    """Return or raise what the function does in a process with this name, whose log records are handled in this thread.

    Raises:
        ProcessLost: the process was killed, or crashed.
    """
    process, connection = _start(name, function, args)
    try:
        with connection:
            kind, value = _receive(connection)
    except BaseException:
        process.kill()
        raise
    finally:
        code = _exit_code(process)
    if kind == "error":
        raise _linked(value)
    if kind == "lost":
        raise ProcessLost(f"its process {how_it_ended(code)}")
    return cast("Result", value)


def kill(prefix: str) -> None:
    """Kill the processes whose names begin with the prefix; their calls raise ProcessLost."""
    with _bookkeeping:
        for process in multiprocessing.active_children():
            if process.name.startswith(prefix):
                process.kill()


def how_it_ended(code: int) -> str:
    """Describe the end of a process by its exit code."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return how + (": the machine may have no memory left" if code == -signal.SIGKILL else "")


def _start(name: str, function: Callable[..., Any], args: Any) -> tuple[BaseProcess, "Connection[Any, Any]"]:
    ours, theirs = context.Pipe(duplex=False)
    level = log.getEffectiveLevel()
    process = context.Process(
        target=_work, args=(theirs, dict(os.environ), level, function, args), name=name, daemon=True
    )
    with theirs, _bookkeeping:
        _ensure_server()
        with _without_main():
            process.start()
    return process, ours


def _ensure_server() -> None:
    resource_tracker.ensure_running()  # before the mask: it would undo that
    context.set_forkserver_preload(PRELOADED)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for the caller alone
    try:
        with _without_main(), _safe_path():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide `__main__`, which multiprocessing would import in the new process: a script would run a second time."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep the fork server from importing a `tasks` of the working directory instead of ours."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _receive(connection: "Connection[Any, Any]") -> tuple[str, Any]:
    """Handle log records until the outcome arrives: a result, an error, or "lost"."""
    with suppress(EOFError, OSError):
        while True:
            kind, value = connection.recv()
            if kind != "log":
                return kind, value
            if log.isEnabledFor(value.levelno):
                log.handle(value)
    return "lost", None


def _exit_code(process: BaseProcess) -> int:
    """Wait for the end of a process, which is near."""
    if not wait([process.sentinel], EXIT_SECONDS):
        process.kill()
    with _bookkeeping:
        process.join()
    return process.exitcode or 0


def _work(
    connection: "Connection[Any, Any]", env: dict[str, str], level: int, function: Callable[..., Any], args: Any
) -> None:
    """The life of a new process: the environment of the call, one function, one answer."""
    gc.freeze()  # what the server imported is no garbage: a collection would look through all of it, and copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(env)
    send = _sender(connection)
    _report_to(send, level)
    try:
        result = function(*args)
    except Exception as error:  # noqa: BLE001  (it is raised where the call was made)
        send("error", _with_causes(error))
    else:
        send("result", result)
    os._exit(0)  # to take apart what was imported takes longer than some fits


def _end_with_parent() -> None:
    """End this process when the one that called is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sender(connection: "Connection[Any, Any]") -> Callable[[str, Any], None]:
    lock = Lock()  # a library may log in a thread of its own

    def send(kind: str, value: Any) -> None:
        with lock:
            connection.send((kind, value))

    return send


def _report_to(send: Callable[[str, Any], None], level: int) -> None:
    """Send log records and warnings to the caller; a warning carries the name of the candidate."""
    who = multiprocessing.current_process().name.rpartition(":")[2]

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        log.warning("%s: %s: %s", who, category.__name__, str(message).strip().split("\n", 1)[0].rstrip(":"))

    log.handlers, log.propagate = [_RecordSender(send)], False
    log.setLevel(level)
    warnings.showwarning = show


class _RecordSender(QueueHandler):
    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(send)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue("log", record)  # type: ignore[operator]


def _with_causes(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, which pickle would drop. The traceback becomes a note, as it is shown."""
    error.add_note("In its own process:\n" + "".join(traceback.format_exception(error)).rstrip())
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    return [_portable(each) for each in chain]


def _portable(error: BaseException) -> BaseException:
    error.__cause__ = error.__context__ = error.__traceback__ = None  # where tblib is at work, pickle would send them
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
    except Exception:  # noqa: BLE001  (whatever an error of a library does)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _linked(chain: list[BaseException]) -> BaseException:
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]

"""Time limits for work that may hang, such as calls to a store or a server."""

import atexit
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

_abandoned: list[Thread] = []
_exit_code: list[int] = []


def with_timeout(seconds: float, name: str, work: Callable[[], Result]) -> Result:
    """Return or raise what `work` does. After `seconds`, abandon its thread. Raises: TimeoutError."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  (it is raised in the waiting thread)
            done.set_exception(error)

    thread = Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    try:
        return done.result(seconds)
    except TimeoutError:
        _abandoned.append(thread)
        raise


def exit_process(code: int | str | None) -> NoReturn:
    """End the process without waiting for abandoned threads or for threads that these have started."""
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(bool(code)))
    if code is None or isinstance(code, int):
        _exit_code.append(code or 0)
    sys.exit(code)


def skip_teardown() -> None:
    """Make `exit_process` skip Python's slow teardown of modules once every thread has ended and all output is written.

    Call this before the imports: exit handlers run in reverse order, so those that libraries register still run.
    """
    atexit.register(_end)


def _end() -> None:
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        if _exit_code:
            os._exit(_exit_code[0])

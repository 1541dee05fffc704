"""Work that may hang (a store, a server), for which nobody waits longer than a limit."""

import atexit
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from threading import Thread, main_thread
from threading import enumerate as enumerate_threads
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

_left_behind: list[Thread] = []
_code: list[int] = []  # with which the process ends


def with_timeout(seconds: float, name: str, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises; a thread that takes longer is left behind.

    Raises:
        TimeoutError: it has not ended after `seconds`.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  (it is raised where the result is waited for)
            done.set_exception(error)

    thread = Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    try:
        return done.result(seconds)
    except TimeoutError:
        _left_behind.append(thread)
        raise


def abandon_threads() -> None:
    """The threads that work by now are not waited for when the process ends; daemons never are."""
    _left_behind.extend(each for each in enumerate_threads() if not each.daemon and each is not main_thread())


def exit_process(code: int | str | None) -> NoReturn:
    """Ends the process; threads that were left behind, and those that they began, are not waited for."""
    if any(thread.is_alive() for thread in _left_behind):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(bool(code)))
    if code is None or isinstance(code, int):
        _code.append(code or 0)
    sys.exit(code)


def skip_teardown() -> None:
    """Has `leave` end the process when all has been said and every thread has ended: to take apart what a training has
    imported would take another second. To be called before anything is imported that has something to do at the end.
    """
    atexit.register(_end)


def _end() -> None:
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        if _code:
            os._exit(_code[0])

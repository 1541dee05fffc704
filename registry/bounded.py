"""Work that may hang (a store, a server), for which nobody waits longer than a limit."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, name: str, work: Callable[[], Result]) -> Result:
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

    Thread(target=run, name=name, daemon=True).start()
    return done.result(seconds)

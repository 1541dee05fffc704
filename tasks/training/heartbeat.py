"""The life of a run's candidates: signs of it while they are trained, and what is left when the run is cancelled."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import TracebackType
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner

from registry import lifecycle
from registry.errors import FrontrunnerError
from registry.timeouts import abandon_threads
from tasks.tracking import runs
from tasks.training.candidates import one_line
from tasks.values import Training

log = logging.getLogger("frontrunner")

BEAT_SECONDS = 15
CANCELLATIONS = (
    KeyboardInterrupt,
    TerminationSignal,
)  # how Ctrl-C and SIGTERM, by which Prefect cancels a run, come in


class CandidateRunner(ThreadPoolTaskRunner[Any]):
    """Threads, for which nobody waits when the run is cancelled: a fit may take hours."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(exc_value, CANCELLATIONS) and self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None  # as the base class leaves it
            abandon_threads()
        super().__exit__(exc_type, exc_value, traceback)


@contextmanager
def keep_alive(training: Training) -> Iterator[None]:
    """While this run's candidates are trained, wherever: their heartbeat. If the run ends first, they are recorded as
    cancelled.
    """
    stop = Event()
    beats = Thread(target=_beat, args=(training.key, stop), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield
    except (*CANCELLATIONS, Exception) as error:
        _record_cancelled(training, error)
        raise
    finally:
        stop.set()


def _beat(key: str, stop: Event) -> None:
    told = False
    while not stop.wait(BEAT_SECONDS):
        try:
            lifecycle.beat(f"{key}:")
        except FrontrunnerError as error:
            if not told:
                log.warning("the heartbeat of the candidates could not be written: %s", error)
            told = True


def _record_cancelled(training: Training, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        by = "Ctrl-C"
    elif isinstance(error, TerminationSignal):
        by = "SIGTERM, as a cancelled flow run gets it"
    else:
        by = one_line(error)
    log.warning("the training ends, and what it has not trained by now is given up")
    try:
        lifecycle.cancel_models(f"{training.key}:", f"the training was ended by {by}")
    except FrontrunnerError as trouble:
        log.warning("`frontrunner reconcile` will have to record what was being trained: %s", trouble)
    runs.end_abandoned(training.run)

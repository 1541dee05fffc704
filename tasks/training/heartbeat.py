"""Heartbeats of a run's candidates while they are trained, and the end of those that a cancelled run leaves behind."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from prefect.exceptions import TerminationSignal

from registry import lifecycle
from registry.errors import FrontrunnerError
from tasks.tracking import runs
from tasks.training import processes
from tasks.training.fit import one_line
from tasks.values import Training

log = logging.getLogger("frontrunner")

BEAT_SECONDS = 15


@contextmanager
def keep_alive(training: Training) -> Iterator[None]:
    """Send heartbeats while this run's candidates are trained, wherever that is. If the run ends first, they are
    recorded as cancelled, and their processes are killed.
    """
    stop = Event()
    beats = Thread(target=_beat, args=(training.key, stop), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield
    except BaseException as error:
        try:
            _record_cancelled(training, error)  # first: a lost process would be recorded as a failure
        finally:
            processes.kill(f"{training.key}:")
        runs.end_abandoned(training.run)
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

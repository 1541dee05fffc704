"""The process that announces a deployment and continues after the command has ended."""

import time
from pathlib import Path

SECONDS = 120


def announced(folder: Path, times: int = 1) -> str:
    """Return what the announcements of this folder logged, once `times` of them are done."""
    log, until = folder / ".frontrunner" / "announce.log", time.monotonic() + SECONDS
    while not log.exists() or log.read_text().count("was announced") < times:
        assert time.monotonic() < until, log.read_text() if log.exists() else f"{log} was never written"
        time.sleep(0.2)
    return log.read_text()

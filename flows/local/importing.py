"""Garbage collection is switched off while heavy libraries are imported: they make none, and each look takes time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Import without garbage collection; later collections do not look at what was imported either."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()

"""Work that may hang, for which nobody waits longer than a limit: neither the caller nor the end of the process."""

import subprocess
import sys
from time import monotonic

import pytest

from registry.timeouts import with_timeout

HANGING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from registry.timeouts import exit_process as leave, with_timeout as within

def hang():
    with ThreadPoolExecutor() as pool:  # whose threads Python would wait for at the end
        pool.submit(time.sleep, 60).result()

try:
    within(0.2, "hanging", hang)
except TimeoutError:
    print("it took too long")
leave(3)
"""


def test_what_it_returns_and_what_it_raises() -> None:
    assert with_timeout(5, "work", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        with_timeout(5, "work", lambda: 1 / 0)


def test_a_process_ends_without_waiting_for_it() -> None:
    started = monotonic()
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (3, "it took too long\n", "")
    assert monotonic() - started < 30


ENDING = """
import atexit, sys
from registry.timeouts import skip_teardown as end_at_once, exit_process as leave

class Taken:
    def __del__(self):
        print("taken apart")

end_at_once()
atexit.register(print, "last words")
kept = Taken()
kept.itself = kept
leave({code!r})
"""


@pytest.mark.parametrize(("code", "ended", "told"), [(0, 0, ""), (3, 3, ""), (None, 0, ""), ("why", 1, "why\n")])
def test_a_process_ends_when_all_is_said(code: int | str | None, ended: int, told: str) -> None:
    """What its libraries have to do at the end is done, but nothing is taken apart."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(code=code)], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stderr) == (ended, told)
    assert done.stdout.startswith("last words\n")
    assert ("taken apart" in done.stdout) == isinstance(code, str)

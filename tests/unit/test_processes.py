"""Processes for candidates, as a command has them: forked before there is any thread."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from registry.errors import CandidateFailed, RegistryUnavailable, TrackingUnavailable

ROOT = Path(__file__).parents[2]


class Unsendable(Exception):
    """As a library's: it cannot be made from its own arguments."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def fail(kind: str) -> None:
    """Some of what a candidate may raise."""
    try:
        if kind == "unsendable":
            raise Unsendable(1, 2)  # noqa: TRY301
        raise TrackingUnavailable("MLflow is away")  # noqa: TRY301
    except Exception as error:
        raise CandidateFailed(kind) from error


def say(text: str) -> int:
    logging.getLogger("frontrunner").info("%s", text)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def plots() -> tuple[bool, bool]:
    """Whether they are imported here, and matplotlib's library where this process was forked from."""
    return "tasks.estimators.plots" in sys.modules, "_backend_agg" in Path(f"/proc/{os.getppid()}/maps").read_text()


def script(text: str) -> subprocess.Popen[str]:
    """A process without threads; what it prints at the end is what it found, as JSON."""
    head = """
import json, os, threading, time, warnings
from tasks import processes
from tests.unit import test_processes as t
warnings.filterwarnings("ignore", ".*Any type hint is inferred", UserWarning)  # MLflow says it of itself
"""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(text)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def found(text: str) -> dict[str, object]:
    process = script(text)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(out.splitlines()[-1])
    return answer


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere candidates are threads")


def test_calls_go_to_processes_that_are_used_again() -> None:
    answer = found("""
        processes.begin(2)
        one, two = processes.free(), processes.free()
        none = processes.free() is None
        pids = [each.call(os.getpid) for each in (one, two)]
        again = processes.free().call(os.getpid)
        print(json.dumps({"pids": [*pids, os.getpid()], "none": none, "again": pids.index(again)}))
    """)
    assert len(set(answer["pids"])) == 3
    assert answer["none"]
    assert answer["again"] == 1, "the last one used"


def test_a_fork_of_a_process_with_threads_can_hang_so_there_is_none() -> None:
    answer = found("""
        from threading import Event, Thread
        Thread(target=Event().wait, daemon=True).start()
        processes.begin(2)
        print(json.dumps({"there": processes.are_there()}))
    """)
    assert answer == {"there": False}


def test_what_no_training_needs_is_not_imported_because_it_is_there() -> None:
    answer = found("""
        import sys, warnings
        warnings.simplefilter("ignore")  # of what MLflow says of itself when it is imported
        unneeded = {"dask", "_pytest.python"}
        there = unneeded & sys.modules.keys()  # this file imports pytest
        for name in [name for name in sys.modules if name.partition(".")[0] in ("pytest", "_pytest")]:
            del sys.modules[name]
        processes.preload()
        loaded = sorted(unneeded & sys.modules.keys())
        import dask.array, pytest  # afterwards they can be
        print(json.dumps({"there": sorted(there), "loaded": loaded}))
    """)
    assert answer == {"there": ["_pytest.python"], "loaded": []}


def test_the_log_is_handled_in_the_thread_that_called() -> None:
    answer = found("""
        import logging
        from threading import Thread, current_thread
        records = []
        class Handler(logging.Handler):
            def emit(self, record):
                records.append([record.getMessage(), current_thread().name])
        log = logging.getLogger("frontrunner")
        log.addHandler(Handler())
        log.setLevel(logging.INFO)
        processes.begin(1)
        thread = Thread(target=lambda: processes.free().call(t.say, "100 %"), name="a task's")
        thread.start()
        thread.join()
        print(json.dumps({"records": records}))
    """)
    assert answer == {"records": [["100 %", "a task's"]]}


def test_an_error_comes_with_its_causes_and_its_traceback() -> None:
    """By the causes Prefect's retries are decided."""
    answer = found("""
        def chain(kind):
            try:
                processes.free().call(t.fail, kind)
            except Exception as error:
                return [type(error).__name__, str(error), type(error.__cause__).__name__, str(error.__cause__),
                        error.__notes__]
        processes.begin(1)
        print(json.dumps({kind: chain(kind) for kind in ("away", "unsendable")}))
    """)
    *away, notes = answer["away"]
    assert away == ["CandidateFailed", "away", "TrackingUnavailable", "MLflow is away"]
    assert "in fail" in notes[0]
    *unsendable, _ = answer["unsendable"]
    assert unsendable == ["CandidateFailed", "unsendable", "RuntimeError", "Unsendable: 1 and 2"]


def test_a_command_that_ends_leaves_none_for_others_to_wait_for() -> None:
    """In a container process 1 may be one that waits for nobody, and what ended would be there for ever."""
    answer = found("""
        import ctypes, signal
        processes.begin(2)
        both = [processes.free(), processes.free()]
        pids = [each.call(os.getpid) for each in both]
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: whom nobody waited for comes to this process
        both[0].parent.terminate()
        both[0].parent.join()
        print(json.dumps({"left": [pid for pid in pids if os.path.exists(f"/proc/{pid}")]}))
    """)
    assert answer == {"left": []}


@pytest.mark.parametrize("place", [0, 1])
def test_one_that_is_killed_fails_its_call_alone(place: int) -> None:
    answer = found(f"""
        processes.begin(2)
        both = [processes.free(), processes.free()]
        lost, other = both[{place}], both[{1 - place}]
        try:
            lost.call(t.die)
        except processes.ProcessLost as error:
            said = str(error)
        print(json.dumps({{"said": said, "there": processes.are_there(), "other": other.call(abs, -1)}}))
    """)
    assert answer == {
        "said": "its process was killed by SIGKILL: the machine may have no memory left",
        "there": False,
        "other": 1,
    }


def test_a_library_that_ends_the_process_fails_its_call_alone() -> None:
    answer = found("""
        import sys
        said = []
        processes.begin(2)
        for _ in range(2):
            try:
                processes.free().call(sys.exit, 3)
            except processes.ProcessLost as error:
                said.append(str(error))
        print(json.dumps({"said": said}))
    """)
    assert answer == {"said": ["its process ended with 3"] * 2}


def test_without_their_parent_none_goes_on() -> None:
    """Calls of several threads, as a training makes them; also when it is killed during its imports."""
    answer = found("""
        from concurrent.futures import ThreadPoolExecutor
        said = set()
        def call(each):
            try:
                each.call(time.sleep, 60)
            except processes.ProcessLost as error:
                said.add(str(error))
        for seconds in (0, 0.02, 0.1, 3):
            processes.begin(4)
            four = [processes.free() for _ in range(4)]
            with ThreadPoolExecutor(4) as pool:
                calls = pool.map(call, four)
                time.sleep(seconds)
                os.kill(four[0].parent.pid, 9)
                list(calls)
            while len(threading.enumerate()) > 1:
                time.sleep(0.01)
        print(json.dumps({"said": sorted(said)}))
    """)
    assert answer == {"said": ["its process was killed by SIGKILL: the machine may have no memory left"]}


def test_what_candidates_alone_need_is_imported_beside_the_command_once() -> None:
    answer = found("""
        import sys
        processes.begin(2)
        both = [processes.free(), processes.free()]
        print(json.dumps({"theirs": [each.call(t.plots) for each in both], "ours": "tasks.estimators.plots" in sys.modules}))
    """)
    assert answer == {"theirs": [[True, True]] * 2, "ours": False}


def test_what_cannot_be_imported_is_said_by_who_needs_it() -> None:
    answer = found("""
        processes.FOR_CANDIDATES = ("which_is_not_there",)
        processes.begin(1)
        print(json.dumps({"answer": processes.free().call(abs, -1)}))
    """)
    assert answer == {"answer": 1}


def test_a_command_that_ends_while_they_are_forked_ends() -> None:
    answer = found("""
        import random
        processes.FOR_CANDIDATES = ()
        codes = set()
        for _ in range(40):
            processes.begin(3)
            three = [processes.free() for _ in range(3)]
            time.sleep(random.uniform(0, 0.02))
            three[0].parent.terminate()
            three[0].parent.join(20)
            codes.add(three[0].parent.exitcode)
        print(json.dumps({"codes": sorted(codes, key=str)}))
    """)
    assert set(answer["codes"]) <= {-15, 143}, "no None: that one goes on"


def test_where_ended_children_were_ignored_one_that_is_killed_is_told_of() -> None:
    answer = found("""
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        processes.begin(2)
        try:
            processes.free().call(t.die)
        except processes.ProcessLost as error:
            print(json.dumps({"said": str(error)}))
    """)
    assert answer == {"said": "its process was killed by SIGKILL: the machine may have no memory left"}


def test_nothing_that_is_imported_begins_a_thread() -> None:
    """From a process with threads nothing is forked: candidates would be the command's threads, and slow."""
    answer = found("""
        from threading import enumerate
        processes.preload()
        processes.preload_for_candidates()
        import flows.train
        print(json.dumps({"threads": [each.name for each in enumerate()]}))
    """)
    assert answer == {"threads": ["MainThread"]}


def test_they_end_with_their_command_even_when_that_is_killed() -> None:
    process = script("""
        from threading import Thread
        processes.begin(3)
        Thread(target=lambda: processes.free().call(time.sleep, 600), daemon=True).start()
        processes.free().call(abs, -1)
        print("begun", flush=True)
        input()
    """)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.5)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1 + 3
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []


def test_every_error_of_ours_can_be_sent() -> None:
    import pickle

    from registry import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 20
    for kind in kinds:
        error = kind.__new__(kind, "as it was said")
        error.extra = 1
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.extra) == (kind, "as it was said", 1)
    assert isinstance(pickle.loads(pickle.dumps(RegistryUnavailable("away"))), RegistryUnavailable)


def test_they_end_where_sigterm_was_ignored_when_the_command_began() -> None:
    """By SIGTERM multiprocessing ends them, and then it waits."""
    answer = found("""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.begin(2)
        print(json.dumps({"there": processes.are_there()}))
    """)
    assert answer == {"there": True}

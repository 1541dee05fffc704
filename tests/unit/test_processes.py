"""Processes for candidates: multiprocessing's fork server, which has imported what they need."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread, current_thread

import psutil
import pytest

from registry.errors import CandidateFailed, RegistryUnavailable, TrackingUnavailable
from tasks.training import processes
from tasks.training.processes import ProcessLost, call

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
import os
from pathlib import Path
from tasks.training import processes

with Path("runs").open("a") as file:
    file.write("once\\n")
print(json.dumps([os.getpid(), processes.call("key:svm", os.getpid)]), flush=True)
"""


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


def log_text(text: str) -> int:
    logging.getLogger("frontrunner").info("%s", text)
    return os.getpid()


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def surroundings() -> tuple[str, str | None, str | None]:
    return str(Path.cwd()), os.environ.get("REGISTRY_URL"), os.environ.get("PYTHONSAFEPATH")


def loaded() -> dict[str, bool]:
    return {name: name in sys.modules for name in (*processes.PRELOADED, "prefect")}


def touch_and_sleep(path: str) -> None:
    Path(path).touch()
    time.sleep(600)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def script(text: str, folder: Path) -> subprocess.Popen[str]:
    """A program in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_calls_of_several_threads_each_have_a_process() -> None:
    with ThreadPoolExecutor(8) as pool:
        pids = list(pool.map(lambda number: call(f"key:{number}", os.getpid), range(24)))
    assert len({*pids, os.getpid()}) == 25


def test_a_process_has_the_environment_and_the_folder_of_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("key:svm", os.getpid)  # the server has the environment of this moment
    monkeypatch.setenv("REGISTRY_URL", "postgresql://another")
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    assert call("key:svm", surroundings) == (str(tmp_path / "another"), "postgresql://another", None)


def test_the_server_has_imported_what_candidates_need_and_not_prefect() -> None:
    assert call("key:svm", loaded) == dict.fromkeys(processes.PRELOADED, True) | {"prefect": False}


def test_nothing_that_the_server_imports_starts_a_thread() -> None:
    """A fork of a process with threads can hang."""
    text = f"""
        import importlib, threading
        for name in {processes.PRELOADED!r}:
            importlib.import_module(name)
        print([thread.name for thread in threading.enumerate()])
    """
    out, _ = script(text, ROOT).communicate(timeout=60)
    assert out == "['MainThread']\n"


def test_log_records_are_handled_in_the_thread_that_called() -> None:
    records: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append((record.getMessage(), current_thread().name))

    log, handler = logging.getLogger("frontrunner"), Handler()
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        thread = Thread(target=lambda: call("key:svm", log_text, "100 %"), name="a task's")
        thread.start()
        thread.join()
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    assert records == [("100 %", "a task's")]


def test_a_warning_carries_the_candidates_name(caplog: pytest.LogCaptureFixture) -> None:
    call("key:svm", warn, "it did not converge:\nmore")
    assert caplog.messages == ["svm: UserWarning: it did not converge"]


def test_an_error_comes_with_its_causes_and_its_traceback() -> None:
    """By the causes Prefect's retries are decided."""
    with pytest.raises(CandidateFailed, match="away") as caught:
        call("key:svm", fail, "away")
    cause = caught.value.__cause__
    assert (type(cause), str(cause)) == (TrackingUnavailable, "MLflow is away")
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(CandidateFailed, match="unsendable") as caught:
        call("key:svm", fail, "unsendable")
    cause = caught.value.__cause__
    assert (type(cause), str(cause)) == (RuntimeError, "Unsendable: 1 and 2")


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (end_by, signal.SIGKILL, "was killed by SIGKILL: the machine may have no memory left"),
        (end_by, signal.SIGSEGV, "was killed by SIGSEGV"),
        (end_by, signal.SIGTERM, "was killed by SIGTERM"),
        (os._exit, 3, "ended with 3"),
        (sys.exit, 4, "ended with 4"),
        (os._exit, 0, "ended with 0"),
    ],
)
def test_one_that_is_lost_fails_its_call_alone(function: Callable[[int], None], argument: int, reason: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(call, f"key:{number}", time.sleep, 0.3) for number in range(3)]
        with pytest.raises(ProcessLost) as caught:
            call("key:svm", function, argument)
        assert [other.result(60) for other in others] == [None] * 3
    assert str(caught.value) == f"its process {reason}"


def test_what_is_killed_is_of_one_run_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(call, "one:svm", touch_and_sleep, str(tmp_path / "one"))
        other = pool.submit(call, "other:svm", touch_and_sleep, str(tmp_path / "other"))
        for name in ("one", "other"):
            wait_for(tmp_path / name)
        processes.kill("one:")
        with pytest.raises(ProcessLost, match="SIGKILL"):
            one.result(20)
        assert not other.done()
        processes.kill("other:")
        with pytest.raises(ProcessLost, match="SIGKILL"):
            other.result(20)
    assert multiprocessing.active_children() == []


def test_an_interrupted_call_leaves_no_process(tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_for(tmp_path / "begun")
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        call("key:svm", touch_and_sleep, str(tmp_path / "begun"))
    assert multiprocessing.active_children() == []


def test_a_server_that_was_killed_is_started_again() -> None:
    server = call("key:svm", os.getppid)
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)  # so that multiprocessing finds it dead
    assert call("key:svm", os.getppid) != server


def test_ctrl_c_is_for_the_caller_alone(tmp_path: Path) -> None:
    """A terminal sends it to every process, also while the server still imports."""
    process = script(
        """
        import os, signal, time
        from tasks.training import processes
        processes.start_server()
        time.sleep(0.3)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.killpg(0, signal.SIGINT)
        print(processes.call("key:svm", time.strftime, "as ever"), flush=True)
        from threading import Timer
        Timer(0.5, os.killpg, (0, signal.SIGINT)).start()
        print(processes.call("key:svm", time.sleep, 1), flush=True)
        """,
        tmp_path,
    )
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("as ever\nNone\n", 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_its_caller_however_that_ends(tmp_path: Path, number: int) -> None:
    process = script(
        """
        from threading import Thread
        from tests.unit import test_processes
        from tasks.training import processes
        processes.call("key:svm", test_processes.touch_and_sleep, "begun")
        """,
        tmp_path,
    )
    with process:
        wait_for(tmp_path / "begun")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2, "the server and the call's"
        process.send_signal(number)
        assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.parametrize("way", ["script", "-c", "stdin", "module"])
def test_the_callers_own_program_is_not_run_again(tmp_path: Path, way: str) -> None:
    """A program that trains needs no `if __name__ == "__main__"`."""
    (tmp_path / "program.py").write_text(SCRIPT)
    given = {"script": ["program.py"], "-c": ["-c", SCRIPT], "stdin": ["-"], "module": ["-m", "program"]}[way]
    done = subprocess.run(
        [sys.executable, *given],
        input=SCRIPT if way == "stdin" else None,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    ours, its = json.loads(done.stdout)
    assert ours != its
    assert (tmp_path / "runs").read_text() == "once\n"


def test_a_package_of_the_working_folder_does_not_stand_in_for_ours(tmp_path: Path) -> None:
    program, folder = tmp_path / "bin" / "program.py", tmp_path / "folder"
    for package in ("tasks", "registry", "flows"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise SystemExit('another')")
    program.parent.mkdir()
    program.write_text(SCRIPT)
    done = subprocess.run([sys.executable, program], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert len(set(json.loads(done.stdout))) == 2


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

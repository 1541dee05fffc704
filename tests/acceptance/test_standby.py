"""`frontrunner up` keeps a process that stands by: a training in its folder is forked from it, and is as any other."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from registry import queries
from registry.vocabulary import Status
from tests.support.up import FRONTRUNNER, READY, Up, folder, up

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing stands by")]

IRIS = ("--task", "classification", "--relation-name", "sklearn:iris", "--y-column-name", "target")
ENDLESS = (*IRIS, "--algorithms", "gradient_boosting_trees", "--hyperparams",
           json.dumps({"gradient_boosting_trees": {"n_estimators": 1_000_000}}))  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(folder(tmp_path_factory.mktemp("standby") / "here")) as started:
        started.wait_for(READY)
        until(lambda: socket(started).exists())
        yield started


@pytest.fixture(autouse=True)
def there(running: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `up` runs, with the settings that a terminal there has."""
    monkeypatch.chdir(running.folder)
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def socket(running: Up) -> Path:
    return running.folder / ".frontrunner" / "standby.sock"


def until(condition: Callable[[], object], log: str = "") -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, log
        time.sleep(0.1)


def command(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FRONTRUNNER, "train", *arguments],
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def standing_by(running: Up) -> list[psutil.Process]:
    return [each for each in psutil.process_iter() if running._ours(each).endswith("-m flows.standby_server")
                 and not running._ours(each.parent()).endswith("-m flows.standby_server")]  # fmt: skip


def forks(running: Up) -> list[psutil.Process]:
    [standby] = standing_by(running)
    return standby.children()


def begun(running: Up, project: str) -> psutil.Process:
    """The fork that trains it, once it does."""
    until(lambda: queries.find_project(project) and queries.models(project) and forks(running))
    [fork] = forks(running)
    return fork


def status(project: str) -> Status:
    [model] = queries.models(project)
    return model.status


def test_it_is_for_its_owner_alone(running: Up) -> None:
    mode = socket(running).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o077 == 0


def test_a_training_is_forked_and_ends_as_any_other(running: Up) -> None:
    process = command("forked", *IRIS, "--algorithms", "knn,ridge", "--json")
    forked = begun(running, "forked")
    out, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "knn: F1 " in log
    assert not forked.is_running()
    assert {row["algorithm"] for row in json.loads(out)["leaderboard"]} == {"knn", "ridge"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nope", "--algorithms", "svn"), 1, "error: there is no project 'nope'"),
        (("nope", "--test-size", "many"), 2, "Invalid value for '--test-size'"),
    ],
)
def test_its_exit_code_and_its_errors(arguments: tuple[str, ...], code: int, said: str) -> None:
    process = command(*arguments)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code
    assert said in log
    assert "runs by itself" not in log
    assert "Traceback" not in log


def test_it_has_the_commands_settings_and_umask(running: Up, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    umask = os.umask(0o022)
    try:
        process = command("elsewhere", *IRIS, "--algorithms", "knn", REGISTRY_URL=f"sqlite:///{other}")
    finally:
        os.umask(umask)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "runs by itself" not in log
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    assert not queries.find_project("elsewhere")


def test_ctrl_c_is_passed_on_and_recorded(running: Up) -> None:
    process = command("interrupted", *ENDLESS)
    begun(running, "interrupted")
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert status("interrupted") is Status.CANCELLED


def test_a_command_that_is_killed_takes_its_fork_with_it(running: Up) -> None:
    process = command("killed", *ENDLESS)
    fork = begun(running, "killed")
    family = [fork, *fork.children(recursive=True)]
    process.kill()
    process.communicate()
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert status("killed") is Status.RUNNING, "as of any process that was killed"


def test_what_libraries_read_when_they_are_imported_has_to_be_the_same(running: Up) -> None:
    process = command("nope", OMP_NUM_THREADS="3")
    _, log = process.communicate(timeout=60)
    assert "runs by itself: `frontrunner up` differs in OMP_NUM_THREADS" in log
    assert "error: there is no project 'nope'" in log


def test_a_signal_that_it_was_told_to_ignore_stays_ignored(running: Up) -> None:
    """As by nohup."""
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command("ignoring", *ENDLESS)
    finally:
        signal.signal(signal.SIGHUP, kept)
    fork = begun(running, "ignoring")
    process.send_signal(signal.SIGHUP)
    fork.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    assert status("ignoring") is Status.RUNNING
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert status("ignoring") is Status.CANCELLED


def test_it_has_as_many_cores_as_its_command(running: Up) -> None:
    fewer = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    process = subprocess.Popen([*fewer, FRONTRUNNER, "train", "nope"], stderr=subprocess.PIPE, text=True)
    _, log = process.communicate(timeout=60)
    assert "runs by itself: `frontrunner up` differs in cores, niceness or limits" in log


def test_it_keeps_no_descriptor_of_those_who_went_away(running: Up) -> None:
    from array import array
    from socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET
    from socket import socket as Socket  # noqa: N812

    [standby] = standing_by(running)
    before = standby.num_fds()
    for _ in range(20):
        with Socket(AF_UNIX) as gone:
            gone.connect(os.path.relpath(socket(running)))
            gone.sendmsg([(100).to_bytes(8, "big")], [(SOL_SOCKET, SCM_RIGHTS, array("i", [0, 1, 2]))])
    command("nope").communicate(timeout=60)  # answered after all of them
    until(lambda: standby.num_fds() <= before)


def test_who_says_nothing_or_nonsense_holds_up_nobody(running: Up) -> None:
    from socket import AF_UNIX
    from socket import socket as Socket  # noqa: N812

    with Socket(AF_UNIX) as nonsense, Socket(AF_UNIX) as silent:
        nonsense.connect(os.path.relpath(socket(running)))
        nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent.connect(os.path.relpath(socket(running)))
        silent.close()
        process = command("nope")
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1, log


def test_the_end_of_up_ends_the_trainings_and_records_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with up(folder(tmp_path / "here")) as started:
        monkeypatch.chdir(started.folder)
        started.wait_for(READY)
        until(lambda: socket(started).exists())
        process = command("ended", *ENDLESS)
        begun(started, "ended")
        started.press_ctrl_c()
        _, log = process.communicate(timeout=60)
        assert process.returncode == 143, log
        assert started.gone() == []
    assert status("ended") is Status.CANCELLED
    assert not socket(started).exists()


def test_up_goes_on_without_it_and_so_do_commands(running: Up) -> None:
    """The last test here: nothing stands by any more."""
    process = command("orphaned", *ENDLESS)
    fork = begun(running, "orphaned")
    fork.parent().kill()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 143, log
    until(lambda: status("orphaned") is not Status.RUNNING, log)
    assert status("orphaned") is Status.CANCELLED, log
    process = command("nope")
    _, log = process.communicate(timeout=60)
    assert "error: there is no project 'nope'" in log
    assert running.process.poll() is None
    assert "standby stopped" in running.log.read_text()

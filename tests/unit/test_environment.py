"""`.frontrunner/up.env`: for its owner alone, and by it commands find an `up` that runs."""

import stat
import subprocess
from pathlib import Path

import pytest

from flows.local import environment
from registry.errors import AlreadyUp

VALUES = {
    "FRONTRUNNER_PASSWORD": "it's a $secret",
    "FRONTRUNNER_URL": "http://127.0.0.1:8000",
    "PREFECT_API_URL": "http://127.0.0.1:4200/api",
}


def test_a_shell_and_we_read_what_was_written(workspace: Path) -> None:
    with environment.lock_folder():
        environment.write(VALUES)
    assert environment.read() == VALUES
    script = 'set -aeu; . .frontrunner/up.env; printf %s "$FRONTRUNNER_PASSWORD"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == "it's a $secret"
    assert stat.S_IMODE((workspace / ".frontrunner" / "up.env").stat().st_mode) == 0o600


def test_it_counts_only_while_one_runs(workspace: Path) -> None:
    assert environment.of_running() == {}
    with environment.lock_folder():
        environment.write(VALUES)
        assert environment.of_running() == {"PREFECT_API_URL": VALUES["PREFECT_API_URL"]}
        with (
            pytest.raises(AlreadyUp, match=r"http://127.0.0.1:8000, http://127.0.0.1:4200/api"),
            environment.lock_folder(),
        ):
            pass
    assert environment.of_running() == {}


@pytest.mark.parametrize("text", ["", "PREFECT_API_URL", "FRONTRUNNER_PASSWORD='no end", "# nothing\n"])
def test_a_damaged_file_is_as_if_it_were_not_there(workspace: Path, text: str) -> None:
    with environment.lock_folder():
        (workspace / ".frontrunner" / "up.env").write_text(text)
        assert environment.read() == environment.of_running() == {}

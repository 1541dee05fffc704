"""The Prefect server that a command starts for itself: only where none is named, and never longer than the command."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.local import prefect_server
from registry.errors import PrefectUnavailable
from registry.settings import TEMPORARY_PREFECT
from tests.support.processes import die_with_parent

ROOT = Path(__file__).parents[2]
URL = "http://prefect.example.org/api"


@pytest.fixture
def home(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prefect's, in which nothing is set."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(workspace / "prefect"))
    (workspace / "prefect").mkdir()
    return workspace / "prefect"


class TestWhereNoneIsNamed:
    def test_nothing_is_set(self, home: Path) -> None:
        assert not prefect_server._is_named()

    def test_by_the_environment(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_API_URL", URL)
        assert prefect_server._is_named()
        assert prefect_server.begin() is None

    def test_by_the_active_profile_alone(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        profiles = f'active = "ephemeral"\n[profiles.ephemeral]\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'
        (home / "profiles.toml").write_text(profiles)
        assert not prefect_server._is_named()
        monkeypatch.setenv("PREFECT_PROFILE", "team")
        assert prefect_server._is_named()

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            (".env", f"PREFECT_API_URL={URL}"),
            (".env", f"# a comment\nexport prefect_api_url = {URL}"),
            ("prefect.toml", f'[api]\nurl = "{URL}"'),
            ("prefect.toml", f'api.url = "{URL}"'),
            ("pyproject.toml", f'[tool.prefect.api]\nurl = "{URL}"'),
        ],
    )
    def test_by_a_file_of_the_folder(self, home: Path, file: str, text: str) -> None:
        Path(file).write_text(text)
        assert get_settings_of_a_new_process() == URL  # Prefect honours it
        assert prefect_server._is_named()

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            (".env", f"# PREFECT_API_URL={URL}\nPREFECT_LOGGING_LEVEL=DEBUG"),
            ("prefect.toml", '[logging]\nlevel = "DEBUG"'),
            ("pyproject.toml", '[project]\ndependencies = ["prefect"]'),
        ],
    )
    def test_not_by_a_file_that_names_none(self, home: Path, file: str, text: str) -> None:
        Path(file).write_text(text)
        assert get_settings_of_a_new_process() == "None"
        assert not prefect_server._is_named()


def get_settings_of_a_new_process() -> str:
    code = "from prefect.settings import get_current_settings; print(get_current_settings().api.url)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_one_that_fails_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "no address of a database")
    for name in ("PREFECT_API_URL", TEMPORARY_PREFECT):
        monkeypatch.setenv(name, "")  # and restore it after the server has set it
    server = prefect_server.TemporaryServer()
    try:
        with pytest.raises(PrefectUnavailable, match="the temporary server failed: .*Could not parse SQLAlchemy URL"):
            server.wait()
    finally:
        server._end()


@pytest.mark.slow
def test_it_ends_with_its_command_even_when_that_is_killed(home: Path) -> None:
    code = "from flows.local.prefect_server import begin; begin().wait(); print('up', flush=True); input()"
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes at that time)
    )
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"up\n"
        (server,) = psutil.Process(command.pid).children()
        command.send_signal(signal.SIGKILL)
        server.wait(30)

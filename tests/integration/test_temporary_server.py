"""The Prefect server that a command starts for itself: only where none is named, and never longer than the command."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.local import prefect_server
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
            ("prefect.toml", f'[api]\nurl = "{URL}"'),
            ("pyproject.toml", f'[tool.prefect.api]\nurl = "{URL}"'),
        ],
    )
    def test_by_a_file_of_the_folder(self, home: Path, file: str, text: str) -> None:
        Path(file).write_text(text)
        assert prefect_server._is_named()


@pytest.mark.parametrize(
    ("url", "without"), [("http://127.0.0.1:4200/api", True), (URL, False), (URL.replace("http:", "https:"), False)]
)
def test_certificates_are_read_but_for_a_server_of_this_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str, without: bool
) -> None:
    code = (
        "import os, ssl; from flows.cli import main; main.set_defaults(); path = os.environ.get('PREFECT_API_SSL_CERT_FILE');"
        "print(path and len(ssl.create_default_context(cafile=path).get_ca_certs()))"
    )
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.delenv("PREFECT_API_SSL_CERT_FILE", raising=False)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"{1 if without else None}\n"


@pytest.mark.slow
def test_it_ends_with_its_command_even_when_that_is_killed(home: Path) -> None:
    code = "from flows.local.prefect_server import begin; begin().wait(); print('up', flush=True); input()"
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes meanwhile)
    )
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"up\n"
        (server,) = psutil.Process(command.pid).children()
        command.send_signal(signal.SIGKILL)
        server.wait(30)

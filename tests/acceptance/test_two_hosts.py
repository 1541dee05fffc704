"""docs/teams.md, done: its files and commands, on two hosts that share nothing but addresses and credentials."""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.hosts import Host, two_hosts, without
from tests.support.postgres import postgres_server, system_binaries
from tests.support.processes import answers, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "teams.md").read_text()
SECRETS = {name: secrets.token_hex(12) for name in sorted(set(re.findall(r"<(\w+)>", PAGE)))}
BLOCKS = "".join(re.findall(r"```\w+\n((?:#|--) .*?)```", PAGE, re.DOTALL))
_, *_parts = re.split(r"^(?:#|--) (\w+\.\w+)$", BLOCKS, flags=re.MULTILINE)
FILES = dict(zip(_parts[::2], _parts[1::2], strict=True))
FOLDERS = ("servers", "worker", "app")


@dataclass(frozen=True)
class Team:
    """Where the page's files are: a folder for the servers, for a worker, and for an application on its host."""

    folder: Path
    hosts: dict[str, Host]
    postgres: str

    def env(self, file: str) -> dict[str, str]:
        """What the page says and a HOME, of what else is set nothing."""
        folder = self.folder / ("servers" if file in ("prefect.env", "mlflow.env", "users.env") else file[:-4])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        lines = self.text(file).split()
        return {"PATH": path, "HOME": str(folder), **dict(line.split("=", 1) for line in lines)}

    def text(self, file: str) -> str:
        filled = re.sub(r"<(\w+)>", lambda match: SECRETS[match[1]], FILES[file])
        return filled.replace("servers.example.org", self.hosts["servers"].address)

    def command(self, where: str, *command: str) -> list[str]:
        others = [self.folder / other for other in FOLDERS if other != where]
        return without(others, ["env", "--chdir", str(self.folder / where), *command])

    def run(
        self, where: str, *command: str, given: str = "", **changes: str | None
    ) -> subprocess.CompletedProcess[str]:
        file = {"servers": "users.env"}.get(where, f"{where}.env")
        env = {name: value for name, value in (self.env(file) | changes).items() if value is not None}
        with self.hosts[where].inside():
            return subprocess.run(
                self.command(where, *command),
                env=env, input=given, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip

    def done(self, where: str, *command: str, given: str = "") -> str:
        ended = self.run(where, *command, given=given)
        assert ended.returncode == 0, f"{command}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        return ended.stdout


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The servers and a worker, as the page says."""
    folder = tmp_path_factory.mktemp("team")
    for name in FOLDERS:
        (folder / name).mkdir()
    with ExitStack() as stack:
        a, b = stack.enter_context(two_hosts())
        binaries = system_binaries()
        assert binaries, "Prefect's database wants pg_trgm: install PostgreSQL (Debian's package postgresql)"
        with a.inside():
            team = Team(
                folder,
                {"servers": a, "worker": b, "app": b},
                stack.enter_context(postgres_server(a.address, binaries)),
            )
            _make_databases(team, binaries)
            (folder / "servers" / "basic_auth.ini").write_text(team.text("basic_auth.ini"))
            for server, health in (("prefect", f"{a.address}:4200/api/health"), ("mlflow", f"{a.address}:5000/health")):
                stack.enter_context(
                    running(
                        team.command("servers", *shlex.split(team.text(f"{server}.sh"))),
                        lambda health=health: answers(f"http://{health}"),
                        folder / "servers" / f"{server}.log",
                        env=team.env(f"{server}.env"),
                    )
                )
        team.done("servers", "python", "-c", team.text("users.py"))
        tracked = subprocess.run(
            ["git", "archive", "HEAD", "flows", "tasks", "registry", "prefect.yaml", "pyproject.toml"],
            cwd=ROOT, check=True, capture_output=True,
        ).stdout  # fmt: skip
        subprocess.run(["tar", "-x", "-C", folder / "worker"], input=tracked, check=True)
        *once, start = map(shlex.split, FILES["worker.sh"].strip().splitlines())
        for command in once:
            team.done("worker", *command)
        log = folder / "worker" / "worker.log"
        with b.inside():
            worker = running(
                team.command("worker", *start),
                lambda: re.search("Worker .* started", log.read_text()) is not None,
                log,
                env=team.env("worker.env"),
            )
            stack.enter_context(worker)
        yield team


def _make_databases(team: Team, binaries: Path) -> None:
    url = team.postgres.format(database="postgres").replace("+psycopg", "")
    psql = [binaries / "psql", "--quiet", "--set=ON_ERROR_STOP=1", url]
    subprocess.run(psql, input=team.text("databases.sql"), text=True, check=True)


@pytest.fixture(scope="module")
def ran(team: Team) -> dict[str, str]:
    """Two trainings, a deploy, a rollback and a batch of predictions through the worker; what was printed."""

    def run(name: str, *parameters: str) -> str:
        given = [part for parameter in parameters for part in ("--param", parameter)]
        out = team.done("worker", "prefect", "deployment", "run", f"{name}/{name}", "--watch", *given)
        assert "Completed" in out
        return out

    first = ("task=classification", "relation_name=sklearn:digits", "y_column_name=target")
    return {
        "train": run("train", "project_name=digits", 'algorithms=["ada_boost"]', *first),
        "again": run("train", "project_name=digits", 'algorithms=["knn"]'),
        "deploy": run("deploy", "project_name=digits", "strategy=most_recent", "algorithm_name=ada_boost"),
        "rollback": run("rollback", "project_name=digits"),
        "predict": run("predict", "project_name=digits", "relation_name=sklearn:digits", "output=files:scored.parquet"),
    }


def test_what_went_live(team: Team, ran: dict[str, str]) -> None:
    rows = json.loads(team.done("worker", "frontrunner", "history", "digits", "--json"))
    assert [(row["seq"], row["strategy"], row["algorithm_name"]) for row in rows] == [
        (4, "rollback", "knn"),
        (3, "most_recent", "ada_boost"),
        (2, "new_score", "knn"),
        (1, "new_score", "ada_boost"),
    ]

"""docs/teams.md, done: its files and commands, on two hosts that share nothing but addresses and credentials."""

import base64
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from tests.support.hosts import Host, lacking, two_hosts, without
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
    binaries: Path

    def env(self, file: str) -> dict[str, str]:
        """What the page says and a HOME, of what else is set nothing."""
        folder = self.folder / ("servers" if file in ("prefect.env", "mlflow.env", "users.env") else file[:-4])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        lines = self.text(file).split()
        return {"PATH": path, "HOME": str(folder), **dict(line.split("=", 1) for line in lines)}

    def text(self, file: str) -> str:
        return self.filled(FILES[file])

    def filled(self, text: str) -> str:
        filled = re.sub(r"<(\w+)>", lambda match: SECRETS[match[1]], text)
        return filled.replace("servers.example.org", self.hosts["servers"].address)

    def command(self, where: str, *command: str) -> list[str]:
        others = [self.folder / other for other in FOLDERS if other != where]
        return without(others, ["env", "--chdir", str(self.folder / where), *command])

    def run(
        self, where: str, *command: str, given: str = "", **changes: str | None
    ) -> subprocess.CompletedProcess[str]:
        file = {"servers": "users.env"}.get(where, f"{where}.env")
        with self.hosts[where].inside():
            return subprocess.run(
                self.command(where, *command),
                env=self.env(file) | changes, input=given, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip

    def done(self, where: str, *command: str, given: str = "") -> str:
        ended = self.run(where, *command, given=given)
        assert ended.returncode == 0, f"{command}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        return ended.stdout

    def registry(self) -> psycopg.Connection:
        return psycopg.connect(self.postgres.format(database="registry").replace("+psycopg", ""))

    def mlflow(self, path: str) -> dict[str, Any]:
        given = base64.b64encode(f"app:{SECRETS['app']}".encode()).decode()
        url = f"http://{self.hosts['servers'].address}:5000/api/2.0/mlflow/{path}"
        with self.hosts["app"].inside(), urlopen(Request(url, headers={"Authorization": f"Basic {given}"})) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The servers and a worker, as the page says."""
    folder = tmp_path_factory.mktemp("team")
    for name in FOLDERS:
        (folder / name).mkdir()
    with ExitStack() as stack:
        a, b = stack.enter_context(two_hosts())
        binaries = system_binaries() or lacking("PostgreSQL with pg_trgm, for Prefect (Debian's package postgresql)")
        with a.inside():
            team = Team(
                folder,
                {"servers": a, "worker": b, "app": b},
                stack.enter_context(postgres_server(a.address, binaries)),
                binaries,
            )
            _make_databases(team)
            (folder / "servers" / "basic_auth.ini").touch(0o600)
            (folder / "servers" / "basic_auth.ini").write_text(team.text("basic_auth.ini"))
            *servers, users = map(shlex.split, team.text("servers.sh").strip().splitlines())
            ready = {"prefect": f"http://{a.address}:4200/api/health", "mlflow": f"http://{a.address}:5000/health"}
            for command in servers:
                server = running(
                    team.command("servers", *command),
                    lambda url=ready[command[0]]: answers(url),
                    folder / "servers" / f"{command[0]}.log",
                    env=team.env(f"{command[0]}.env"),
                )
                stack.enter_context(server)
        team.done("servers", *users)
        for code in ("flows", "tasks", "registry"):
            shutil.copytree(ROOT / code, folder / "worker" / code, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", folder / "worker")
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


def _make_databases(team: Team) -> None:
    url = team.postgres.format(database="postgres").replace("+psycopg", "")
    psql = [team.binaries / "psql", "--quiet", "--set=ON_ERROR_STOP=1", url]
    subprocess.run(psql, input=team.text("databases.sql"), text=True, check=True)


@pytest.fixture(scope="module")
def ran(team: Team) -> dict[str, str]:
    """Two trainings, a deploy, a rollback and a batch of predictions through the worker; what was printed."""

    def run(name: str, *parameters: str) -> str:
        given = [part for parameter in parameters for part in ("--param", parameter)]
        out = team.done(
            "worker", "prefect", "deployment", "run", f"{name}/{name}", "--watch", "--watch-interval", "1", *given
        )
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
    with team.registry() as registry:
        stored = registry.execute("SELECT seq, model_id, deployed_by FROM deployments ORDER BY seq DESC").fetchall()
    assert [(row["seq"], row["model_id"]) for row in rows] == [(seq, model_id) for seq, model_id, _ in stored]
    assert all(deployed_by.startswith("flow run ") for _, _, deployed_by in stored)
    alias = team.mlflow("registered-models/alias?name=frontrunner-1&alias=live")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in alias["tags"]}
    assert tags["frontrunner.model_id"] == str(rows[0]["model_id"])


def test_files_are_where_mlflow_keeps_them(team: Team, ran: dict[str, str]) -> None:
    with team.registry() as registry:
        models = registry.execute("SELECT artifact_uri, artifact_sha256 FROM models").fetchall()
        snapshots = registry.execute("SELECT artifact_uri, artifact_sha256 FROM snapshots").fetchall()
    assert (len(models), len(snapshots)) == (2, 1)
    kept = team.folder / "servers" / "artifacts"
    for uri, sha256 in models + snapshots:
        path = kept / uri.removeprefix("mlflow-artifacts:/")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_the_batch(team: Team, ran: dict[str, str]) -> None:
    scored = pq.read_table(team.folder / "worker" / "data" / "scored.parquet").to_pandas()
    assert len(scored) == 1797
    assert (scored["prediction"] == scored["target"]).mean() > 0.95
    assert set(scored["model_id"]) == {2}


ANSWER = """
import json, sys
from registry import Predictor

with Predictor("digits", refresh_seconds=1) as predictor:
    print(predictor.model.algorithm, predictor.predict(json.load(sys.stdin)).tolist())
"""


def test_an_application_reads_and_may_not_write(team: Team, ran: dict[str, str]) -> None:
    rows = json.dumps(load_digits().data[:3].tolist())
    assert team.done("app", "python", "-c", ANSWER, given=rows) == "knn [0, 1, 2]\n"
    cached = [path.name for path in (team.folder / "app" / ".frontrunner" / "cache").iterdir()]
    with team.registry() as registry:
        assert [(name,) for name in cached] == registry.execute(
            "SELECT artifact_sha256 FROM models WHERE id = 2"
        ).fetchall()
    assert team.done("app", "frontrunner", "predict", "digits", given=rows) == "0\n1\n2\n"
    refused = team.run("app", "frontrunner", "rollback", "digits")
    assert refused.returncode == 1
    assert re.search("^error: .*permission denied", refused.stderr, re.MULTILINE)


def test_strangers_are_refused(team: Team, ran: dict[str, str]) -> None:
    at = team.hosts["servers"].address
    with team.hosts["worker"].inside():
        for url in (f"http://{at}:4200/api/admin/version", f"http://{at}:5000/api/2.0/mlflow/experiments/get?id=1"):
            for given in ({}, {"Authorization": "Basic " + base64.b64encode(b"team:wrong").decode()}):
                with pytest.raises(HTTPError, match="401"):
                    urlopen(Request(url, headers=given), timeout=10)
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"http://{at}:5000/", headers={"Host": "elsewhere.example.org"}), timeout=10)


REFUSED: dict[str, tuple[str, dict[str, str]]] = {
    "the registry without a password": (
        "projects",
        {"REGISTRY_URL": "postgresql://registry@servers.example.org/registry"},
    ),
    "the registry with a wrong one": (
        "projects",
        {"REGISTRY_URL": "postgresql://registry:stranger@servers.example.org/registry"},
    ),
    "another's database": ("projects", {"REGISTRY_URL": "postgresql://reader:<reader>@servers.example.org/mlflow"}),
    "Prefect with a wrong one": ("train digits", {"PREFECT_API_AUTH_STRING": "team:stranger"}),
    "MLflow with a wrong one": ("train digits", {"MLFLOW_TRACKING_PASSWORD": "stranger"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_one_line_without_a_password(team: Team, ran: dict[str, str], what: str) -> None:
    command, given = REFUSED[what]
    changes = {name: team.filled(value) for name, value in given.items()}
    refused = team.run("worker", "frontrunner", *command.split(), **changes)
    assert refused.returncode == 1
    assert re.search("^error: .*", refused.stderr, re.MULTILINE)
    assert "Traceback" not in refused.stderr
    assert not [name for name, secret in SECRETS.items() if secret in refused.stdout + refused.stderr]
    assert "stranger" not in refused.stdout + refused.stderr


def test_no_secret_is_written_down(team: Team, ran: dict[str, str]) -> None:
    """Prefect's parameters, logs and artifacts, MLflow's tags and parameters, the registry: all of their databases."""
    written = {"what the runs printed": "".join(ran.values()).encode()}
    for database in ("registry", "prefect", "mlflow"):
        url = team.postgres.format(database=database).replace("+psycopg", "")
        dump = [team.binaries / "pg_dump", "--inserts", url]
        written[database] = subprocess.run(dump, check=True, capture_output=True).stdout
    assert b"ada_boost: F1" in written["prefect"], "the flow runs' logs are among it"
    files = [path for path in team.folder.rglob("*") if path.is_file() and path.name != "basic_auth.ini"]
    written |= {str(path): path.read_bytes() for path in files}
    processes = Path("/proc").glob("[0-9]*/cmdline")
    for process in processes:
        with suppress(OSError):  # it has ended since
            written[str(process)] = process.read_bytes()
    found = [(name, where) for where, text in written.items() for name in SECRETS if SECRETS[name].encode() in text]
    assert found == []

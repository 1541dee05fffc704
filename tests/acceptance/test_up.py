"""`frontrunner up`: one command, safe by default, and gone after Ctrl-C."""

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from prefect.client.base import PrefectHttpxSyncClient

from tests.support.up import FREE_PORTS, FRONTRUNNER, READY, ROOT, Up, folder, frontrunner, up

pytestmark = pytest.mark.slow

TRAIN = (
    "train",
    "digits",
    "--task",
    "classification",
    "--relation-name",
    "sklearn:digits",
    "--y-column-name",
    "target",
)
EVIL = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """It runs, and two trainings were done from another terminal."""
    with up(folder(tmp_path_factory.mktemp("up") / "here")) as started:
        started.wait_for(READY)
        for algorithms in ("ada_boost", "svm,knn"):
            done = frontrunner(started.folder, *TRAIN, "--algorithms", algorithms)
            assert done.returncode == 0, done.stderr
        yield started


def prefect(running: Up, method: str, path: str, **more: object) -> httpx.Response:
    """Prefect's API as its own client asks it: again where its database was locked (503), and an error is raised."""
    auth = tuple(running.env["PREFECT_API_AUTH_STRING"].split(":", 1))
    api = running.env["PREFECT_API_URL"]
    with PrefectHttpxSyncClient(base_url=api, auth=auth, enable_csrf_support=True, raise_on_all_errors=True) as client:
        return client.request(method, path, **more)


class TestUp:
    def test_it_says_where_everything_is(self, running: Up) -> None:
        log = running.log.read_text()
        for name in ("PREFECT_API_URL", "MLFLOW_UI_URL", "FRONTRUNNER_URL"):
            assert running.env[name].removesuffix("/api") in log
        assert f"{running.env['MLFLOW_UI_URL']}/#/experiments?workflowType=machine_learning" in log
        assert "Ready." in log
        assert ".frontrunner/up.env" in log
        assert {line.split("|")[0].split()[-1] for line in log.splitlines() if "|" in line} >= {
            "system", "prefect", "mlflow", "predictions", "worker"
        }  # fmt: skip

    def test_commands_in_its_folder_find_it(self, running: Up) -> None:
        names = [run["name"] for run in prefect(running, "POST", "/flow_runs/filter", json={}).json()]
        assert names.count("train digits") == 2

    def test_a_second_one_says_what_is_there(self, running: Up) -> None:
        again = frontrunner(running.folder, "up", *FREE_PORTS)
        assert again.returncode == 1
        assert "up already" in again.stderr
        assert running.env["PREFECT_API_URL"] in again.stderr

    def test_a_taken_port_is_said_with_who_has_it(self, running: Up, tmp_path: Path) -> None:
        port = running.env["FRONTRUNNER_URL"].rpartition(":")[2]
        done = frontrunner(folder(tmp_path / "other"), "up", *FREE_PORTS[:4], "--port", port)
        assert done.returncode == 1
        assert re.search(rf"port {port} is taken by process \d+ .*serve.*: end it, or .* --port", done.stderr)

    def test_it_wants_the_folder_of_prefect_yaml(self, tmp_path: Path) -> None:
        done = frontrunner(tmp_path, "up", *FREE_PORTS)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "no prefect.yaml here" in done.stderr

    def test_the_doctor_finds_it_well(self, running: Up) -> None:
        done = frontrunner(running.folder, "doctor", "--json")
        assert done.returncode == 0, done.stdout
        found = {row["part"]: row["ok"] for row in json.loads(done.stdout)}
        assert found == dict.fromkeys(
            [
                "registry",
                "MLflow",
                "Prefect",
                "worker",
                "deployments",
                "alias of digits",
                "files of digits",
                "leftovers of digits",
            ],
            True,
        )

    def test_the_service_sees_what_the_worker_deploys(self, running: Up) -> None:
        live = json.loads(frontrunner(running.folder, "show", "digits", "--json").stdout)["live"]["model_id"]
        headers = {"Authorization": f"Bearer {running.env['FRONTRUNNER_TOKEN']}"}
        listed = httpx.get(f"{running.env['FRONTRUNNER_URL']}/projects", headers=headers).json()
        assert [row["model_id"] for row in listed] == [live]


class TestSafeByDefault:
    def test_every_address_is_of_this_machine_alone(self, running: Up) -> None:
        ports = {int(value.split(":")[2].split("/")[0]) for name, value in running.env.items() if name.endswith("_URL")}
        listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout.split("\n")
        where = {line.split()[3] for line in listening if line and int(line.split()[3].rpartition(":")[2]) in ports}
        assert where == {f"127.0.0.1:{port}" for port in ports}

    def test_only_the_owner_can_read_the_password(self, running: Up) -> None:
        home = running.folder / ".frontrunner"
        for path in (home / "up.env", home / "mlflow-auth.db", home / "registry.db", home / "prefect" / "prefect.db"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    def test_nobody_gets_in_without_the_password(self, running: Up) -> None:
        api, mlflow, service = (running.env[name] for name in ("PREFECT_API_URL", "MLFLOW_UI_URL", "FRONTRUNNER_URL"))
        for wrong in ({}, {"Authorization": "Basic " + b64encode(b"frontrunner:wrong").decode()}):
            assert httpx.post(f"{api}/deployments/filter", json={}, headers=wrong).status_code in (401, 403)
            assert httpx.get(f"{api}/admin/version", headers=wrong).status_code == 401
            asked = httpx.post(f"{mlflow}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers=wrong)
            assert asked.status_code == 401
            assert httpx.get(mlflow, headers=wrong).status_code == 401
            assert httpx.get(f"{service}/projects", headers=wrong).status_code == 401

    def test_no_other_site_can_use_a_browser_that_has_it(self, running: Up) -> None:
        api, mlflow = running.env["PREFECT_API_URL"], running.env["MLFLOW_UI_URL"]
        user, password = running.env["PREFECT_API_AUTH_STRING"].split(":")
        auth = {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}
        preflight = EVIL | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        asked = httpx.options(f"{api}/deployments/filter", headers=preflight)
        assert asked.status_code == 400
        assert "access-control-allow-origin" not in asked.headers
        # Prefect also wants its own token for whatever changes something, so a form of another page cannot post.
        forged = httpx.post(f"{api}/work_pools/", json={"name": "evil"}, headers=auth | EVIL)
        assert forged.status_code == 403
        made = httpx.post(f"{mlflow}/api/2.0/mlflow/experiments/create", json={"name": "evil"}, headers=auth | EVIL)
        assert made.status_code == 403
        rebound = httpx.get(
            f"{mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0", headers=auth | {"Host": "evil.example"}
        )
        assert rebound.status_code == 403

    def test_the_password_stands_nowhere_else(self, running: Up) -> None:
        secret = running.env["FRONTRUNNER_PASSWORD"].encode()
        holders = [
            path
            for path in running.folder.rglob("*")
            if path.is_file() and not path.is_symlink() and secret in path.read_bytes()
        ]
        assert holders == [running.folder / ".frontrunner" / "up.env"]


class TestDeployedEvent:
    def test_every_deploy_tells_prefect(self, running: Up) -> None:
        assert frontrunner(running.folder, "rollback", "digits", "--reason", "it was odd").returncode == 0
        assert frontrunner(running.folder, "rollback", "digits").returncode == 0
        filter_ = {"filter": {"event": {"name": ["frontrunner.deployed"]}, "order": "ASC"}, "limit": 50}
        until = time.monotonic() + 30
        while len(events := prefect(running, "POST", "/events/filter", json=filter_).json()["events"]) < 4:
            assert time.monotonic() < until, events
            time.sleep(0.5)
        told = [event["payload"] for event in events]
        history = [json.loads(frontrunner(running.folder, "history", "digits", "--json").stdout)][0][::-1]
        assert [row["seq"] for row in told] == [row["seq"] for row in history]
        assert [row["strategy"] for row in told] == ["new_score", "new_score", "rollback", "rollback"]
        assert told[2]["reason"] == "it was odd"
        assert (told[2]["model_id"], told[2]["previous_model_id"]) == (told[0]["model_id"], told[1]["model_id"])
        assert events[2]["resource"]["frontrunner.strategy"] == "rollback"
        assert events[2]["resource"]["prefect.resource.name"] == "digits"


class TestAutomations:
    def test_the_two_examples_of_the_page(self, running: Up, tmp_path: Path) -> None:
        heard: list[str] = []

        class Chat(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        chat = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
        Thread(target=chat.serve_forever, daemon=True).start()
        page = (ROOT / "docs" / "automations.md").read_text()
        (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        block = block.replace("https://chat.example.org", f"http://127.0.0.1:{chat.server_port}")
        env = os.environ | running.env | {"PREFECT_HOME": str(tmp_path)}
        saved = subprocess.run(
            [sys.executable, "-c", block], env=env, capture_output=True, text=True, check=True
        ).stdout
        deployment = prefect(running, "GET", "/deployments/name/train/train").json()["id"]
        for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)):
            file = tmp_path / f"{number}.yaml"
            file.write_text(example.replace("<the block>", saved.strip()).replace("<the deployment>", deployment))
            create = [FRONTRUNNER.with_name("prefect"), "automation", "create", "--from-file", file]
            done = subprocess.run(create, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        assert frontrunner(running.folder, "rollback", "digits", "--reason", "it was odd").returncode == 0
        trained = {"deployments": {"id": {"any_": [deployment]}}}
        until = time.monotonic() + 60
        while not (runs := prefect(running, "POST", "/flow_runs/filter", json=trained).json()) or not heard:
            assert time.monotonic() < until, (runs, heard)
            time.sleep(0.5)
        assert runs[0]["parameters"]["project_name"] == "digits"
        assert "is back, it was odd" in heard[0]
        chat.shutdown()
        chat.server_close()


def test_ctrl_c_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    """Ten times, from before anything is started to after everything is."""
    here = folder(tmp_path / "here")
    for seconds in (0.4, 1.0, 1.5, 2.0, 2.7, 3.5, 5.0, 7.0, 9.0, None):
        with up(here) as started:
            if seconds is None:
                started.wait_for(READY)
            else:
                time.sleep(seconds)
            code = started.press_ctrl_c()
            assert code in (0, 130), started.log.read_text()[-3000:]
            assert started.gone() == [], seconds
        if (here / ".frontrunner").exists():
            with FileLock(here / ".frontrunner" / "up.lock", timeout=0):
                pass
    assert "Traceback" not in started.log.read_text()


def test_ctrl_c_that_also_ends_what_it_is_piped_to(tmp_path: Path) -> None:
    with up(folder(tmp_path / "here"), piped=True) as started:
        started.wait_for(READY)
        started.press_ctrl_c()
        assert started.gone(20) == []


def test_one_that_is_killed_takes_its_servers_with_it(tmp_path: Path) -> None:
    with up(folder(tmp_path / "here")) as started:
        started.wait_for(READY)
        started.process.kill()
        started.process.wait()
        assert started.gone(30) == []


def test_ctrl_c_in_the_middle_of_a_training_leaves_no_run_that_seems_to_run(tmp_path: Path) -> None:
    here = folder(tmp_path / "here")
    rows = np.random.default_rng(0).normal(size=(60_000, 30))
    (here / "data").mkdir()
    labels = (rows[:, 0] + np.random.default_rng(1).normal(size=60_000) > 0).astype(int)
    pd.DataFrame(rows, columns=[f"c{number}" for number in range(30)]).assign(y=labels).to_parquet(
        here / "data" / "big.parquet"
    )
    given = {
        "project_name": "big", "task": "classification", "relation_name": "files:big.parquet", "y_column_name": "y",
        "algorithms": ["svm"],
    }  # fmt: skip
    with up(here) as started:
        started.wait_for(READY)
        found = prefect(started, "GET", "/deployments/name/train/train").json()["id"]
        asked = {"parameters": given, "state": {"type": "SCHEDULED", "name": "Scheduled"}}
        run = prefect(started, "POST", f"/deployments/{found}/create_flow_run", json=asked).json()["id"]
        started.wait_for("svm: training")
        assert started.press_ctrl_c() == 0
        assert started.gone() == []
    with sqlite3.connect(here / ".frontrunner" / "prefect" / "prefect.db") as connection:
        states = dict(connection.execute("SELECT id, state_type FROM flow_run"))
    assert states[run] in ("CRASHED", "CANCELLED", "FAILED")

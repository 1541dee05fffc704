"""The command line as it is used: another process, its output, its exit code."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from flows.cli.main import app
from flows.train import train
from registry import Predictor, queries, session
from registry.session import transaction
from tasks.estimators.algorithms import NAMES
from tasks.parameters import TrainParameters
from tasks.reporting.results import TrainResult
from tasks.validation import definitions
from tests.support.announcing import announced
from tests.support.processes import answers, free_port, running
from tests.support.story import Story

BIN = Path(sys.executable).parent


def frontrunner(
    *arguments: str, api: str | None = None, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    env = os.environ | settings | ({"PREFECT_API_URL": api} if api else {})
    return subprocess.run(
        [BIN / "frontrunner", *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def story(workspace: Path) -> Story:
    story = Story(folder=workspace)
    story.trained_and_promoted(0.7, "svm")
    story.trained_and_promoted(0.8, "linear")
    return story


def test_help_has_every_command_and_examples() -> None:
    out = frontrunner("--help").stdout
    for command in (
        "train", "deploy", "best-score", "most-recent", "rollback", "projects", "models", "history", "upgrade",
        "reconcile", "model", "snapshot", "algorithms", "predict", "serve",
        "decisions", "replay", "quarantine", "release", "show", "doctor", "up",
    ):  # fmt: skip
        assert command in out
    assert "frontrunner train digits --task classification" in frontrunner("train", "--help").stdout


COMMANDS = (
    *("train", "deploy", "best-score", "most-recent", "rollback", "quarantine", "release", "replay"),
    *("projects", "show", "doctor", "models", "history", "decisions", "model", "snapshot", "algorithms"),
    *("predict", "serve", "up", "upgrade", "reconcile", "prune", "export", "import"),
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80
    assert "…" not in done.output, "nothing is cut off"
    assert f"frontrunner {command}".strip() in done.output
    if not command:
        assert re.findall(r"╭─ (.+?) ─", done.output) == [
            "Options", "Train and deploy", "Look", "Predict and serve", "Operate", "Move"
        ]  # fmt: skip
        assert all(re.search(rf"│ {name} ", done.output) for name in COMMANDS)


def test_each_parameter_of_a_training_is_an_option_with_its_description() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    for name, parameter in definitions(TrainParameters).items():
        assert f"--{name.replace('_', '-')} " in shown
        if name != "project_name":
            assert " ".join(parameter.described.text.split()[:2]) in shown


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import main; print(*{'prefect', 'mlflow', 'pandas', 'sqlalchemy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_deploy_flow_imports_nothing_that_only_a_training_needs() -> None:
    heavy = "{'matplotlib', 'duckdb', 'sklearn', 'mlflow', 'xgboost'}"
    code = f"import sys; import flows.deploy; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


class TestEvidence:
    def test_every_decision_is_listed_and_can_be_computed_again(self, story: Story) -> None:
        story.promoted(story.trained(0.6, "knn"))
        listed = json.loads(frontrunner("decisions", "churn", "--json").stdout)
        assert [
            (row["decision_id"], row["challenger_id"], row["live_model_id"], row["deployed"]) for row in listed
        ] == [
            (3, 3, 2, False),
            (2, 2, 1, True),
            (1, 1, None, True),
        ]
        assert {"basis", "interval", "rows_compared", "min_improvement", "decided_by", "code_version"} <= set(listed[0])
        assert "knn (model 3) does not beat linear (model 2)" in frontrunner("decisions", "churn").stdout
        for decision in ("1", "2", "3"):
            again = frontrunner("replay", decision)
            assert again.returncode == 0, again.stdout + again.stderr
            assert again.stdout.endswith("the same verdict, to the last digit\n")
        assert json.loads(frontrunner("replay", "2", "--json").stdout)["same"] is True

    def test_a_replay_that_differs_exits_with_1(self, story: Story, workspace: Path) -> None:
        (workspace / "story.skops").unlink()
        again = frontrunner("replay", "2")
        assert again.returncode == 1
        assert "deployed was True, is False" in again.stdout
        assert frontrunner("replay", "9").stderr.startswith("error: there is no decision 9")

    def test_quarantine_and_release(self, story: Story) -> None:
        held = frontrunner("quarantine", "2", "--reason", "it leaks")
        assert held.stdout.splitlines() == [
            "model 2 (linear) is in quarantine: it leaks",
            "it is still live: roll back, or deploy another",
        ]
        for command in ("models", "history", "projects"):
            assert "it leaks" in frontrunner(command, "churn" if command != "projects" else "--json").stdout, command
        assert "model 1 (svm, score 0.7000) went live" in frontrunner("best-score", "churn").stdout
        assert frontrunner("deploy", "churn", "--model-id", "2").stderr == (
            "error: model 2 of 'churn' is in quarantine (it leaks): `frontrunner release 2` lets it be chosen again\n"
        )
        assert frontrunner("quarantine", "2", "--reason", " ").returncode == 1
        assert frontrunner("quarantine", "2").returncode == 2
        assert frontrunner("release", "2").stdout == "model 2 (linear) may be chosen again\n"
        assert "model 2" in frontrunner("best-score", "churn").stdout

    def test_a_plan_and_its_run(self, story: Story) -> None:
        planned = frontrunner("rollback", "churn", "--plan")
        assert planned.stdout == (
            "churn: model 1 (svm, score 0.7000) would go live by rollback, instead of model 2; to do exactly that,"
            " --expect-model-id is 1\n"
        )
        assert story.live == 2
        assert frontrunner("rollback", "churn", "--expect-model-id", "2").returncode == 1
        done = frontrunner(
            "rollback", "churn", "--expect-model-id", "1", "--quarantine", "--reason", "it leaks", "--json"
        )
        assert json.loads(done.stdout)["model_id"] == story.live == 1
        assert queries.model(2).quarantine == "it leaks"

    def test_further_back_and_forced(self, story: Story, workspace: Path) -> None:
        story.trained_and_promoted(0.9, "knn")
        assert "model 1 " in frontrunner("rollback", "churn", "--steps", "2").stdout
        assert "model 2 " in frontrunner("rollback", "churn", "--to-seq", "2").stdout
        (workspace / "story.skops").unlink()
        refused = frontrunner("rollback", "churn")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "svm (model 1) cannot be deployed" in refused.stderr
        assert frontrunner("rollback", "churn", "--force").stderr.startswith("error: force needs a reason")
        assert frontrunner("rollback", "churn", "--force", "--reason", "the store is away").returncode == 0
        [row, *_] = json.loads(frontrunner("history", "churn", "--json").stdout)
        assert (row["forced"], row["reason"], row["model_id"]) == (True, "the store is away", 1)


class TestDeploying:
    def test_rollback_in_words(self, story: Story) -> None:
        done = frontrunner("rollback", "churn")
        assert done.returncode == 0
        assert done.stdout == "churn: model 1 (svm, score 0.7000) went live by rollback, instead of model 2\n"
        assert story.live == 1

    def test_as_json_with_the_rows_fields(self, story: Story) -> None:
        done = frontrunner("deploy", "--project-name", "churn", "--algorithm-name", "svm", "--json")
        row = json.loads(done.stdout)
        assert row == {
            "project_name": "churn",
            "strategy": "best_score",
            "algorithm_name": "svm",
            "model_id": 1,
            "score": 0.7,
            "previous_model_id": 2,
            "changed": True,
            "previous_score": 0.8,
            "seq": 3,
            "deployed_at": queries.history("churn")[0].deployed_at.isoformat(),
            "deployed_by": row["deployed_by"],
            "forced": False,
            "reason": None,
            "warning": None,
        }
        assert "@" in row["deployed_by"]

    def test_a_specific_model(self, story: Story) -> None:
        assert (
            "model 1 (svm, score 0.7000) went live by specific"
            in frontrunner("deploy", "churn", "--model-id", "1").stdout
        )
        done = frontrunner("deploy", "churn", "--model-id", "2", "--strategy", "rollback")
        assert done.stderr == "error: rollback chooses the model: leave model_id out, or deploy by 'specific'\n"

    @pytest.mark.parametrize("command", ["best-score", "most-recent", "deploy"])
    def test_what_is_live_already(self, story: Story, command: str) -> None:
        done = frontrunner(command, "churn")
        assert "was live already; nothing changed" in done.stdout
        assert len(story.history) == 2

    def test_it_works_with_no_prefect_server_and_no_mlflow(self, story: Story, workspace: Path) -> None:
        done = frontrunner("rollback", "churn", api="http://127.0.0.1:1/api", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
        assert done.returncode == 0
        assert "went live by rollback" in done.stdout
        assert story.live == 1
        log = announced(workspace)
        assert "MLflow's alias 'live' lags behind" in log
        assert "was not announced to Prefect" in log

    def test_the_history_says_who(self, story: Story) -> None:
        frontrunner("rollback", "churn")
        assert "@" in queries.history("churn")[0].deployed_by


class TestLists:
    def test_history(self, story: Story) -> None:
        lines = frontrunner("history", "churn").stdout.splitlines()
        assert lines[0].split()[:5] == ["seq", "strategy", "algorithm", "model", "score"]
        assert lines[1].split()[:5] == ["2", "new_score", "linear", "2", "0.8000"]
        rows = json.loads(frontrunner("history", "churn", "--json").stdout)
        assert [row["seq"] for row in rows] == [2, 1]
        assert set(rows[0]) >= {"seq", "strategy", "algorithm_name", "model_id", "score", "deployed_at"}

    def test_models_marks_the_live_one_and_shows_why_one_failed(self, story: Story) -> None:
        story.failed("knn")
        rows = json.loads(frontrunner("models", "churn", "--json").stdout)
        assert [(row["model_id"], row["live"], row["status"]) for row in rows] == [
            (3, False, "failed"),
            (2, True, "trained"),
            (1, False, "trained"),
        ]
        assert "it could not be fitted" in frontrunner("models", "churn").stdout

    def test_when_a_model_was_trained_is_when_it_was_done(self, story: Story) -> None:
        """All candidates of a run are recorded when it begins, however long they take."""
        with transaction(write=True) as session:
            times = "created_at = '1999-01-01 12:00:00', finished_at = '2001-02-03 12:00:00'"
            session.execute(text(f"UPDATE models SET {times}"))
        for command in ("models", "show"):
            shown = frontrunner(command, "churn").stdout
            assert "2001-02-03" in shown
            assert "1999" not in shown

    def test_projects(self, story: Story) -> None:
        assert json.loads(frontrunner("projects", "--json").stdout)[0]["algorithm_name"] == "linear"
        assert "churn" in frontrunner("projects").stdout


class TestPredicting:
    @pytest.fixture
    def trained(self, prefect: str, mlflow_store: Path) -> None:
        train("exercise", "regression", "sklearn:linnerud", "Weight", ["linear"])

    ROW: ClassVar = {"Chins": 5, "Situps": 162, "Jumps": 60, "Waist": 36, "Pulse": 50}

    def test_one_row_of_json_or_several(self, trained: None) -> None:
        expected = Predictor("exercise").predict([self.ROW]).tolist()
        assert float(frontrunner("predict", "exercise", stdin=json.dumps(self.ROW)).stdout) == expected[0]
        columns = {name: [value, value] for name, value in self.ROW.items()}
        for rows in ([self.ROW, self.ROW], columns):
            done = frontrunner("predict", "exercise", "--json", stdin=json.dumps(rows))
            assert json.loads(done.stdout) == {
                "predictions": expected * 2,
                "model_id": 1,
                "algorithm_name": "linear",
            }

    def test_what_is_wrong_is_one_line(self, trained: None) -> None:
        done = frontrunner("predict", "exercise", stdin='{"Chins": 5}')
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "lack 'Situps', 'Jumps'" in done.stderr
        assert frontrunner("predict", "exercise", stdin="Chins=5").returncode == 2
        assert frontrunner("predict", "exercise", "--output", "files:a.csv").returncode == 2
        assert "there is no project 'body'" in frontrunner("predict", "body", stdin="[]").stderr

    def test_a_relation_into_a_file(self, trained: None, workspace: Path) -> None:
        done = frontrunner("predict", "exercise", "--relation-name", "sklearn:linnerud", "--output", "files:out.csv")
        assert done.stdout == "files:out.csv: 20 rows of model 1 (linear)\n"
        assert len((workspace / "data" / "out.csv").read_text().splitlines()) == 21

    def test_serve(self, trained: None, workspace: Path) -> None:
        port = str(free_port())
        command = [str(BIN / "frontrunner"), "serve", "--project-name", "exercise", "--port", port]
        env = os.environ | {"FRONTRUNNER_TOKEN": "secret"}
        address = f"http://127.0.0.1:{port}"
        with running(command, lambda: answers(f"{address}/health"), workspace / "serve.log", env=env):
            asked = {"dataframe_records": [self.ROW]}
            assert httpx.post(f"{address}/projects/exercise/predict", json=asked).status_code == 401
            headers = {"Authorization": "Bearer secret"}
            answer = httpx.post(f"{address}/projects/exercise/predict", json=asked, headers=headers, timeout=60)
            assert answer.json()["predictions"] == Predictor("exercise").predict([self.ROW]).tolist()


class TestDetails:
    """Of a real training; the words are in the unit tests of the tables."""

    @pytest.fixture
    def trained(self, prefect: str, mlflow_store: Path) -> TrainResult:
        return train(
            "flowers", "classification", "sklearn:iris", "target", ["linear"],
            preprocess={"petal length (cm)": {"scale": "standard"}},
        )  # fmt: skip

    def test_a_model(self, trained: TrainResult) -> None:
        out = frontrunner("model", str(trained.live_model_id)).stdout
        assert re.search(r"algorithm +linear", out)
        assert re.search(r"f1 +0\.\d{4}", out)
        assert re.search(r"petal length \(cm\) +median +native +standard", out)
        known = json.loads(frontrunner("model", str(trained.live_model_id), "--json").stdout)
        assert known["preprocessing"]["petal length (cm)"]["scale"] == "standard"
        assert known["artifact"]["uri"] in out

    def test_a_snapshot(self, trained: TrainResult) -> None:
        out = frontrunner("snapshot", str(trained.snapshot_id)).stdout
        assert "of sklearn:iris: 112 rows to fit, 38 to test (stratified), predicting target" in out
        assert re.search(r"sepal width \(cm\) .* 2 .* 4\.4", out)
        known = json.loads(frontrunner("snapshot", str(trained.snapshot_id), "--json").stdout)
        assert len(known["statistics"]) == 5

    @pytest.mark.parametrize("command", ["model", "snapshot"])
    def test_one_that_is_not_there(self, command: str) -> None:
        session.upgrade()
        done = frontrunner(command, "7")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: there is no {command} 7; ")


def test_algorithms_lists_the_catalogue() -> None:
    assert len(json.loads(frontrunner("algorithms", "--json").stdout)) == len(NAMES)
    out = frontrunner("algorithms", "--task", "regression").stdout
    assert re.search(r"hist_gradient_boosting +HistGradientBoostingRegressor +gradient boosting on binned", out)
    assert "perceptron" not in out


class TestOperating:
    def test_upgrade_makes_the_tables_and_says_where_they_are(self) -> None:
        assert "the registry is at version 0003, it was empty" in frontrunner("upgrade").stdout
        assert "at version 0003 already" in frontrunner("upgrade").stdout
        assert json.loads(frontrunner("upgrade", "--json").stdout) == {"before": "0003", "after": "0003"}

    def test_reconcile_says_what_it_could_not_do(self, story: Story) -> None:
        done = frontrunner("reconcile", "--json", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
        assert done.returncode == 1
        (row,) = json.loads(done.stdout)
        assert (row["project_name"], row["what"], row["done"]) == (None, "MLflow", False)
        assert "http://127.0.0.1:1 failed" in row["said"]


def test_it_says_its_version() -> None:
    assert re.fullmatch(r"frontrunner \d+\.\d+\.\d+\n", frontrunner("--version").stdout)


def test_serve_says_who_has_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = frontrunner("serve", "--port", str(port))
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: port {port} is taken by process {os.getpid()} .* --port \(0: any free one\)\n", done.stderr
    )


def test_serve_at_an_address_of_another_machine() -> None:
    done = frontrunner("serve", "--host", "192.0.2.1", FRONTRUNNER_TOKEN="secret")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nothing can listen at 192.0.2.1: ")


def test_serve_does_not_listen_beyond_this_machine_without_a_token() -> None:
    done = frontrunner("serve", "--host", "0.0.0.0", "--port", "0", FRONTRUNNER_TOKEN="")
    assert done.returncode == 1
    assert done.stderr == (
        "error: refusing to listen on 0.0.0.0 without FRONTRUNNER_TOKEN: set it, or leave --host out\n"
    )


class TestShow:
    def test_what_is_asked_at_night(self, story: Story) -> None:
        out = frontrunner("show", "churn").stdout
        assert re.search(r"live +model 2, \w+, F1 0\.\d{4}", out)
        assert re.search(r"why +\w+ \(model 2\) replaces", out)
        assert re.search(r"rollback +would bring back model 1", out)
        frontrunner("rollback", "churn", "--reason", "it was odd")
        out = frontrunner("show", "churn").stdout
        assert re.search(r"by +rollback, .*@", out)
        assert re.search(r"why +it was live before; it was odd", out)

    def test_one_that_cannot_go_back(self, story: Story) -> None:
        other = Story("other")
        assert "has no live model yet" in frontrunner("show", "other").stderr
        other.trained_and_promoted(0.5)
        assert "there is nothing to roll back to" in frontrunner("show", "other").stdout
        shown = json.loads(frontrunner("show", "other", "--json").stdout)
        assert (shown["project_name"], shown["rollback"]) == ("other", None)
        assert {"seq", "strategy", "model_id", "deployed_at", "deployed_by", "why"} <= set(shown["live"])


class TestInTheWrongFolder:
    @pytest.mark.parametrize("command", ["history", "models", "decisions", "show", "rollback"])
    def test_it_is_said_and_no_registry_is_made(self, command: str, workspace: Path) -> None:
        done = frontrunner(command, "churn")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: there is no registry at {workspace}/.frontrunner/registry.db yet")
        assert len(done.stderr.splitlines()) == 1
        assert not (workspace / ".frontrunner").exists()

    def test_there_are_no_projects(self, workspace: Path) -> None:
        assert frontrunner("projects").stdout.startswith("no projects yet")
        assert frontrunner("projects", "--json").stdout == "[]\n"
        assert not (workspace / ".frontrunner").exists()


class TestExitCodes:
    def test_an_error_of_ours_is_one_line_and_1(self) -> None:
        session.upgrade()
        done = frontrunner("rollback", "nobody")
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: there is no project 'nobody'; train one first")
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            ("rollback",),
            ("rollback", "a", "--project-name", "b"),
            ("no-such-command",),
            ("rollback", "a", "--no-such-option"),
            ("train", "a", "--hyperparams", "{"),
            ("train", "a", "--hyperparams", "[]"),
            ("train", "a", "--test-size", "many"),
        ],
    )
    def test_usage_is_2(self, arguments: tuple[str, ...]) -> None:
        done = frontrunner(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Usage" in done.stderr

    def test_a_registry_that_is_away(self) -> None:
        done = frontrunner("projects", REGISTRY_URL="postgresql+psycopg://me@127.0.0.1:1/db")
        assert done.returncode == 1
        assert done.stderr.startswith("error: the registry postgresql+psycopg://me@127.0.0.1:1/db cannot be used")


@pytest.mark.slow
class TestTraining:
    ARGUMENTS = (
        "train",
        "iris",
        "--task",
        "classification",
        "--relation-name",
        "sklearn:iris",
        "--y-column-name",
        "target",
    )

    def test_progress_a_table_and_the_decision(self, prefect: str, mlflow_store: Path) -> None:
        done = frontrunner(*self.ARGUMENTS, "--algorithms", "svm,knn", api=prefect)
        assert done.returncode == 0, done.stderr
        assert "svm: training" in done.stderr
        assert "svm: F1 " in done.stderr
        assert done.stdout.splitlines()[0].split()[:2] == ["algorithm", "F1"]
        assert done.stdout.splitlines()[-1].startswith("deployed: ")

    def test_as_json(self, prefect: str, mlflow_store: Path) -> None:
        options = ("--algorithms", "svm", "--algorithms", "nu_svm", "--hyperparams", '{"nu_svm": {"nu": 1}}', "--json")
        done = frontrunner(*self.ARGUMENTS, *options, api=prefect)
        result = json.loads(done.stdout)
        assert result["deployed"]
        assert [row["algorithm"] for row in result["leaderboard"]] == ["svm", "nu_svm"]
        assert set(result["leaderboard"][0]) >= {
            "algorithm", "metrics", "score", "status", "model_id", "mlflow_run_id"
        }  # fmt: skip

    def test_what_is_wrong_is_one_line(self, prefect: str) -> None:
        done = frontrunner(*self.ARGUMENTS, "--algorithms", "svn", api=prefect)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: unknown classification algorithm 'svn'")
        assert "Traceback" not in done.stderr

    def test_without_a_prefect_server_it_starts_a_temporary_one(self, mlflow_store: Path, workspace: Path) -> None:
        """Prefect's own limit for a first start is too short for its migrations: ours must be in force."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        done = subprocess.run(
            [BIN / "frontrunner", *self.ARGUMENTS, "--algorithms", "svm"],
            env=env | {"PREFECT_HOME": str(workspace / "prefect")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "starting a temporary Prefect server" in done.stderr
        assert "svm: F1 " in done.stderr
        assert done.stdout.splitlines()[-1].startswith("deployed: ")
        with closing(sqlite3.connect(workspace / "prefect" / "prefect.db")) as database:
            ended = database.execute("SELECT state_type FROM flow_run UNION ALL SELECT state_type FROM task_run")
            states = [state for (state,) in ended]
        assert len(states) > 4
        assert {*states} == {"COMPLETED"}, "the server has written the last ones, too"

    def test_a_prefect_server_that_is_away(self) -> None:
        done = frontrunner(*self.ARGUMENTS, api="http://127.0.0.1:1/api")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: the Prefect server http://127.0.0.1:1/api")
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_make_demo_ends_with_the_first_model_live_again(
    workspace: Path, prefect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    env = outside | {
        "PREFECT_API_URL": prefect,
        "REGISTRY_URL": f"sqlite:///{workspace / 'registry.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{workspace / 'mlflow.db'}",
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(["make", "demo"], cwd=root, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("REGISTRY_URL", env["REGISTRY_URL"])
    rows = queries.history("digits")
    assert [str(row.strategy) for row in rows] == ["rollback", "new_score", "new_score"]
    assert rows[0].model_id == rows[2].model_id
    assert rows[1].score > rows[2].score
    assert done.stdout.endswith("To see it in the browser: make up\n")
    assert "linear: ConvergenceWarning: " in done.stderr, "of two at once, it says whose it is"

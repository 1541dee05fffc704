"""README is run: its tour, its Python, and the names it gives."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from registry import queries, settings
from tasks.data.sources import SKLEARN
from tasks.estimators.algorithms import CLASSIFICATION, DESCRIPTIONS, NAMES, REGRESSION
from tasks.estimators.preprocessing import OPTIONS
from tasks.estimators.search_space import ARGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
TOUR = [
    line
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.startswith(("frontrunner", "echo"))
]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]


@pytest.mark.slow
def test_the_tour(prefect: str, mlflow_store: Path) -> None:
    assert len(TOUR) == 14
    env = os.environ | {"PREFECT_API_URL": prefect}
    out = ""
    for line in TOUR:
        said, _, command = line.rpartition(" | ")
        name, *arguments = shlex.split(command)
        done = subprocess.run(
            [Path(sys.executable).parent / name, *arguments],
            env=env,
            input="".join(shlex.split(said)[1:]),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, line + done.stderr
        out += done.stdout
    assert '"strategy": "rollback"' in out
    live = queries.history("flowers")[0]
    answer = f'"id":{live.model_id},"algorithm":"{live.algorithm_name}","seq":{live.seq}'
    assert answer in README, "what curl is told"


@pytest.mark.slow
def test_the_python(prefect: str, mlflow_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(PYTHON) == 4
    exec(compile("\n".join(PYTHON), "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "first one live" in out
    assert "True svm (model " in out, "the better one is better"


@pytest.mark.parametrize(
    "command",
    [
        "prefect work-pool create frontrunner --type process",
        "prefect --no-prompt deploy --all",
        "prefect worker start --pool frontrunner",
        "prefect deployment run rollback/rollback --param project_name=digits --watch",
    ],
)
def test_the_prefect_commands_are_those_that_test_worker_runs(command: str) -> None:
    assert command in README


def test_the_algorithms_are_the_catalogue() -> None:
    def cell(path: str | None) -> str:
        return f"`{path.rpartition('.')[2]}`" if path else ""

    section = README.split("## Algorithms")[1].split("## ")[0]
    rows = [
        f"| `{name}` | {cell(REGRESSION.get(name))} | {cell(CLASSIFICATION.get(name))} | {said} |"
        for name, said in DESCRIPTIONS.items()
    ]
    assert re.findall(r"^\| `.*$", section, re.MULTILINE) == rows
    assert sorted(DESCRIPTIONS) == NAMES


def test_the_options_and_defaults() -> None:
    for option, values in OPTIONS.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{option}`"))
        assert all(f"`{value}`" in row for value in values)
    for kind, arguments in {kind: vars(arguments()) for kind, arguments in ARGS.items()}.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{kind}`"))
        assert {name for name in arguments if f"`{name}`" in row} == set(arguments)


def test_the_toy_sets_and_the_settings() -> None:
    assert ", ".join(SKLEARN) in README
    assert f"`sqlite:///{settings.HOME}/registry.db`" in README
    assert f"`sqlite:///{settings.HOME}/mlflow.db`" in README


def test_the_make_targets_it_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (demo|test|check|quick|lock)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)

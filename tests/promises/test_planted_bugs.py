"""The tests of the promises are tried themselves: each bug is planted in a copy of the code, where they have to fail, while
they pass on the copy without it."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import die_with_parent

ROOT = Path(__file__).parents[2]
AT_ONCE, PATIENCE_SECONDS = 2, 900

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bug:
    """What is replaced by what, in which files; which promise's test has to notice, and on which database."""

    promise: str
    changes: list[tuple[str, str, str]]
    chosen: str = "sqlite"


BUGS = {
    "an answer without a commit": Bug(
        "a_never_lost",
        [
            (
                "registry/history.py",
                "        return _result(project, wish.strategy, chosen, incumbent.id if incumbent else None, changed=changed)",
                "        done = _result(project, wish.strategy, chosen, incumbent.id if incumbent else None, changed=changed)\n"
                "        session.rollback()\n"
                "        return done",
            )
        ],
    ),
    "live by the clock": Bug(
        "b_append_only",
        [
            (
                "registry/strategies.py",
                "return _deployed(project_id).order_by(Deployment.seq.desc()).limit(1)",
                "return _deployed(project_id).order_by(Deployment.deployed_at.desc()).limit(1)",
            )
        ],
    ),
    "most recent by the clock": Bug(
        "b_append_only",
        [
            (
                "registry/strategies.py",
                "_trained(project_id)).order_by(Model.id.desc()).limit(1)",
                "_trained(project_id)).order_by(Model.created_at.desc()).limit(1)",
            )
        ],
    ),
    "a history that can be changed": Bug(
        "b_append_only",
        [
            (
                "registry/migrations/versions/r0001_first.py",
                '*[("deployments", event, "the deployment history is append-only") for event in ("UPDATE", "DELETE")],',
                "",
            )
        ],
    ),
    "a history with gaps": Bug(
        "b_append_only", [("registry/history.py", "seq=(newest or 0) + 1", "seq=project.revision")]
    ),
    "a tie is deployed": Bug(
        "c_strictly_improves",
        [
            ("tasks/verdicts.py", "return live is None or score > live", "return live is None or score >= live"),
            ("tasks/verdicts.py", "and gain > terms.min_improvement", "and gain >= terms.min_improvement"),
        ],
    ),
    "scores sorted as texts": Bug(
        "c_strictly_improves",
        [
            (
                "registry/strategies.py",
                "import ColumnElement, Select, exists,",
                "import ColumnElement, Select, Text, cast, exists,",
            ),
            ("registry/strategies.py", "Model.score.desc(), Model.id", "cast(Model.score, Text).desc(), Model.id"),
        ],
    ),
    "a NaN that wins": Bug(
        "c_strictly_improves",
        [
            (
                "registry/migrations/versions/r0001_first.py",
                'sa.CheckConstraint("score BETWEEN -1e308 AND 1e308", name="ck_models_score_finite"),',
                "",
            )
        ],
        "no_number and postgresql",
    ),
    "promotions that do not take turns": Bug(
        "c_strictly_improves",
        [
            (
                "registry/history.py",
                "session.scalar(update(Project).where(which).values(revision=Project.revision + 1).returning(Project))",
                "session.scalar(select(Project).where(which))",
            )
        ],
        "overtakes and postgresql",
    ),
    "a rollback to what is live": Bug(
        "d_rollback", [("registry/strategies.py", "Model.id != live_id, FREE, ~again", "FREE, ~again")]
    ),
    "a retry that adds a row": Bug(
        "e_retries",
        [
            ("registry/history.py", "if done := _recorded(session, request_key):", "if done := None:"),
            (
                "registry/history.py",
                "request_key=request_key,\n            deployed_by=deployed_by,",
                'request_key=f"{request_key} {newest}",\n            deployed_by=deployed_by,',
            ),
        ],
    ),
    "no look at the digest": Bug("f_verified", [("registry/artifacts.py", "if found != artifact:", "if False:")]),
    "the alias before the commit": Bug(
        "g_alias",
        [
            (
                "tasks/promotion.py",
                "import mirror_live\n",
                "import _set_alias, mirror_live\nfrom tasks.tracking import client\n",
            ),
            (
                "tasks/promotion.py",
                "            result = history.deploy(\n",
                "            _set_alias(client(), queries.project(asked.wish.project_name), chosen)\n"
                "            result = history.deploy(\n",
            ),
        ],
    ),
    "a quarantine apart from its rollback": Bug(
        "h_crashes",
        [
            (
                "registry/history.py",
                '        if changed and quarantine and incumbent is not None:\n            _hold(session, incumbent, reason or "",'
                " deployed_by)\n        return",
                "    if changed and quarantine and incumbent is not None:\n        with transaction(write=True) as session:\n"
                '            _hold(session, incumbent, reason or "", deployed_by)\n    if True:\n        return',
            )
        ],
    ),
}
NONE = "no bug at all"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """How pytest ended on each copy, and what it said."""
    folder = tmp_path_factory.mktemp("bugs")
    waiting = {name: _copy(folder / f"{number}", name) for number, name in enumerate([NONE, *BUGS])}
    running: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}
    ended: dict[str, tuple[int, str]] = {}
    until = time.monotonic() + PATIENCE_SECONDS
    while waiting or running:
        assert time.monotonic() < until, f"still running: {list(running)}"
        while waiting and len(running) < AT_ONCE:
            name, copy = next(iter(waiting.items()))
            running[name] = waiting.pop(name), _tried(copy, name)
        for name, (copy, process) in list(running.items()):
            if process.poll() is not None:
                ended[name] = process.returncode, (copy / "said").read_text()
                del running[name]
        time.sleep(0.1)
    return ended


def _copy(folder: Path, name: str) -> Path:
    for part in ("flows", "tasks", "registry", "tests"):
        shutil.copytree(ROOT / part, folder / part)  # compiled files, too: they are newer than their sources
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, right, wrong in BUGS[name].changes if name in BUGS else []:
        code = (folder / file).read_text()
        assert code.count(right) == 1, f"{name!r} is to be planted once in {file}, where this stands: {right}"
        (folder / file).write_text(code.replace(right, wrong))
    return folder


def _tried(copy: Path, name: str) -> "subprocess.Popen[bytes]":
    files = [f"test_{BUGS[name].promise}.py"] if name in BUGS else [f"test_{letter}_*.py" for letter in "abcdefgh"]
    chosen = BUGS[name].chosen if name in BUGS else "sqlite or no_number or overtakes"
    found = [str(path) for file in files for path in sorted((copy / "tests" / "promises").glob(file))]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "PYTHONPATH": str(copy),
        "PYTHONHASHSEED": "0",
    }
    with (copy / "said").open("wb") as said:
        return subprocess.Popen(
            [*command, "-m", "not slow", "-k", chosen, *found],
            cwd=copy,
            env=env,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread starts processes meanwhile)
        )


def test_without_a_bug_they_pass(outcomes: dict[str, tuple[int, str]]) -> None:
    code, said = outcomes[NONE]
    assert code == 0, said[-3000:]


@pytest.mark.parametrize("name", BUGS)
def test_with_this_bug_they_fail(outcomes: dict[str, tuple[int, str]], name: str) -> None:
    code, said = outcomes[name]
    assert code == 1, said[-3000:]  # 2 and more: pytest itself could not go on
    assert "1 failed" in said

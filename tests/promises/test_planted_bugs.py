"""The tests of the promises are tried themselves: each bug is planted in a copy of the code, where they have to fail,
while they pass on the copy without it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.attempts import run_promise
from tests.support.fork_server import LOG, ROOT, ForkServer

AT_ONCE = 2

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
                '            _hold(session, incumbent, reason or "", deployed_by)\n        return deploy_result(',
                (
                    '            _hold(session, incumbent, reason or "", deployed_by)\n'
                    "        session.expunge_all()\n        session.rollback()\n        return deploy_result("
                ),
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
            ("tasks/promotion/rule.py", "return live is None or score > live", "return live is None or score >= live"),
            ("tasks/promotion/rule.py", "and gain > terms.min_improvement", "and gain >= terms.min_improvement"),
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
                "registry/rows.py",
                "session.scalar(update(Project).where(which).values(revision=Project.revision + 1).returning(Project))",
                "session.scalar(select(Project).where(which))",
            )
        ],
        "overtakes and postgresql",
    ),
    "a rollback to what is live": Bug(
        "d_rollback", [("registry/strategies.py", "Model.id != live_id, TRAINED, FREE", "TRAINED, FREE")]
    ),
    "a retry that adds a row": Bug(
        "e_retries",
        [
            (
                "registry/history.py",
                "if done := _result(session, Deployment.request_key == request_key):",
                "if done := None:",
            ),
            (
                "registry/history.py",
                "request_key=request_key,\n        deployed_by=deployed_by,",
                'request_key=f"{request_key} {newest}",\n        deployed_by=deployed_by,',
            ),
        ],
    ),
    "no look at the digest": Bug(
        "f_verified", [("registry/serving/artifacts.py", "if found != artifact:", "if False:")]
    ),
    "the alias before the commit": Bug(
        "g_alias",
        [
            (
                "tasks/promotion/manual.py",
                "            result = history.deploy(\n",
                (
                    "            from tasks.tracking.alias import _set_alias\n"
                    "            from tasks.tracking.store import client\n"
                    "            project = queries.project(manual.request.project_name)\n"
                    "            row = replace(queries.history(project.name)[0], model_id=chosen.id)\n"
                    "            _set_alias(client(), project, chosen, row)\n"
                    "            result = history.deploy(\n"
                ),
            ),
        ],
    ),
    "a quarantine apart from its rollback": Bug(
        "h_crashes",
        [
            (
                "registry/history.py",
                "        if quarantine and incumbent is not None:\n            _hold(",
                (
                    "    if quarantine and incumbent is not None:\n"
                    "        with transaction(write=True) as session:\n            _hold("
                ),
            ),
            (
                "registry/history.py",
                "        return deploy_result(row, project, chosen, incumbent)",
                "    return deploy_result(row, project, chosen, incumbent)",
            ),
        ],
    ),
}
NONE = "no bug at all"


# What every copy needs and no bug is planted in.
LIBRARIES = ["alembic.command", "mlflow.store.tracking.sqlalchemy_store", "prefect", "psycopg", "pytest", "skops.io"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """How pytest ended on each copy, and what it said."""
    folder = tmp_path_factory.mktemp("bugs")
    copies = {name: _copy(folder / f"{number}", name) for number, name in enumerate([NONE, *BUGS])}
    with ForkServer(*LIBRARIES) as fork_server:
        running: list[int] = []
        for name, copy in copies.items():
            if len(running) == AT_ONCE:
                fork_server.ended(running.pop(0))
            running.append(fork_server.start(run_promise, folder=copy, **_what(name)))
        for pid in running:
            fork_server.ended(pid)
    return {name: (int((copy / "code").read_text()), (copy / LOG).read_text()) for name, copy in copies.items()}


def _copy(folder: Path, name: str) -> Path:
    for part in ("flows", "tasks", "registry", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for file, right, wrong in BUGS[name].changes if name in BUGS else []:
        code = (folder / file).read_text()
        assert code.count(right) == 1, f"{name!r} is to be planted once in {file}, where this stands: {right}"
        (folder / file).write_text(code.replace(right, wrong))
    return folder


def _what(name: str) -> dict[str, str]:
    """The promise and the tests of it; without a bug all that any bug is tried on."""
    if name in BUGS:
        return {"promise": BUGS[name].promise, "chosen": BUGS[name].chosen}
    return {"promise": "[a-h]_*", "chosen": " or ".join(sorted({f"({bug.chosen})" for bug in BUGS.values()}))}


def test_without_a_bug_they_pass(outcomes: dict[str, tuple[int, str]]) -> None:
    code, said = outcomes[NONE]
    assert code == 0, said[-3000:]


@pytest.mark.parametrize("name", BUGS)
def test_with_this_bug_they_fail(outcomes: dict[str, tuple[int, str]], name: str) -> None:
    code, said = outcomes[name]
    assert code == 1, said[-3000:]  # 2 and more: pytest itself could not go on
    assert "1 failed" in said

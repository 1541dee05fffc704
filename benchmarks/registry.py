"""How long the registry takes to say which model, and to promote one, from a thousand to a million of them.

Every size has a registry of its own, all are there before the first call, and the sizes take turns, call by call, in
every order. A call is what a caller pays: a transaction of its own around the strategy's one SELECT, or
`history.promote` as it is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from sqlalchemy import Select, create_engine, text

from benchmarks.shared import Calls, Options, Row, calls, say
from registry import history, strategies
from registry.session import transaction
from registry.values import Evidence, Terms, Verdict
from registry.vocabulary import Basis
from tests.support.postgres import postgres_server
from tests.support.story import Story

PROJECT = 1
SIZES, QUICK_SIZES = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
MLFLOW_SIZES, QUICK_MLFLOW_SIZES = (100, 1_000), (100,)
# One algorithm of twenty, and one that only the first model is of, deployed before all others.
COMMON, RARE = "algorithm 7", "rare"
STATEMENTS: dict[str, Select[Any]] = {
    "live": strategies.live(PROJECT),
    "best_score": strategies.best_score(PROJECT),
    "best_score of an algorithm": strategies.best_score(PROJECT, COMMON),
    "most_recent": strategies.most_recent(PROJECT),
    "most_recent of an algorithm": strategies.most_recent(PROJECT, COMMON),
    "rollback": strategies.rollback(PROJECT),
    "rollback to an algorithm": strategies.rollback(PROJECT, COMMON),
    "rollback to the oldest deployment": strategies.rollback(PROJECT, RARE),
}
PROMOTE = "promote"
MODELS = """
    INSERT INTO models (project_id, snapshot_id, algorithm, hyperparams, preprocessing, status, score, metrics, golden,
      artifact_uri, artifact_sha256, artifact_bytes, mlflow_run_id, mlflow_model_id, request_key, created_at)
    WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count})
    SELECT 1, 1, CASE WHEN i = 1 THEN 'rare' ELSE 'algorithm ' || (i % 20) END, '{{}}', '{{}}', 'trained',
      (i * 7919 % 1000003) / 1000003.0, '{{}}', '[0]', 'file:///nowhere/model.skops', '{digest}', 1,
      'run-' || i, 'm-1', 'benchmark-' || i, CURRENT_TIMESTAMP FROM n
"""
DEPLOYMENTS = """
    INSERT INTO deployments
      (project_id, seq, model_id, algorithm, strategy, forced, deployed_by, request_key, deployed_at)
    WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count})
    SELECT 1, i, i, CASE WHEN i = 1 THEN 'rare' ELSE 'algorithm ' || (i % 20) END, 'best_score', false,
      'the benchmark', 'benchmark-' || i, CURRENT_TIMESTAMP FROM n
"""


def measure(options: Options, folder: Path) -> list[Row]:
    sizes = QUICK_SIZES if options.quick else SIZES
    sqlite = {size: f"sqlite:///{folder / f'{size}.db'}" for size in sizes}
    rows = _grown("SQLite", sqlite, options)
    with postgres_server() as url:
        rows += _grown("PostgreSQL", dict(_databases(url, sizes)), options)
    return rows + _beside_mlflow(folder, options)


def _grown(database: str, urls: dict[int, str], options: Options) -> list[Row]:
    for size, url in urls.items():
        say(options, f"registry: {size:,} models and deployments on {database}")
        _fill(url, size)
    if options.plans:
        _print_plans(database, urls[max(urls)])
    say(options, f"registry: calls on {database}")
    rounds, each = (3, 10) if options.quick else (10, 40)
    rows = []
    for name, statement in STATEMENTS.items():
        found = calls(rounds, each, {str(size): _asked(url, statement) for size, url in urls.items()})
        rows += _lines(f"{name}, {database}", found, strict=database == "SQLite")
    found = calls(rounds, each, {str(size): _promoted(url, size) for size, url in urls.items()})
    return [*rows, *_lines(f"{PROMOTE}, {database}", found, strict=False)]


def _lines(name: str, found: dict[str, Calls], *, strict: bool) -> list[Row]:
    (least, base), *_ = found.items()
    most = list(found)[-1]
    rows = []
    for size, ours in found.items():
        target = "≤ 2 ms, ≤ 1.5" if strict and size == most else ""
        beside = ("", [], None) if size == least else (f"at {int(least):,}", base.medians, base.p99)
        rows.append(
            Row("registry", f"{name}, {int(size):,}", "ms", ours.medians, *beside[:2], target, ours.p99, beside[2])
        )
    return rows


def _fill(url: str, size: int) -> None:
    """One project with so many models, each deployed once, in order: the last one is live."""
    os.environ["REGISTRY_URL"] = url
    Story("benchmark")
    with transaction(write=True) as session:
        session.execute(text(MODELS.format(count=size, digest="0" * 64)))
        session.execute(text(DEPLOYMENTS.format(count=size)))
    if url.startswith("postgresql"):  # its autovacuum would do it within a minute
        with _outside(url) as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _asked(url: str, statement: Select[Any]) -> Callable[[], None]:
    def call() -> None:
        os.environ["REGISTRY_URL"] = url
        with transaction() as session:
            assert session.scalar(statement) is not None

    return call


def _promoted(url: str, size: int) -> Callable[[], None]:
    """Two models that replace one another; every call writes a receipt and a deployment."""
    live, keys = size, count()

    def call() -> None:
        nonlocal live
        os.environ["REGISTRY_URL"] = url
        challenger = 2 if live != 2 else 3
        evidence = Evidence(Basis.RECORDED, live, (challenger,), 0.9, 0.8)
        decision = history.promote(
            challenger,
            evidence,
            Terms(),
            Verdict(deploy=True, reason="higher"),
            request_key=f"promoted-{next(keys)}",
            decided_by="the benchmark",
            code_version="0",
        )
        assert decision.deployed
        live = challenger

    return call


def _print_plans(database: str, url: str) -> None:
    explain = "EXPLAIN QUERY PLAN" if database == "SQLite" else "EXPLAIN"
    os.environ["REGISTRY_URL"] = url
    for name, statement in STATEMENTS.items():
        print(f"\n{name}, {database}")
        with transaction() as session:
            sql = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
            for line in session.execute(text(f"{explain} {sql}".replace(":", r"\:"))):
                print(f"  {line[-1]}")


def _beside_mlflow(folder: Path, options: Options) -> list[Row]:
    """The questions that MLflow's registry answers, too, where it holds as many versions and runs."""
    rows = []
    rounds, each = (3, 5) if options.quick else (10, 20)
    for size in QUICK_MLFLOW_SIZES if options.quick else MLFLOW_SIZES:
        say(options, f"registry: {size:,} versions and runs in MLflow")
        url = f"sqlite:///{folder / f'beside-{size}.db'}"
        _fill(url, size)
        for name, (asked, theirs) in _mlflow(folder / f"mlflow-{size}.db", size).items():
            found = calls(rounds, each, {"ours": _asked(url, STATEMENTS[name]), "theirs": theirs})
            ours, its = found["ours"], found["theirs"]
            rows.append(
                Row("registry", f"{name}, {size:,}", "ms", ours.medians, asked, its.medians, "", ours.p99, its.p99)
            )
    return rows


def _mlflow(path: Path, size: int) -> dict[str, tuple[str, Callable[[], Any]]]:
    """{strategy: how MLflow is asked the same}; the store is filled by its own client."""
    client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
    experiment = client.create_experiment("benchmark", (path.parent / "artifacts").as_uri())
    client.create_registered_model("benchmark")
    for number in range(size):
        run = client.create_run(experiment).info
        client.log_metric(run.run_id, "f1", number * 7919 % 1000003 / 1000003)
        client.create_model_version("benchmark", run.artifact_uri, run.run_id)
    client.set_registered_model_alias("benchmark", "live", str(size))
    best = {"order_by": ["metrics.f1 DESC"], "max_results": 1}
    newest = {"order_by": ["version_number DESC"], "max_results": 1}
    return {
        "live": ("MLflow's alias", lambda: client.get_model_version_by_alias("benchmark", "live")),
        "best_score": ("MLflow's search_runs", lambda: client.search_runs([experiment], **best)),
        "most_recent": (
            "MLflow's search_model_versions",
            lambda: client.search_model_versions("name = 'benchmark'", **newest),
        ),
    }


def _databases(url: str, sizes: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    for size in sizes:
        with _outside(url.format(database="postgres")) as connection:
            connection.execute(text(f"CREATE DATABASE benchmark_{size}"))
        yield size, url.format(database=f"benchmark_{size}")


@contextmanager
def _outside(url: str) -> Iterator[Any]:
    """A connection without a transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()

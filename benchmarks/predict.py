"""Predictions of the live model: beside its bare pipeline and mlflow.pyfunc in one process, and over HTTP.

Everyone gets the same rows and has to give the same answers.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data import COLUMNS, generated
from benchmarks.shared import (
    FRONTRUNNER,
    PYTHON,
    ROOT,
    Options,
    Row,
    Unequal,
    alternately,
    calls,
    environment,
    run,
    say,
)
from registry import Predictor
from registry.serving.artifacts import load_pipeline
from tests.support.processes import answers, free_port, running

ALGORITHMS = ("linear", "xgboost")
CONNECTIONS = (1, 16)
FULL, QUICK = {1: (10, 200), 1_000: (10, 50), 1_000_000: (12, 1)}, {1: (3, 50), 1_000: (3, 10), 100_000: (3, 1)}
TARGETS = {1: "≤ 1.05", 1_000_000: "≤ 1.02"}


def measure(options: Options, folder: Path) -> list[Row]:
    env = environment(
        PREFECT_HOME=str(folder / "prefect"),
        MLFLOW_TRACKING_URI=f"sqlite:///{folder / '.frontrunner/mlflow.db'}",
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="true",  # MLflow's own switch before it loads a skops file
        PATH=f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}",  # it looks for uvicorn there
    )
    os.environ.update(env)
    os.chdir(folder)
    say(options, "predict: training")
    generated(folder / "data", 10_000, options)
    asked = ["bench", "--task", "regression", "--relation-name", "files:10000.parquet", "--y-column-name", "target"]
    run([FRONTRUNNER, "train", *asked, "--algorithms", ",".join(ALGORITHMS)], folder, env)
    rows = []
    for algorithm in ALGORITHMS[:1] if options.quick else ALGORITHMS:
        run([FRONTRUNNER, "deploy", "bench", "--algorithm-name", algorithm], folder, env)
        rows += _in_process(algorithm, options)
        rows += _over_http(algorithm, folder, env, options)
    return rows


def _in_process(algorithm: str, options: Options) -> list[Row]:
    import mlflow.pyfunc

    predictor = Predictor("bench")
    bare = load_pipeline(predictor.model.artifact)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    pyfunc = mlflow.pyfunc.load_model("models:/frontrunner-1@live")
    rows = []
    for size, (rounds, each) in (QUICK if options.quick else FULL).items():
        say(options, f"predict: {size:,} rows, {algorithm}")
        frame = _rows(size)
        sides: dict[str, Any] = {
            "ours": lambda frame=frame: predictor.predict(frame),
            "the bare pipeline": lambda frame=frame: bare.predict(frame),
            "mlflow.pyfunc": lambda frame=frame: pyfunc.predict(frame),
        }
        expected = sides["the bare pipeline"]()
        for name, side in sides.items():
            if not np.array_equal(side(), expected):
                raise Unequal(f"{name} answers otherwise for {size:,} rows of {algorithm}")
        found = calls(rounds, each, sides)
        what = f"Predictor, {algorithm}, {size:,} row{'s' * (size > 1)}"
        rows += [
            Row("predict", what, "ms", found["ours"].medians, name, found[name].medians, target)
            for name, target in (("the bare pipeline", TARGETS.get(size, "")), ("mlflow.pyfunc", ""))
        ]
    return rows


def _over_http(algorithm: str, folder: Path, env: dict[str, str], options: Options) -> list[Row]:
    import httpx

    body = {"dataframe_split": json.loads(_rows(1).to_json(orient="split"))}
    (folder / "body.json").write_text(json.dumps(body))
    with _frontrunner(folder, env) as ours, _mlflow(folder, env) as theirs:
        said = [httpx.post(url, json=body, timeout=60).json()["predictions"] for url in (ours, theirs)]
        if said[0] != said[1]:
            raise Unequal(f"over HTTP {algorithm} answers {said[0]}, MLflow's server {said[1]}")
        rows = []
        for connections in CONNECTIONS:
            say(options, f"predict: HTTP, {connections} connections, {algorithm}")
            sides = {
                "ours": lambda: _load(ours, connections, folder, env, options),  # noqa: B023  (used up in this round)
                "theirs": lambda: _load(theirs, connections, folder, env, options),  # noqa: B023
            }
            alternately(1, sides)  # both are warm then
            found = alternately(1 if options.quick else 5, sides)
            rows += _http_rows(algorithm, connections, found)
    return rows


def _http_rows(algorithm: str, connections: int, found: dict[str, list[dict[str, float]]]) -> list[Row]:
    what = f"HTTP, {algorithm}, {connections} connection{'s' * (connections > 1)}"

    def of(side: str, figure: str) -> list[float]:
        return [load[figure] for load in found[side]]

    wanted = (
        ("p50_ms", "latency p50", "ms", ""),
        ("p99_ms", "latency p99", "ms", ""),
        ("per_second", "requests", "/s", "≥ 10" if connections > 1 else ""),
    )
    return [
        Row("predict", f"{what}, {name}", unit, of("ours", figure), "mlflow models serve", of("theirs", figure), target)
        for figure, name, unit, target in wanted
    ]


def _load(url: str, connections: int, folder: Path, env: dict[str, str], options: Options) -> dict[str, float]:
    """What wrk saw in some seconds of posting the same row."""
    if shutil.which("wrk") is None:
        raise RuntimeError("the HTTP part wants wrk, a load generator: apt-get install wrk, or brew install wrk")
    seconds = 2 if options.quick else 10
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(ROOT / "benchmarks/post.lua"), url]
    found: dict[str, float] = json.loads(run(command, folder, env | {"BODY": "body.json"}).out.splitlines()[-1])
    if found["failed"]:
        raise Unequal(f"{found['failed']} requests to {url} failed")
    return found


@contextmanager
def _frontrunner(folder: Path, env: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = [FRONTRUNNER, "serve", "--port", str(port)]
    with running(command, lambda: answers(f"http://127.0.0.1:{port}/health"), folder / "ours.log", env=env, cwd=folder):
        yield f"http://127.0.0.1:{port}/projects/bench/predict"


@contextmanager
def _mlflow(folder: Path, env: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/frontrunner-1@live"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, lambda: answers(f"http://127.0.0.1:{port}/ping"), folder / "its.log", env=env, cwd=folder):
        yield f"http://127.0.0.1:{port}/invocations"


def _rows(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    return pd.DataFrame(draw.normal(size=(count, len(COLUMNS))), columns=list(COLUMNS))

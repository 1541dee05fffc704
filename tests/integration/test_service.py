"""The HTTP service as a client sees it: a real server on a port, a real model behind it."""

import gc
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import httpx
import pandas as pd
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flows.train import train
from registry import Predictor, history, queries
from registry.choices import DeployRequest
from registry.errors import InvalidInput
from registry.serving.artifacts import load_pipeline
from registry.serving.http import new_app
from registry.vocabulary import Strategy
from tests.support.processes import free_port

pytestmark = pytest.mark.slow
CONFORMS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@contextmanager
def served(app: FastAPI, **headers: str) -> Iterator[httpx.Client]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def rows() -> pd.DataFrame:
    frame = pd.read_parquet(queries.newest_snapshot("iris").artifact.uri.removeprefix("file://"))
    return frame.drop(columns="target")


def split(frame: pd.DataFrame) -> dict[str, object]:
    return {"dataframe_split": json.loads(frame.to_json(orient="split"))}


def deploy(project: str, strategy: Strategy = Strategy.ROLLBACK, algorithm: str | None = None) -> None:
    history.deploy(DeployRequest(project, strategy, algorithm), request_key=str(monotonic()), deployed_by="a test")


@pytest.fixture
def iris(prefect: str, mlflow_store: Path) -> None:
    """Two models that answer differently; ridge is live, linear was before."""
    train("iris", "classification", "sklearn:iris", "target", algorithms=["linear", "ridge"])
    deploy("iris", Strategy.MOST_RECENT, "linear")
    deploy("iris", Strategy.MOST_RECENT, "ridge")


@pytest.fixture
def client(iris: None) -> Iterator[httpx.Client]:
    with served(new_app(refresh_seconds=0.1)) as client:
        yield client


class TestAnswers:
    def test_every_format_has_the_predictors_answers(self, client: httpx.Client) -> None:
        frame = rows()
        formats = {
            "dataframe_split": split(frame)["dataframe_split"],
            "dataframe_records": frame.to_dict("records"),
            "instances": frame.to_numpy().tolist(),
            "inputs": {name: frame[name].tolist() for name in frame},
        }
        predictor = Predictor("iris")
        for name, form in (
            *formats.items(),
            ("instances", formats["dataframe_records"]),
            ("inputs", formats["instances"]),
        ):
            answer = client.post("/projects/iris/predict", json={name: form})
            assert answer.status_code == 200, answer.text
            assert answer.json() == {
                "predictions": predictor.predict(frame).tolist(),
                "model": {"id": predictor.model.id, "algorithm": "ridge", "seq": predictor.model.seq},
            }

    def test_probabilities_with_their_classes(self, client: httpx.Client) -> None:
        deploy("iris", Strategy.MOST_RECENT, "linear")
        asked = split(rows()) | {"params": {"probabilities": True}}
        answer = client.post("/projects/iris/predict", json=asked).json()
        assert answer["classes"] == [0, 1, 2]
        assert answer["predictions"] == Predictor("iris").predict_proba(rows()).tolist()

    def test_joint_targets_and_gaps(self, client: httpx.Client) -> None:
        train("body", "regression", "sklearn:linnerud", ["Weight", "Waist", "Pulse"], algorithms=["linear"])
        given = {"dataframe_records": [{"Chins": None, "Situps": 100, "Jumps": 50}]}
        answer = client.post("/projects/body/predict", json=given).json()
        assert answer["predictions"] == Predictor("body").predict(given["dataframe_records"]).tolist()
        assert len(answer["predictions"][0]) == 3

    def test_names_that_an_address_must_quote(self, client: httpx.Client) -> None:
        name = "a/b: été 💶?"
        train(name, "regression", "sklearn:linnerud", "Weight", algorithms=["linear"])
        assert client.get(f"/projects/{quote(name, safe='')}").json()["project_name"] == name
        answer = client.post(f"/projects/{quote(name, safe='')}/predict", json={"inputs": []})
        assert answer.json()["predictions"] == []

    @pytest.mark.parametrize("alone", [True, False])
    def test_a_garbage_collection_looks_at_no_library_in_a_process_of_its_own(self, iris: None, alone: bool) -> None:
        gc.unfreeze()
        with served(new_app(alone=alone)) as client:
            client.post("/projects/iris/predict", json=split(rows()))
        assert (gc.get_freeze_count() > 10 * len(gc.get_objects())) is alone
        gc.unfreeze()

    def test_what_is_live(self, client: httpx.Client) -> None:
        live = client.get("/projects/iris").json()
        assert (live["algorithm"], live["task"], live["y_column_names"]) == ("ridge", "classification", ["target"])
        assert live["features"][0] == {"name": "sepal length (cm)", "type": "double"}
        assert client.get("/projects").json() == [
            {
                "project_name": "iris",
                "task": "classification",
                "model_id": live["id"],
                "algorithm_name": "ridge",
                "score": live["score"],
                "quarantine": None,
            }
        ]
        history.quarantine(live["id"], "leaks", by="me")
        assert client.get("/projects").json()[0]["quarantine"] == "leaks"
        assert client.get("/health").json() == {"status": "ok"}

    def test_metrics(self, client: httpx.Client) -> None:
        client.post("/projects/iris/predict", json=split(rows().head(7)))
        client.post("/projects/nobody/predict", json=split(rows().head(7)))
        lines = client.get("/metrics").text.splitlines()
        assert 'frontrunner_requests_total{route="/projects/{name:path}/predict",status="200"} 1.0' in lines
        assert 'frontrunner_requests_total{route="/projects/{name:path}/predict",status="404"} 1.0' in lines
        assert 'frontrunner_predicted_rows_total{project="iris"} 7.0' in lines
        assert not [line for line in lines if "nobody" in line]


class TestErrors:
    def test_each_has_its_status_and_one_line(self, client: httpx.Client) -> None:
        good, row = split(rows().head(1)), rows().iloc[0].to_dict()
        train("recorded", "classification", "sklearn:iris", "target", algorithms=["knn"], automatic_deploy=False)
        expected = [
            ("nobody", good, 404, "there is no project 'nobody'; there are 'iris'"),
            ("recorded", good, 409, "no live model yet"),
            ("%00", good, 422, "no database can store"),
            ("iris", {"dataframe_records": [{"width": 1}]}, 422, "the rows lack 'sepal length (cm)'"),
            (
                "iris",
                {"dataframe_records": [row | {"petal width (cm)": "wide"}]},
                422,
                "'petal width (cm)' was numbers",
            ),
            ("iris", {"instances": [[1, 2]]}, 422, "need 4 values each"),
            ("iris", good | {"params": {"probabilities": True}}, 422, "gives labels, no probabilities"),
            ("iris", good | {"inputs": []}, 422, "exactly one of dataframe_split"),
            ("iris", {}, 422, "exactly one of dataframe_split"),
            ("iris", {"rows": []}, 422, "rows: Extra inputs"),
            ("iris", [], 422, "the body is a JSON object"),
            ("iris", good | {"params": {"probabilities": "yes"}}, 422, "params.probabilities"),
            ("iris", {"dataframe_split": {"columns": ["a", "a"], "data": []}}, 422, "distinct column names"),
            ("iris", {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, 422, "a value for each"),
        ]
        for name, body, status, said in expected:
            answer = client.post(f"/projects/{name}/predict", json=body)
            assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
            assert said in answer.json()["error"]
            assert "\n" not in answer.json()["error"]

    @pytest.mark.parametrize(
        "body", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"inputs": [[1e999]]}', b'{"inputs": [[' + b"9" * 5000 + b"]]}"]
    )
    def test_a_body_that_is_not_json_as_it_should_be(self, client: httpx.Client, body: bytes) -> None:
        answer = client.post("/projects/iris/predict", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        assert "\n" not in answer.json()["error"]

    def test_a_body_that_is_too_large_is_not_read(self, iris: None) -> None:
        with served(new_app(max_bytes=1000)) as client:
            small = client.post("/projects/iris/predict", json=split(rows().head(2)))
            large = client.post("/projects/iris/predict", content=b" " * 1001)
            chunks = client.post("/projects/iris/predict", content=(b" " * 100 for _ in range(11)))
        assert [answer.status_code for answer in (small, large, chunks)] == [200, 413, 413]
        assert large.json()["error"] == "a request has at most 1,000 bytes: send the rows in parts"

    def test_a_token(self, iris: None) -> None:
        app = new_app(token="secret")
        with served(app) as client:
            assert client.get("/health").status_code == 200
            for headers in (
                {},
                {"Authorization": "Bearer other"},
                {"Authorization": b"Basic secret"},
            ):
                refused = client.get("/projects", headers=headers)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert client.post("/projects/iris/predict", json={}, headers=headers).status_code == 401
            assert client.get("/projects", headers={"Authorization": b"Bearer secret"}).status_code == 200

    @pytest.mark.parametrize("token", ["", "sécret"])
    def test_a_token_that_not_every_client_could_send(self, token: str) -> None:
        with pytest.raises(InvalidInput, match="ASCII"):
            new_app(token=token)

    def test_without_the_token_no_body_is_looked_at(self, iris: None) -> None:
        with served(new_app(token="secret", max_bytes=1000)) as client:
            for body in (b"{", b" " * 1001):
                assert client.post("/projects/iris/predict", content=body).status_code == 401

    @pytest.mark.parametrize("seconds", [0, -1, float("nan")])
    def test_refresh_seconds_are_refused_before_a_client_asks(self, seconds: float) -> None:
        with pytest.raises(InvalidInput, match="refresh_seconds"):
            new_app(refresh_seconds=seconds)

    def test_an_error_of_our_own_is_json_and_counted(self) -> None:
        app = new_app()

        def broken() -> None:
            raise RuntimeError

        app.add_api_route("/broken", broken)
        with served(app) as client:
            assert "log" in client.get("/broken").json()["error"]
            metrics = httpx.get(client.base_url.join("/metrics")).text  # uvicorn closes the connection of such an error
        assert 'route="/broken",status="500"} 1.0' in metrics

    def test_one_project_alone(self, iris: None) -> None:
        train("other", "regression", "sklearn:linnerud", "Weight", algorithms=["linear"])
        with served(new_app("iris")) as client:
            assert client.get("/projects/iris").status_code == 200
            assert client.get("/projects/other").status_code == 404
            assert [project["project_name"] for project in client.get("/projects").json()] == ["iris"]


class TestDeploysMeanwhile:
    def test_a_rollback_is_seen_within_a_second(self, iris: None) -> None:
        with served(new_app()) as client:
            assert client.get("/projects/iris").json()["algorithm"] == "ridge"
            deploy("iris")
            sleep(1)
            now = client.get("/projects/iris").json()
            assert now["algorithm"] == "linear"
            metrics = client.get("/metrics").text
            assert f'frontrunner_live_model{{project="iris"}} {now["id"]}.0' in metrics.splitlines()

    def test_no_request_fails_and_each_answer_is_of_one_model(self, client: httpx.Client) -> None:
        frame, stop = rows(), threading.Event()
        asked, answers = (
            split(frame),
            {m.id: load_pipeline(m.artifact).predict(frame).tolist() for m in queries.models("iris")},
        )
        assert len(set(map(tuple, answers.values()))) == 2

        def ask() -> set[int]:
            seen = set()
            while not stop.is_set():
                answer = client.post("/projects/iris/predict", json=asked)
                assert answer.status_code == 200, answer.text
                known = answer.json()
                assert known["predictions"] == answers[known["model"]["id"]]
                seen.add(known["model"]["id"])
            return seen

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            try:
                for _ in range(20):
                    deploy("iris")
                    sleep(0.15)
            finally:
                stop.set()
            assert set.union(*(future.result() for future in asking)) == set(answers)

    def test_the_registry_goes_down(self, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = split(rows())
        before = client.post("/projects/iris/predict", json=asked).json()
        with monkeypatch.context() as away:
            away.setenv("REGISTRY_URL", "postgresql://127.0.0.1:1/away")
            assert client.post("/projects/iris/predict", json=asked).json() == before
            assert client.get("/health").status_code == 200
            refused = client.get("/projects")
        assert refused.status_code == 503
        assert "127.0.0.1:1/away cannot be used" in refused.json()["error"]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:schemathesis")
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # Prefect's threads draw from it meanwhile
def test_what_its_own_description_allows_and_what_not(prefect: str, mlflow_store: Path, mode: GenerationMode) -> None:
    """Requests made up from the OpenAPI document, for any name and for a project that is there: never a 500, and every
    answer is one that the document knows."""
    train("body", "regression", "sklearn:linnerud", ["Weight", "Waist", "Pulse"], algorithms=["linear"])
    schema = schemathesis.openapi.from_asgi("/openapi.json", new_app())
    seen: dict[str, set[int]] = {}

    def check(case: schemathesis.Case) -> None:
        answer = case.call()
        seen.setdefault(case.operation.path, set()).add(answer.status_code)
        case.validate_response(answer, checks=CONFORMS)

    limits = settings(
        max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
    )
    for operation in (result.ok() for result in schema.get_all_operations()):
        for path in ({}, {"path_parameters": {"name": "body"}}) if "{name}" in operation.path else ({},):
            if mode is GenerationMode.POSITIVE or (path and operation.method == "post"):  # only a body can be unlike it
                limits(given(operation.as_strategy(mode, **path))(check))()
    assert len(seen) == (5 if mode is GenerationMode.POSITIVE else 1)
    assert {200, 422} & seen["/projects/{name}/predict"]

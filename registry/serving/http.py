"""Predictions over HTTP: a small FastAPI application around Predictors."""

import gc
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from threading import Lock
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry import queries
from registry.errors import BadRows, FrontrunnerError, InvalidInput, NoProbabilities, NothingDeployed, UnknownProject
from registry.names import checked_name
from registry.serving.batches import Batches
from registry.serving.http_schema import Error, FeatureColumn, Health, Listed, Live, Predictions, Rows
from registry.serving.predictor import Predictor

log = logging.getLogger("frontrunner")

MAX_BYTES = 10_000_000  # of a request
STATUS: dict[type[FrontrunnerError], int] = {
    UnknownProject: 404,
    NothingDeployed: 409,
    InvalidInput: 422,
    NoProbabilities: 422,
}
UNAVAILABLE = 503  # any other error of ours: the registry or the store is away, or a file is not what it was
OPEN = ("/health", "/docs", "/openapi.json")  # without the token: they tell nothing of a project


class Metrics:
    """What Prometheus collects; a project's name is a label only once the project is known to exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "frontrunner_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "frontrunner_predict_seconds", "From a request's rows to its answers.", ["project"], registry=self.registry
        )
        self.rows = Counter(
            "frontrunner_predicted_rows", "Rows that were answered.", ["project"], registry=self.registry
        )
        self.live = Gauge("frontrunner_live_model", "The id of the model.", ["project"], registry=self.registry)


class Predictors:
    """One for each project, made when it is first asked for."""

    def __init__(self, only: str | None, refresh_seconds: float, *, alone: bool) -> None:
        self._only, self._refresh_seconds, self._alone = only, refresh_seconds, alone
        self._made: dict[str, Predictor] = {}
        self._making: dict[str, Lock] = {}
        self.batches: dict[str, Batches] = {}

    def of(self, project_name: str) -> Predictor:
        name = checked_name(project_name)
        if self._only not in (None, name):
            raise UnknownProject(name, [str(self._only)])
        found = self._made.get(name)
        if found is None:
            queries.live_deployment(name)  # raises without a lock: who asks for nothing holds nobody up, nor leaves one
            with self._making.setdefault(name, Lock()):
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = Predictor(name, self._refresh_seconds)
                    if self._alone:
                        # One that looks through all libraries stops every answer, every second under load.
                        gc.collect()
                        gc.freeze()
        return found

    def batches_of(self, project_name: str) -> Batches:
        """The same for what asks it at once."""
        return self.batches.setdefault(project_name, Batches(self.of(project_name)))

    def live(self) -> dict[str, int]:
        """The models that answer, by project."""
        return {name: predictor.model.id for name, predictor in list(self._made.items())}

    def close(self) -> None:
        for predictor in self._made.values():
            predictor.close()


class AuthMiddleware:
    """Outside of all handlers: no body is read without the token or beyond the limit, and every answer is counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None, max_bytes: int) -> None:
        self._app, self._metrics, self._token, self._max_bytes = app, metrics, token, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read, status = 0, 500  # what the server makes of an error that no handler knows

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise HTTPException(413, f"a request has at most {self._max_bytes:,} bytes: send the rows in parts")
            return message

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await (self._app if self._may(scope) else _REFUSED)(scope, limited, counted)
        finally:
            self._metrics.requests.labels(getattr(scope.get("route"), "path", "none"), status).inc()

    def _may(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in OPEN:
            return True
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token.encode())


_REFUSED = JSONResponse(
    {"error": "a token is needed: Authorization: Bearer …"}, 401, headers={"WWW-Authenticate": "Bearer"}
)


def new_app(
    project_name: str | None = None,
    *,
    token: str | None = None,
    refresh_seconds: float = 0.5,
    max_bytes: int = MAX_BYTES,
    alone: bool = False,
) -> FastAPI:
    """The application; `project_name` serves that project alone, `token` is asked of every request but /health.

    With `alone` the process is there for nothing else: garbage collections leave out what has been loaded by a
    project's first request.
    """
    if not refresh_seconds > 0:
        raise InvalidInput(f"refresh_seconds is a number above 0, not {refresh_seconds!r}")
    if token is not None and not (token and token.isascii()):
        raise InvalidInput("the token is ASCII text: not every client could send another")
    only = None if project_name is None else checked_name(project_name)
    predictors, metrics = Predictors(only, refresh_seconds, alone=alone), Metrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        predictors.close()

    app = FastAPI(
        title="Frontrunner",
        description="Predictions of the models that are live. A deploy or a rollback is seen without a restart.",
        version="1",
        lifespan=lifespan,
    )
    app.add_middleware(AuthMiddleware, metrics=metrics, token=token, max_bytes=max_bytes)
    app.add_exception_handler(FrontrunnerError, _ours)
    app.add_exception_handler(RequestValidationError, _unlike)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    # It only describes the token, which Edge asks for.
    bearer = HTTPBearer(auto_error=False, description="FRONTRUNNER_TOKEN of the service.")
    _add_routes(app, only, predictors, metrics, [Depends(bearer)] if token else [])
    return app


def serve(project_name: str | None, host: str, port: int, token: str | None, refresh_seconds: float) -> None:
    """Answers until it is stopped.

    Raises:
        InvalidInput: other machines could ask, and nobody would be asked for a token.
    """
    import uvicorn

    if not token and not _is_loopback(host):
        raise InvalidInput(f"others than this machine could ask at {host}: set FRONTRUNNER_TOKEN, or leave --host out")

    app = new_app(project_name, token=token, refresh_seconds=refresh_seconds, alone=True)
    uvicorn.run(app, host=host, port=port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _add_routes(app: FastAPI, only: str | None, predictors: Predictors, metrics: Metrics, guarded: list[Any]) -> None:
    def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": Error} for status in (*statuses, *([401] if guarded else []))}

    @app.get("/health", tags=["operation"])
    def health() -> Health:
        """That the service is up; neither the registry nor a model is asked."""
        return Health(status="ok")

    @app.get(
        "/metrics",
        tags=["operation"],
        dependencies=guarded,
        response_class=PlainTextResponse,
        responses=documented() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def prometheus() -> Response:
        """Requests, seconds, rows and live models, for Prometheus."""
        for name, model_id in predictors.live().items():
            metrics.live.labels(name).set(model_id)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/projects", tags=["projects"], dependencies=guarded, responses=documented(503))
    def projects() -> list[Listed]:
        """Every project that is served, and what is live in it."""
        return [
            Listed.model_validate(row, from_attributes=True)
            for row in queries.projects()
            if only in (None, row.project_name)
        ]

    # Before the description of a project, whose name may hold slashes.
    @app.post(
        "/projects/{name:path}/predict",
        tags=["projects"],
        dependencies=guarded,
        responses=documented(400, 404, 409, 413, 422, 503),
        response_model=Predictions,
    )
    async def predict(name: str, rows: Rows) -> Response:
        """Answers of the live model, all of one model."""
        batches = predictors.batches.get(name)
        if batches is None:
            batches = await run_in_threadpool(predictors.batches_of, name)
        with metrics.seconds.labels(checked_name(name)).time():
            answers = await _answered(batches, rows)
        metrics.rows.labels(checked_name(name)).inc(len(answers["predictions"]))
        return JSONResponse(answers)  # what we made ourselves is not looked through again

    @app.get("/projects/{name:path}", tags=["projects"], dependencies=guarded, responses=documented(404, 409, 422, 503))
    def project(name: str) -> Live:
        """What is live in a project, and the columns that it was trained on."""
        model, features = predictors.of(name).described()
        columns = [FeatureColumn(name=column, type=kind) for column, kind in features]
        return Live.model_validate({**_fields(model), "features": columns})


async def _answered(batches: Batches, rows: Rows) -> dict[str, Any]:
    """As `Predictions` says."""
    table = rows.table()
    try:
        if rows.params.probabilities:
            model, classes, found = await run_in_threadpool(batches.predictor.answer_proba, table)
            return {"predictions": found.tolist(), "model": _named(model), "classes": classes.tolist()}
        model, found = await batches.answer(table)
        return {"predictions": found.tolist(), "model": _named(model)}
    except FrontrunnerError:
        raise
    except Exception as error:  # what an estimator says of rows that only it cannot take
        log.exception("a prediction for %r failed", batches.predictor.model.project_name)
        reason = " ".join(str(error).split())[:200]
        raise BadRows(f"the model cannot take these rows: {type(error).__name__}: {reason}") from error


def _named(model: Any) -> dict[str, Any]:
    return {"id": model.id, "algorithm": model.algorithm, "seq": model.seq}


def _fields(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in Live.model_fields if name != "features"}


async def _ours(_request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), UNAVAILABLE)
    return JSONResponse({"error": str(error)}, status)


async def _unlike(_request: Request, error: Exception) -> Response:
    """A request of another shape: the first thing that is wrong, and where."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"error": "the body is not JSON"}, 400)
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    said = str(first["msg"]).removeprefix("Value error, ")
    if not where and first["type"] == "model_attributes_type":
        said = "the body is a JSON object, sent with Content-Type: application/json"
    text = f"{where}: {said}" if where else said
    return JSONResponse({"error": " ".join(text.encode("utf-8", "replace").decode().split())[:500]}, 422)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """The server logs it."""
    return JSONResponse({"error": "an unexpected error, which the service's log tells"}, 500)

"""Predictions over HTTP: a small FastAPI application around Predictors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from registry.errors import FrontrunnerError, InvalidInput, NoProbabilities, NothingDeployed, UnknownProject
from registry.names import checked_name
from registry.serving.http_auth import AuthMiddleware
from registry.serving.http_metrics import Metrics
from registry.serving.http_routes import operation_routes, project_routes
from registry.serving.predictors import Predictors

MAX_BYTES = 10_000_000  # of a request
STATUS: dict[type[FrontrunnerError], int] = {
    UnknownProject: 404,
    NothingDeployed: 409,
    InvalidInput: 422,
    NoProbabilities: 422,
}
UNAVAILABLE = 503  # any other error of ours: the registry or the store is away, or a file has changed


def new_app(
    project_name: str | None = None,
    *,
    token: str | None = None,
    refresh_seconds: float = 0.5,
    max_bytes: int = MAX_BYTES,
    alone: bool = False,
) -> FastAPI:
    """Return the application. `project_name` limits it to one project; every request but /health needs `token`.

    Pass `alone=True` where the process does nothing else: garbage collections then leave out what a project's first
    request has loaded.
    """
    if not refresh_seconds > 0:
        raise InvalidInput(f"refresh_seconds is a number above 0, not {refresh_seconds!r}")
    if token is not None and not (token and token.isascii()):
        raise InvalidInput("the token is ASCII text: not every client could send another")
    only = None if project_name is None else checked_name(project_name)
    predictors, metrics = Predictors(only, refresh_seconds, freeze=alone), Metrics()

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
    _add_error_handlers(app)
    # This dependency only describes the token in the OpenAPI document; AuthMiddleware checks it.
    bearer = HTTPBearer(auto_error=False, description="FRONTRUNNER_TOKEN of the service.")
    guarded = [Depends(bearer)] if token else []
    app.include_router(operation_routes(predictors, metrics, guarded))
    app.include_router(project_routes(only, predictors, metrics, guarded))
    return app


def serve(project_name: str | None, host: str, port: int, token: str | None, refresh_seconds: float) -> None:
    """Answer until the process is stopped.

    Raises:
        InvalidInput: other machines could send requests, and no token is required of them.
    """
    if not token and not _is_loopback(host):
        raise InvalidInput(f"refusing to listen on {host} without FRONTRUNNER_TOKEN: set it, or leave --host out")
    app = new_app(project_name, token=token, refresh_seconds=refresh_seconds, alone=True)
    uvicorn.run(app, host=host, port=port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(FrontrunnerError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unexpected_error)


async def _on_our_error(_request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), UNAVAILABLE)
    return JSONResponse({"error": str(error)}, status)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    """Answer with the first thing that is wrong in the request, and where."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"error": "the body is not JSON"}, 400)
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    message = str(first["msg"]).removeprefix("Value error, ")
    if not where and first["type"] == "model_attributes_type":
        message = "the body is a JSON object, sent with Content-Type: application/json"
    text = f"{where}: {message}" if where else message
    return JSONResponse({"error": " ".join(text.encode("utf-8", "replace").decode().split())[:500]}, 422)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _on_unexpected_error(_request: Request, _error: Exception) -> Response:
    """Answer without details; the server logs the error."""
    return JSONResponse({"error": "internal error; see the service's log"}, 500)

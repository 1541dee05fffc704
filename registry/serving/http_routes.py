"""The routes of the HTTP service."""

import logging
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from registry import queries
from registry.errors import BadRows, FrontrunnerError
from registry.names import checked_name
from registry.serving.batches import Batches
from registry.serving.http_metrics import Metrics
from registry.serving.http_schema import Error, FeatureColumn, Health, Listed, Live, Predictions, Rows
from registry.serving.predictors import Predictors

log = logging.getLogger("frontrunner")


def operation_routes(predictors: Predictors, metrics: Metrics, guarded: list[Any]) -> APIRouter:
    """Return /health and /metrics. `guarded` are the dependencies of routes that need the token."""
    router = APIRouter(tags=["operation"])
    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/health")
    def health() -> Health:
        """The service is up; neither the registry nor a model is queried."""
        return Health(status="ok")

    @router.get(
        "/metrics",
        dependencies=guarded,
        response_class=PlainTextResponse,
        responses=_errors(guarded) | text,  # type: ignore[operator]
    )
    def prometheus() -> Response:
        """Requests, seconds, rows and live models, for Prometheus."""
        for name, model_id in predictors.live_models().items():
            metrics.live.labels(name).set(model_id)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def project_routes(only: str | None, predictors: Predictors, metrics: Metrics, guarded: list[Any]) -> APIRouter:
    """Return the routes of projects; `only` is the one project that is served, None for all."""
    router = APIRouter(prefix="/projects", tags=["projects"], dependencies=guarded)

    @router.get("", responses=_errors(guarded, 503))
    def projects() -> list[Listed]:
        """Every project that is served, with its live model."""
        summaries = (row for row in queries.projects() if only in (None, row.project_name))
        return [Listed.model_validate(row, from_attributes=True) for row in summaries]

    # This route comes before the description of a project, because a project's name may contain slashes.
    @router.post(
        "/{name:path}/predict",
        responses=_errors(guarded, 400, 404, 409, 413, 422, 503),
        response_model=Predictions,
    )
    async def predict(name: str, rows: Rows) -> Response:
        """Predictions of the live model, all of the same model."""
        batches = predictors.batches.get(name)
        if batches is None:
            batches = await run_in_threadpool(predictors.batches_of, name)
        with metrics.seconds.labels(checked_name(name)).time():
            answers = await _answers(batches, rows)
        metrics.rows.labels(checked_name(name)).inc(len(answers["predictions"]))
        return JSONResponse(answers)  # sent as it is: FastAPI does not validate a Response

    @router.get("/{name:path}", responses=_errors(guarded, 404, 409, 422, 503))
    def project(name: str) -> Live:
        """The live model of a project, and the columns that it was trained on."""
        model, features = predictors.get(name).describe()
        columns = [FeatureColumn(name=column, type=kind) for column, kind in features]
        fields = {field: getattr(model, field) for field in Live.model_fields if field != "features"}
        return Live.model_validate({**fields, "features": columns})

    return router


def _errors(guarded: list[Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Error} for status in (*statuses, *([401] if guarded else []))}


async def _answers(batches: Batches, rows: Rows) -> dict[str, Any]:
    """Return the body of a `Predictions` answer."""
    table = rows.table()
    try:
        if rows.params.probabilities:
            model, classes, found = await run_in_threadpool(batches.predictor.answer_proba, table)
            return {"predictions": found.tolist(), "model": _model_name(model), "classes": classes.tolist()}
        model, found = await batches.answer(table)
        return {"predictions": found.tolist(), "model": _model_name(model)}
    except FrontrunnerError:
        raise
    except Exception as error:  # whatever an estimator raises for rows that only it cannot take
        log.exception("a prediction for %r failed", batches.predictor.model.project_name)
        reason = " ".join(str(error).split())[:200]
        raise BadRows(f"the model cannot take these rows: {type(error).__name__}: {reason}") from error


def _model_name(model: Any) -> dict[str, Any]:
    return {"id": model.id, "algorithm": model.algorithm, "seq": model.seq}

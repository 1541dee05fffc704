"""The outermost layer of the HTTP service: the token, the size limit and the count of answers."""

import hmac

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.serving.http_metrics import Metrics

OPEN_PATHS = ("/health", "/docs", "/openapi.json")  # no token is needed: they reveal nothing of a project

_UNAUTHORIZED = JSONResponse(
    {"error": "a token is needed: Authorization: Bearer …"}, 401, headers={"WWW-Authenticate": "Bearer"}
)


class AuthMiddleware:
    """Refuse requests without the token or beyond the size limit before their body is read, and count every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None, max_bytes: int) -> None:
        self._app, self._metrics, self._token, self._max_bytes = app, metrics, token, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read, status = 0, 500  # the status that the server sends for an error without a handler

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
            await (self._app if self._is_allowed(scope) else _UNAUTHORIZED)(scope, limited, counted)
        finally:
            self._metrics.requests.labels(getattr(scope.get("route"), "path", "none"), status).inc()

    def _is_allowed(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in OPEN_PATHS:
            return True
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token.encode())

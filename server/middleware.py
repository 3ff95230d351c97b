"""Around every request: an id, a line in the log, a measure, a limit on bodies, and who may call from where.

Plain ASGI. Authorisation looks at the ASGI scope's path only, never at what a client says its path is.
"""

from __future__ import annotations

import re
import secrets
import time
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import problem
from server.logs import told_path
from server.metrics import Metrics
from server.openai import errors as openai_errors
from server.wire.frames import Close

log = structlog.get_logger("sandbox.http")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """Refuses foreign hosts and origins, and bodies over the limit; names and logs every request."""

    def __init__(
        self, app: ASGIApp, *, hosts: tuple[str, ...], origins: tuple[str, ...], max_body: int
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        if why := self._refusal(scope, headers):
            await _refuse(scope, receive, send, why)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._http(scope, receive, send, request_id, headers)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers
    ) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            await _answer(scope, send, 413, f"The body may have {self._max_body:,} bytes.")
            return
        started = time.perf_counter()
        status = 500
        read = 0
        begun = False

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body:
                return {"type": "http.disconnect"}
            return message

        async def noted(message: Message) -> None:
            nonlocal status, begun
            if read > self._max_body and not begun:
                return
            begun = True
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
                self._measure(scope, status, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, limited, noted)
            if read > self._max_body and not begun:
                status = 413
                await _answer(scope, send, 413, f"The body may have {self._max_body:,} bytes.")
        finally:
            log.info(
                "request",
                method=scope["method"],
                path=told_path(scope["path"]),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        metrics: Metrics = scope["app"].state.services.metrics
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.requests.labels(route, method, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request is not let in: a name the server does not have, or a page from elsewhere.

        Any page may send requests to a loopback address; its origin and the name it used give it away.
        """
        host = headers.get("host", "").lower()
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if self._hosts and name not in self._hosts:
            return "The server does not answer to this host name. Its operator can add it to 'hosts'."
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in _SAFE):
            return None
        origin = origin.lower()
        if origin.rstrip("/") in self._origins or (host and _netloc(origin) == host):
            return None
        return "Pages from this origin may not call the server. Its operator can add it to 'origins'."


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets without an address in them
        return None


def loopback_hosts(host: str) -> tuple[str, ...]:
    """The names that a server on loopback answers to."""
    return tuple(dict.fromkeys((*_LOOPBACK, host)))


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    log.info("refused", path=told_path(scope["path"]), why=why)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": int(Close.FORBIDDEN), "reason": why[:120]})
        return
    await _answer(scope, send, 403, why)


async def _answer(scope: Scope, send: Send, status: int, message: str) -> None:
    code = "forbidden" if status == 403 else "too_large"
    if openai_errors.is_meant(scope["path"]):
        response = openai_errors.error_response(openai_errors.ApiError(message, status=status, code=code))
    else:
        response = problem(status, code, message)
    await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})

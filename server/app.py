"""The web application: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from sandbox.errors import SandboxError, StoreError
from sandbox.redaction import Redactor
from sandbox.running import calm_collector
from sandbox.settings import Settings, load_settings, redactor
from server import logs, sockets
from server.errors import error_response
from server.middleware import Guard, loopback_hosts
from server.openai import errors as openai_errors
from server.openai.once import Once
from server.openai.routes import router as openai_router
from server.routes import access, control, operations, pages, sessions
from server.services import assemble
from server.settings import ServerSettings, is_loopback, load_server_settings

log = structlog.get_logger("sandbox.app")
DESCRIPTION = """Societies of language-model agents that answer, rate and revise one another: watched, joined
and questioned live. The live protocol is published at `/api/v1/schema/frames`."""


def create_app(
    settings: Settings, server: ServerSettings, redact: Redactor | None = None, *, keyless: bool
) -> FastAPI:
    """The application. ``keyless`` is for loopback addresses without keys: everybody may do everything."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        calm_collector()
        services = assemble(settings, server, redact or redactor(), keyless=keyless)
        app.state.services = services
        app.state.once = Once()
        await services.open()
        try:
            yield
        finally:
            await app.state.once.close()
            await services.close()

    app = FastAPIOffline(  # the page of calls must come up without a network
        redoc_url=None,
        title="social-sandbox",
        version=version("social-sandbox"),
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    for router in (
        operations.router,
        sessions.router,
        pages.router,
        control.router,
        access.router,
        openai_router,
        sockets.router,
    ):
        app.include_router(router)
    for kind in (SandboxError, RequestValidationError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    hosts = server.hosts or (loopback_hosts(server.host) if is_loopback(server.host) else ())
    if server.origins:
        told = ("x-request-id", "retry-after")
        anything = ("*",)
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.origins,
            allow_methods=anything,
            allow_headers=anything,
            expose_headers=told,
        )
    app.add_middleware(Guard, hosts=hosts, origins=server.origins, max_body=server.max_body_bytes)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    path = logs.told_path(request.scope["path"])
    if isinstance(error, StoreError):
        log.warning("store_unavailable", path=path, error=str(error))
    elif not isinstance(error, SandboxError | RequestValidationError | ValidationError | HTTPException):
        log.error(
            "failed", path=logs.told_path(request.scope["path"]), error=type(error).__name__, exc_info=error
        )
    if openai_errors.is_meant(request.scope["path"]):
        return openai_errors.error_response(error)
    return error_response(error)


def from_environment() -> FastAPI:
    """The application of one of several worker processes: all it needs is in the environment."""
    settings, server = load_settings(), load_server_settings()
    redact = redactor()
    logs.configure(server.log_format, server.log_level, redact)
    return create_app(settings, server, redact, keyless=server.keyless)

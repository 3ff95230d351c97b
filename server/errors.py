"""Errors as HTTP answers of the REST API: ``{"error": {"code", "message"}}``, and the status that fits.

The OpenAI-compatible API has its own form of them (``server.openai.errors``).
"""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from sandbox.errors import ModelError, SandboxError, SessionError, StoreError, StoreFull, UserError
from sandbox.redaction import masked
from server.auth import Forbidden, OverBudget, TooMany, Unauthorized
from server.runs import Result

_STATUS: dict[type[Exception], tuple[int, str]] = {
    Forbidden: (403, "forbidden"),
    OverBudget: (402, "over_budget"),
    SessionError: (409, "refused"),
    UserError: (422, "invalid"),
    ModelError: (502, "model"),
    SandboxError: (500, "internal"),
}
_REFUSED = {"refused": 409, "invalid": 422, "busy": 503, "unavailable": 503}


_WORDS = {
    "json_invalid": "this is no JSON",
    "extra_forbidden": "there is no such field; take it out",
    "missing": "this field is needed",
    "tuple_type": "a list is needed",
    "model_attributes_type": "an object is needed: send JSON, with Content-Type: application/json",
    "union_tag_not_found": "say what it is: there is no 'do', or no 'type'",
    "string_pattern_mismatch": "this is blank, or written in a way that can't be",
}
"""For what pydantic says to programmers only."""
_HTTP = {
    404: "There is nothing at this address. All that there is stands at /docs.",
    405: "This address takes another method. See /docs.",
    400: "The body can't be understood. Send JSON, in UTF-8.",
}


UNAVAILABLE = "The database does not answer. Try again in a moment."
FULL = "The disk of the database is full; nothing more is written. Its operator has to make room."


def away(error: StoreError) -> str:
    """What is told of a database that can't be used: its own text names hosts and paths."""
    return FULL if isinstance(error, StoreFull) else UNAVAILABLE


class Fault(BaseModel):
    """What went wrong: ``code`` is for programs, ``message`` for people."""

    code: str
    message: str


class Faulty(BaseModel):
    """An error's answer."""

    error: Fault


TOLD: dict[int | str, dict[str, Any]] = {"4XX": {"model": Faulty, "description": "What went wrong"}}


class NotFound(SessionError):
    """There is no such session, interaction or message."""


class Refused(SandboxError):
    """A command that was not carried out, with its code."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.code = result.code or "refused"


def problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error's answer. What was sent may be quoted in it, keys in wrong places must not."""
    return _told(status, code, masked(message), headers)


def _told(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def error_response(error: Exception) -> JSONResponse:
    """The answer to an error; of what is not made on purpose it tells nothing."""
    match error:
        case HTTPException():
            told = _HTTP.get(error.status_code, str(error.detail))
            return problem(error.status_code, "http", told, dict(error.headers or {}))
        case RequestValidationError() | ValidationError():
            return _told(422, "invalid", said(error))
        case NotFound():
            return problem(404, "not_found", str(error))
        case Refused():
            return problem(_REFUSED.get(error.code, 502), error.code, str(error))
        case TooMany():
            return problem(429, "too_many", str(error), {"Retry-After": f"{error.retry_after:.0f}"})
        case Unauthorized():
            return problem(401, "unauthorized", str(error), {"WWW-Authenticate": "Bearer"})
        case StoreError():  # its text names hosts and paths: that is for the log
            return problem(503, "unavailable", away(error), {"Retry-After": "2"})
    for kind, (status, code) in _STATUS.items():
        if isinstance(error, kind):
            return problem(status, code, str(error))
    return problem(500, "internal", "The server failed. Its log says more, under this request's id.")


def said(error: RequestValidationError | ValidationError) -> str:
    """A validation error in words, one line a fault, without echoing what was sent.

    Each part is masked by itself: a field may be called key, and what is said of it is no secret.
    """
    lines = []
    for fault in error.errors()[:10]:
        where = ".".join(str(part) for part in fault["loc"] if part != "body") or "the request"
        what = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        lines.append(f"{masked(where)}: {masked(what)}")
    return "\n".join(lines)

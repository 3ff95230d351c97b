"""Errors in OpenAI's shape: ``{"error": {message, type, param, code}}``, whatever went wrong. Pure.

::

    400 invalid_request_error    the request, or a prompt that does not fit (context_length_exceeded)
    401, 403, 404                the key, what it may do, the model
    402 insufficient_quota       the key's budget, or the session's
    409, 429                     run elsewhere; too many requests (with Retry-After)
    502, 503, 504                the model behind the seat, or the database
"""

from __future__ import annotations

import re

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from sandbox.errors import (
    BudgetExhausted,
    MissingExtra,
    ModelError,
    SandboxError,
    SessionError,
    StoreError,
    UserError,
)
from sandbox.redaction import masked
from sandbox.text import storable
from server.auth import Forbidden, OverBudget, TooMany, Unauthorized
from server.errors import away

_INVALID = "invalid_request_error"
_FAILED = "api_error"
_QUOTA = "insufficient_quota"
_KINDS: dict[str, tuple[int, str, str]] = {
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "timeout": (504, _FAILED, "model_timeout"),
    "unavailable": (503, _FAILED, "model_unavailable"),
    "context_overflow": (400, _INVALID, "context_length_exceeded"),
    "refused": (502, _FAILED, "model_refused"),
    "empty": (502, _FAILED, "empty_reply"),
    "abstained": (503, _FAILED, "seat_empty"),
    "budget": (402, _QUOTA, _QUOTA),
}


NOTHING = (
    "There is nothing at this address. The base URL of this API ends with /v1, without a slash after it: "
    "http://HOST:PORT/v1"
)
_ENDPOINT = re.compile(r"/(?:chat/completions|completions|embeddings|responses|models)(?:/.*)?")


def is_meant(path: str) -> bool:
    """Whether a path is of this API, or was meant to be: without ``/v1``, or with a slash too many."""
    plain = re.sub(r"/+", "/", path)
    return bool(plain == "/v1" or plain.startswith("/v1/") or _ENDPOINT.fullmatch(plain))


class ApiError(SandboxError):
    """An error that knows how it is told."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = _INVALID,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code


def no_model(name: str, why: str) -> ApiError:
    """There is no model of this name."""
    return ApiError(
        f"The model '{name[:200]}' does not exist: {why}", status=404, param="model", code="model_not_found"
    )


def unsupported(param: str, why: str) -> ApiError:
    """A parameter that can't be honoured, and would change the answer if it were."""
    return ApiError(why, param=param, code="unsupported_parameter")


def failed_turn(kind: str, detail: str) -> ApiError:
    """A model's failure, by its kind on record."""
    status, type_, code = _KINDS.get(kind, (502, _FAILED, "model_failed"))
    return ApiError(detail or "The model gave no answer.", status=status, type=type_, code=code)


def error_body(error: Exception) -> dict[str, object]:
    """What an error is told as, in a response or in a stream."""
    told = _told(error)
    fields = {
        "message": masked(storable(str(told))),
        "type": told.type,
        "param": told.param,
        "code": told.code,
    }
    return {"error": fields}


def error_response(error: Exception) -> JSONResponse:
    """The answer to an error; of what is not made on purpose it tells nothing."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    status = _told(error).status
    wait = getattr(error, "retry_after", None)
    if status == 429:
        headers["Retry-After"] = f"{max(wait or 1.0, 1.0):.0f}"
    return JSONResponse(error_body(error), status, headers)


def _told(error: Exception) -> ApiError:  # noqa: C901 - one case a kind of error
    said = str(error)
    match error:
        case ApiError():
            return error
        case Unauthorized():
            return ApiError(said, status=401, type="authentication_error", code="invalid_api_key")
        case Forbidden():
            return ApiError(said, status=403, type="permission_error", code="forbidden")
        case TooMany():
            return ApiError(said, status=429, type="rate_limit_error", code="rate_limit_exceeded")
        case OverBudget() | BudgetExhausted():
            return ApiError(said, status=402, type=_QUOTA, code=_QUOTA)
        case ModelError():
            return failed_turn(error.kind, said)
        case MissingExtra():
            return ApiError(said, status=501, type=_FAILED, code="not_installed")
        case SessionError():
            return ApiError(said, status=409, code="conflict")
        case UserError():
            return ApiError(said)
        case StoreError():
            return ApiError(away(error), status=503, type=_FAILED, code="unavailable")
        case RequestValidationError() | ValidationError():
            return _invalid(error)
        case HTTPException():
            kind = _INVALID if error.status_code < 500 else _FAILED
            what = {404: NOTHING, 405: "This address takes another method."}
            said = what.get(error.status_code, str(error.detail))
            return ApiError(said, status=error.status_code, type=kind)
    return ApiError("The server failed. Its log says more.", status=500, type="server_error")


def _invalid(error: RequestValidationError | ValidationError) -> ApiError:
    """The first fault of a body that was not understood, without echoing what was sent."""
    faults = error.errors()
    if not faults:
        return ApiError("The request can't be understood.")
    first = faults[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return ApiError("The body is not JSON.", code="invalid_json")
    where = storable(".".join(place))[:200]
    said = str(first["msg"]).removeprefix("Value error, ")
    if not where:
        return ApiError(f"The body must be a JSON object, sent as application/json. {said}.")
    return ApiError(f"{where}: {said}.", param=where)

"""The parts of the OpenAI chat protocol that requests need. Pure."""

from __future__ import annotations

import math
from typing import Any

from sandbox.exchange import Request
from sandbox.rubric import Scale

_OVERFLOW = (
    "context length",
    "context_length",
    "maximum context",
    "too many tokens",
    "context window",
    "exceed_context",
)


def sampling_fields(request: Request) -> dict[str, Any]:
    """The request's sampling as fields of the protocol."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed % 2**31,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    return fields


def rating_schema(scale: Scale, reason: bool) -> dict[str, Any]:
    """A ``response_format`` for ``{"reason": "...", "rating": n}``; what comes first is thought of first."""
    properties: dict[str, Any] = {"reason": {"type": "string"}} if reason else {}
    properties["rating"] = {"type": "integer", "enum": list(scale.values)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "rating", "strict": True, "schema": schema}}


def says_overflow(status: object, text: str) -> bool:
    """Whether an error means that the prompt was too long; providers have many words for it."""
    return status in (400, 413, 422) and any(words in text.lower() for words in _OVERFLOW)


def retry_after(header: str | None) -> float | None:
    """The seconds of a ``Retry-After`` header; None for its other form, a date, and for nonsense."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None

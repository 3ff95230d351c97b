"""The parts of the OpenAI chat protocol that requests need. Pure."""

from __future__ import annotations

from typing import Any

from sandbox.exchange import Request
from sandbox.rubric import Scale


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

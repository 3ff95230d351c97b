"""The parts of the OpenAI chat protocol that requests need. Pure."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandbox.exchange import ChatMessage, Request
from sandbox.rubric import Scale
from sandbox.text import storable

_OVERFLOW = (
    "context length",
    "context_length",
    "maximum context",
    "too many tokens",
    "context window",
    "exceed_context",
)


def sampling_fields(request: Request) -> dict[str, Any]:
    """The request's sampling, and its tools, as fields of the protocol."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed % 2**31,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    return fields | dict(request.tools or {})


def wire_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as the protocol has them, calls of tools and their results among them."""
    return [{"role": m.role, "content": m.content, **(m.wire or {})} for m in messages]


def bound(messages: Sequence[ChatMessage], *more: object) -> int:
    """A bound on the tokens of a prompt, and of what is sent with it: none is shorter than a byte, and each
    message has a frame."""
    said = sum(len(m.content.encode()) + 16 + (len(str(m.wire).encode()) if m.wire else 0) for m in messages)
    return said + sum(len(str(one).encode()) for one in more if one)


def calls_in(message: object) -> tuple[dict[str, Any], ...]:
    """The calls of tools that a reply holds, complete: each with an id, a name and arguments as text.

    ``message`` is the protocol's, as mapping. What is no call is left out.
    """
    given = message.get("tool_calls") if isinstance(message, Mapping) else None
    calls = []
    for call in given if isinstance(given, list) else []:
        function = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            continue
        arguments = function.get("arguments")
        told = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
        calls.append(
            {
                "id": str(call.get("id") or f"call_{secrets.token_hex(12)}"),
                "type": "function",
                "function": {"name": storable(name), "arguments": storable(told) or "{}"},
            }
        )
    return tuple(calls)


def joined_calls(deltas: Iterable[object]) -> list[dict[str, Any]]:
    """The calls that a stream tells in pieces, by their index."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        if not isinstance(delta, Mapping):
            continue
        index = delta.get("index")
        place = index if isinstance(index, int) else len(calls)
        call = calls.setdefault(place, {"id": "", "function": {"name": "", "arguments": ""}})
        call["id"] = delta.get("id") or call["id"]
        function = delta.get("function")
        if isinstance(function, Mapping):
            held = call["function"]
            held["name"] = function.get("name") or held["name"]
            more = function.get("arguments")
            held["arguments"] += more if isinstance(more, str) else json.dumps(more) if more else ""
    return [calls[place] for place in sorted(calls)]


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

"""Chat completions: their whole form and their stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from server.openai.errors import error_body
from server.openai.speaking import Choice, Note, Piece, Spoken

DONE = "data: [DONE]\n\n"


def event(body: dict[str, Any], name: str | None = None) -> str:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


class Chat:
    """One chat completion, under one id."""

    def __init__(self, model: str, n: int = 1, *, include_usage: bool = False) -> None:
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        self._n = n
        self._include_usage = include_usage

    def whole(self, spoken: Spoken) -> dict[str, Any]:
        """All of it at once."""
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [_choice(index, choice) for index, choice in enumerate(spoken.choices)],
            "usage": spoken.usage,
            "sandbox": dict(spoken.note),
        }

    def start(self) -> Iterator[str]:
        """The roles."""
        for index in range(self._n):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> Iterator[str]:
        """New text."""
        yield self._chunk(piece.choice, {"content": piece.text} if piece.text else {}, note=piece.note)

    def idle(self) -> Iterator[str]:
        """Nothing new."""
        yield self._chunk(0, {})

    def end(self, spoken: Spoken) -> Iterator[str]:
        """Why each choice ended, what it took if asked for, and the end."""
        for index, choice in enumerate(spoken.choices):
            if choice.calls:
                calls = [{"index": place, **call} for place, call in enumerate(choice.calls)]
                yield self._chunk(index, {"tool_calls": calls})
            yield self._chunk(index, {}, choice.finish, spoken.note)
        if self._include_usage:
            yield event(self._outer([]) | {"usage": spoken.usage})
        yield DONE

    def failed(self, error: Exception) -> Iterator[str]:
        """What went wrong, and the end."""
        yield event(error_body(error))
        yield DONE

    def _chunk(
        self, index: int, delta: dict[str, Any], finish: str | None = None, note: Note | None = None
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(self._outer([choice]) | ({"sandbox": dict(note)} if note else {}))

    def _outer(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"usage": None} if self._include_usage else {}
        return {**self._head, "object": "chat.completion.chunk", "choices": choices, **usage}


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": list(choice.calls)}
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": choice.finish,
    }

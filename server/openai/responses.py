"""Responses (text only): their whole form and their stream. Nothing is stored."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from server.openai.chat import event
from server.openai.errors import error_body
from server.openai.speaking import Piece, Spoken
from server.openai.wire import ResponseRequest


class Responded:
    """One response, under one id."""

    def __init__(self, body: ResponseRequest) -> None:
        self._id = f"resp_{secrets.token_hex(16)}"
        self._item_id = f"msg_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._body = body
        self._number = -1
        self._text = ""

    def whole(self, spoken: Spoken, text: str | None = None) -> dict[str, Any]:
        """All of it at once."""
        choice = spoken.choices[0]
        cut = choice.finish == "length"
        status = "incomplete" if cut else "completed"
        usage = {
            "input_tokens": spoken.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": spoken.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": spoken.prompt_tokens + spoken.completion_tokens,
        }
        item = self._item(status, [_part(choice.text if text is None else text)])
        response = self._response(status, [item]) | {"usage": usage, "sandbox": dict(spoken.note)}
        if cut:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    def start(self) -> Iterator[str]:
        """It exists, and a message in it, with a text that is empty so far."""
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress", []))
        yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def piece(self, piece: Piece) -> Iterator[str]:
        """New text."""
        if piece.text or piece.note:
            self._text += piece.text
            note = {"sandbox": dict(piece.note)} if piece.note else {}
            yield self._delta(piece.text, **note)

    def idle(self) -> Iterator[str]:
        """Nothing new."""
        yield self._delta("")

    def end(self, spoken: Spoken) -> Iterator[str]:
        """The text, the message and the response are done."""
        whole = self.whole(spoken, self._text)
        item = whole["output"][0]
        yield self._event("response.output_text.done", **self._place(), text=self._text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=item["content"][0])
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event(f"response.{whole['status']}", response=whole)

    def failed(self, error: Exception) -> Iterator[str]:
        """What went wrong."""
        told: Any = error_body(error)["error"]
        why = {"code": told["code"] or "server_error", "message": told["message"]}
        yield self._event("response.failed", response=self._response("failed", []) | {"error": why})

    def _delta(self, text: str, **more: Any) -> str:
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[], **more)

    def _event(self, type: str, **fields: Any) -> str:
        self._number += 1
        return event({"type": type, "sequence_number": self._number, **fields}, type)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        body = self._body
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

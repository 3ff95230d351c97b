"""What the endpoints that generate text have in common: pieces on the way, the whole at the end. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox.exchange import Reply, Usage
from sandbox.text import is_blank

Note = Mapping[str, Any]
"""What is told in the field ``sandbox``."""


class Piece(NamedTuple):
    """New text of one choice; ``note`` says more about it. Without text it tells only the note."""

    choice: int
    text: str
    note: Note | None = None


class Choice(NamedTuple):
    """One whole reply. ``logprobs`` are in the form of the endpoint; ``calls`` are of tools."""

    text: str
    finish: str = "stop"
    logprobs: dict[str, Any] | None = None
    calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """Everything that was said, and what it took."""

    choices: tuple[Choice, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    note: Note = field(default_factory=dict)

    @property
    def usage(self) -> dict[str, Any]:
        """What it took, as most endpoints tell it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


Emit = Callable[[Piece], None]
Speak = Callable[[Emit], Awaitable[Spoken]]
"""Generates; what has no pieces on the way emits none, and the whole is made up for at the end."""


def finish_of(reply: Reply | Usage | None) -> str:
    """Why a reply ended, in the API's words."""
    usage = reply.usage if isinstance(reply, Reply) else reply
    finish = usage.finish if usage else "stop"
    if isinstance(reply, Reply) and reply.calls and finish != "length":
        return "tool_calls"
    return finish if finish in ("stop", "length", "content_filter") else "stop"


def rest_of(said: str, whole: str) -> str:
    """What of a whole reply has not been said in pieces."""
    if whole.startswith(said):
        return whole[len(said) :]
    return whole if is_blank(said) else ""


def ignore(_: Piece) -> None:
    """Nobody waits for pieces."""

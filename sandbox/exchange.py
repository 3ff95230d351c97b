"""What is asked of a seat and what comes back: the value types between the pure core and the models.

Pure. A ``Request`` is complete (the model needs nothing else); a reply is either a ``Reply`` or a
``Failure``, never an invented text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from sandbox.ratings import Rating, Unparsed
from sandbox.rubric import Scale

Role = Literal["system", "user", "assistant"]
Purpose = Literal["draft", "rate", "revise", "observe", "chat"]
FailureKind = Literal[
    "rate_limited",
    "unavailable",
    "timeout",
    "empty",
    "context_overflow",
    "refused",
    "abstained",
    "budget",
    "error",
]


class ChatMessage(NamedTuple):
    """One message of a prompt.

    ``wire`` are the fields of the OpenAI protocol that make it a call of tools, or a tool's result, for
    models that call tools; for others it is what ``role`` and ``content`` say.
    """

    role: Role
    content: str
    wire: Mapping[str, Any] | None = None


class Sampling(NamedTuple):
    """How a reply is generated. ``temperature`` 0 is greedy; ``max_tokens`` bounds the reply."""

    max_tokens: int = 128
    temperature: float = 0.7
    top_p: float = 0.95
    stop: tuple[str, ...] = ()


class Subject(NamedTuple):
    """What a request is about, apart from the words of its prompt: for people, who see no prompts.

    ``text`` is what is to be rated (the message ``target``) or revised; ``mean`` and ``reasons`` are what
    the raters said of it.
    """

    question: str = ""
    text: str = ""
    target: str = ""
    dimension: str = ""
    author: str = ""
    mean: float | None = None
    reasons: tuple[str, ...] = ()


class Request(NamedTuple):
    """One question to one seat.

    ``step`` names the request within its interaction. With a ``scale``, a rating is wanted: models
    that can give it by likelihood or as structured output do so. ``form`` names the fields of the
    reply, (rating, reason), the reason empty when none is wanted; ``method`` "text" has it read from words.
    ``format`` is a ``response_format`` of the OpenAI protocol, for models that take one, and ``tools`` its
    fields about tools.
    """

    step: str
    seat: str
    purpose: Purpose
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    seed: int = 0
    scale: Scale | None = None
    form: tuple[str, str] = ("Rating", "")
    method: Literal["best", "text"] = "best"
    subject: Subject = Subject()
    format: Mapping[str, Any] | None = None
    tools: Mapping[str, Any] | None = None


class Usage(BaseModel):
    """What a model call took. Costs are US dollars; ``trimmed`` counts prompt tokens cut to fit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    latency_ms: float = 0.0
    attempts: int = 1
    trimmed: int = 0
    finish: str = "stop"


class Reply(NamedTuple):
    """A model's or a person's answer; ``rating`` is set when it did not have to be read from the text.

    A person's answer names the ``person``, and took no call. ``calls`` are the tools that a model wants
    called, as the OpenAI protocol tells them.
    """

    text: str
    rating: Rating | Unparsed | None = None
    usage: Usage = Usage()
    person: str | None = None
    calls: tuple[Mapping[str, Any], ...] = ()


class Failure(NamedTuple):
    """A failed turn: it is recorded as such, and the society goes on without it."""

    kind: FailureKind
    detail: str
    usage: Usage = Usage(attempts=0, finish="error")
    person: str | None = None


Outcome = Reply | Failure


class Answered(NamedTuple):
    """The outcome of the request called ``step``."""

    step: str
    outcome: Outcome

"""The bodies of requests, and the reading of their messages. Pure. Fields that are not known are ignored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from sandbox.exchange import ChatMessage, Role
from sandbox.models.openai_wire import calls_in
from sandbox.text import is_blank, storable, storable_in
from server.openai.errors import ApiError, unsupported

MOST_TOKENS = 4096
"""A reply is never longer; who asks for more gets this."""
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
SEPARATOR = "\n\n--- revised ---\n\n"
"""Between draft and revision in a stream's text."""
_SEPARATOR = re.compile(r"\n[^\S\n]*--- revised ---[^\S\n]*(?:\n|\Z)")
Number = Annotated[float, Field(allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1)]
Content = str | list[str | dict[str, Any]] | None


_SCHEMA = ("name", "description", "schema", "strict")


class Form(NamedTuple):
    """A form that a reply must have: a ``response_format``, and the parameter that asked for it."""

    param: str
    format: dict[str, Any]


class Tools(NamedTuple):
    """Tools that are offered: the protocol's fields, and whether a call is demanded."""

    fields: dict[str, Any]
    demanded: bool


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Options(_Body):
    """Our own extension, the field ``sandbox``: who drafts, whether it is recorded, and whether a stream
    holds the draft as well (None: as the server's settings and the model's id say)."""

    seat: str | None = Field(default=None, max_length=64)
    record: bool = False
    draft: bool | None = None


class StreamOptions(_Body):
    """What a stream ends with."""

    include_usage: bool | None = None


class MessageIn(_Body):
    """One message of a talk. Its content is text, parts of text, or nothing; ``name`` says who speaks."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None

    @property
    def wire(self) -> dict[str, Any] | None:
        """What makes it a call of tools, or a tool's result, for models that know such."""
        if self.role == "assistant" and (calls := calls_in({"tool_calls": storable_in(self.tool_calls)})):
            return {"tool_calls": list(calls)}
        if self.role == "tool" and self.tool_call_id:
            return {"role": "tool", "tool_call_id": storable(self.tool_call_id)}
        return None


class _Sampled(_Body):
    model: str = Field(min_length=1, max_length=500)
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    stream: bool | None = None
    sandbox: Options | None = None

    @property
    def options(self) -> Options:
        """Our own extension, or what it is by default."""
        return self.sandbox or Options()


class ChatRequest(_Sampled):
    """The body of a chat completion."""

    messages: list[MessageIn] = Field(min_length=1, max_length=2000)
    n: int | None = Field(default=None, ge=1, le=8)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None

    def check(self) -> None:
        """Raise ``ApiError`` for what would change the answer and can't be honoured."""
        if self.logprobs:
            raise unsupported(
                "logprobs",
                "Chat completions have no logprobs. Seats with local models give them at /v1/completions.",
            )
        if self.functions and self.function_call not in (None, "auto", "none"):
            raise unsupported("function_call", "Functions are called as 'tools' here. Send them so.")
        if self.modalities and set(self.modalities) != {"text"}:
            raise unsupported("modalities", "Seats answer in text only.")

    @property
    def format(self) -> Form | None:
        """The form that is wanted; None for plain text. Raises ``ApiError``."""
        return _format("response_format", self.response_format)

    @property
    def offered(self) -> Tools | None:
        """The tools that may be called; None without any. Raises ``ApiError`` for a choice of none there."""
        return _tools(self.tools, self.tool_choice, self.parallel_tool_calls)

    @property
    def tokens(self) -> int | None:
        """The most tokens that are wanted, under either name."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(_Sampled):
    """The body of a completion without a chat: text or token ids, one or several."""

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    n: int | None = Field(default=None, ge=1, le=8)
    best_of: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=0)
    stop: str | list[str] | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    suffix: str | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each text or token ids. Raises ``ApiError`` for none, or too many."""
        given: Any = self.prompt
        if isinstance(given, str) or (given and isinstance(given[0], int)):
            given = [given]
        if not given:
            raise ApiError("prompt holds nothing. Send a text, or a list of them.", param="prompt")
        if len(given) > 256:
            raise ApiError("A request may have 256 prompts.", param="prompt")
        return list(given)


class EmbeddingRequest(_Body):
    """The body of a request for embeddings; ``input`` is read by hand, for the sake of its errors."""

    model: str = Field(min_length=1, max_length=500)
    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class ResponseRequest(_Sampled):
    """The body of a response."""

    input: str | list[dict[str, Any]] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    text: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    stop: str | list[str] | None = None

    def check(self) -> None:
        """Raise ``ApiError`` for what would change the answer and can't be honoured."""
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name):
                raise unsupported(
                    name, "No response is stored here. Send the whole conversation as 'input' each time."
                )
        if self.background:
            raise unsupported("background", "Responses are answered at once; leave out 'background'.")
        if self.tools and self.tool_choice not in (None, "auto", "none"):
            raise unsupported(
                "tool_choice",
                "Tools are called at /v1/chat/completions. Here none can be required: leave the choice out, "
                "or set it to 'auto'.",
            )

    @property
    def format(self) -> Form | None:
        """The form that is wanted; None for plain text. Raises ``ApiError``."""
        return _format("text.format", (self.text or {}).get("format"))

    def messages(self) -> tuple[ChatMessage, ...]:
        """The conversation, ``instructions`` first. Raises ``ApiError``."""
        given = [MessageIn(role="system", content=self.instructions)] if self.instructions else []
        items = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        for place, item in enumerate(items):
            given += _item(item, f"input.{place}")
        return conversation(given, "input", offset=-1 if self.instructions else 0)


def conversation(given: Sequence[MessageIn], param: str, offset: int = 0) -> tuple[ChatMessage, ...]:
    """The messages as models take them; those in which nothing is said are left out, but for tools' results.

    Where several people speak, by ``name``, each of their messages begins with who speaks. What an assistant
    had rejected (a draft before its revision) is not told again. Raises ``ApiError`` for parts that are no
    text, when nothing is left or the last message is blank, and for a reply that is to be continued.
    """
    speakers = {message.name for message in given if message.role == "user"}
    read = []
    for place, message in enumerate(given, offset):
        text = text_of(message.content, f"{param}.{place}.content")
        if message.role == "assistant":
            text = answer_in(text)
        wire = message.wire
        if is_blank(text) and wire is None and message.role not in ("tool", "function"):
            if message.role == "user" and message is given[-1]:
                raise ApiError(
                    "Nothing in this message can be seen. Send a text.", param=f"{param}.{place}.content"
                )
            continue
        if message.role == "user" and len(speakers) > 1 and not is_blank(message.name or ""):
            text = f"{storable(message.name or '')}: {text}"
        read.append(ChatMessage(_ROLES[message.role], text, wire))
    if not read:
        raise ApiError("The messages hold no text.", param=param)
    if read[-1].role == "assistant":
        raise ApiError(
            "The last message is the assistant's, and replies are not continued here. End with a user's.",
            param=param,
            code="unsupported_prefill",
        )
    return tuple(read)


def without_calls(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages for a model that calls no tools: a result is said to it, a mere call left out."""
    said = (m for m in messages if m.role != "assistant" or not is_blank(m.content))
    return tuple(message._replace(wire=None) for message in said)


def answer_in(text: str) -> str:
    """What stands after the last separator in a society's text: the revision without its draft."""
    before, *parts = _SEPARATOR.split(text)
    said = [part for part in parts if not is_blank(part)]
    return said[-1].lstrip("\n") if said else before.rstrip("\n") if parts else text


def text_of(content: Content, where: str) -> str:
    """The text of a message's content. Raises ``ApiError`` for a part that is none."""
    if content is None or isinstance(content, str):
        return storable(content or "")
    texts = []
    for place, part in enumerate(content):
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        kind = part.get("type")
        text = part.get(_TEXTS.get(kind, "")) if isinstance(kind, str) else None
        if not isinstance(text, str):
            what = kind if isinstance(kind, str) and kind not in _TEXTS else "unknown"
            raise ApiError(
                f"Seats read text only; this part is of the kind '{storable(what)[:40]}'. Send it as text.",
                param=f"{where}.{place}",
                code="unsupported_content",
            )
        texts.append(text)
    return storable("\n".join(texts))


def question_of(messages: Sequence[ChatMessage]) -> str:
    """The last that a user said; what was said before it stands above, as a transcript.

    Raises ``ApiError`` if no user said anything.
    """
    last = max((place for place, m in enumerate(messages) if m.role == "user"), default=-1)
    if last < 0 or is_blank(messages[last].content):
        raise ApiError("A society is asked what the last user message says; there is none.", param="messages")
    if last == 0:
        return messages[0].content
    return "\n\n".join(f"{m.role.title()}: {m.content}" for m in messages[: last + 1])


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """The texts that end a reply. Raises ``ApiError`` for too many."""
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > 16:
        raise ApiError("A reply may have 16 stop texts.", param="stop")
    return tuple(text for text in stops if text)


def _item(item: dict[str, Any], where: str) -> list[MessageIn]:
    """One item of a response's input as messages; reasoning is nobody else's."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return []
    if kind == "function_call_output":
        return [MessageIn(role="tool", content=_content(item.get("output"), where))]
    if kind != "message" or item.get("role") not in _ROLES:
        raise ApiError(
            "Input items are messages, with a role and text.", param=where, code="unsupported_content"
        )
    return [MessageIn(role=item["role"], content=_content(item.get("content"), where))]


def _content(content: Any, where: str) -> Content:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, str | dict) for part in content):
        return content
    raise ApiError("A message's content is text, or a list of parts.", param=where)


def _tools(tools: list[Any] | None, choice: Any, parallel: bool | None) -> Tools | None:
    if not tools:
        return None
    fields: dict[str, Any] = {"tools": storable_in(tools)}
    if choice is not None:
        fields["tool_choice"] = storable_in(choice)
    if parallel is not None:
        fields["parallel_tool_calls"] = parallel
    return Tools(fields, choice not in (None, "auto", "none"))


def _format(param: str, wanted: Any) -> Form | None:
    """The form that a reply must have, as the chat protocol says it. Raises ``ApiError`` for one unknown."""
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return Form(param, {"type": kind})
    if kind != "json_schema":
        raise unsupported(param, "The formats are text, json_object and json_schema.")
    schema = wanted.get("json_schema") or {key: wanted[key] for key in _SCHEMA if key in wanted}
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        raise ApiError("json_schema needs a 'schema', which is an object.", param=param)
    return Form(param, {"type": kind, "json_schema": storable_in(schema)})

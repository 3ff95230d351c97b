"""A thin path to one OpenAI-compatible endpoint: ``openai/URL/MODEL[?context=TOKENS][&structured=1]``.

For local servers (vLLM, llama.cpp, Ollama) and proxies, where LiteLLM's cost a call is most of the work.
It knows no prices; retries and limits are wrappers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from sandbox.errors import (
    ContextOverflow,
    EmptyReply,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    SocietyError,
)
from sandbox.exchange import ChatMessage, Reply, Request, Usage
from sandbox.models.base import OnDelta, spoken
from sandbox.models.context import trim
from sandbox.models.openai_wire import (
    calls_in,
    joined_calls,
    rating_schema,
    retry_after,
    sampling_fields,
    says_overflow,
    wire_messages,
)
from sandbox.ratings import read_structured
from sandbox.redaction import Redactor

_SHRINK = 0.6
_Said = tuple[str, tuple[dict[str, Any], ...], str, Mapping[str, Any]]
"""A reply's text, the calls in it, why it ended, and what it took."""
_BUFFER = 2**23  # a line of a stream may be twice as long


class DirectModel:
    """One model of one endpoint. ``key`` is sent as a bearer token, if there is one."""

    def __init__(
        self,
        base: str,
        name: str,
        sessions: HttpSessions,
        redact: Redactor,
        *,
        key: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        given = dict(options or {})
        self._url = f"{base}/chat/completions"
        self._name = name
        self._sessions = sessions
        self._redact = redact
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._window = _whole(given.pop("context", "0"))
        self._structured = given.pop("structured", "0") == "1"
        if given:
            raise SocietyError(
                f"openai/ models have no option '{min(given)}'. They have: context, structured."
            )

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """One call; a prompt that proves too long is cut and sent again. Raises ``ModelError``."""
        messages: Sequence[ChatMessage] = request.messages
        trimmed = 0
        if self._window:
            messages, trimmed = trim(messages, self._window - request.sampling.max_tokens, count_roughly)
        for _ in range(3):
            try:
                return await self._call(request, messages, trimmed, on_delta)
            except ContextOverflow:
                limit = int(count_roughly(messages) * _SHRINK)
                messages, cut = trim(messages, limit, count_roughly)
                trimmed += cut
        return await self._call(request, messages, trimmed, on_delta)

    async def _call(
        self, request: Request, messages: Sequence[ChatMessage], trimmed: int, on_delta: OnDelta | None
    ) -> Reply:
        structured = self._structured and request.scale is not None and request.method == "best"
        body: dict[str, Any] = {
            "model": self._name,
            "messages": wire_messages(messages),
            **sampling_fields(request),
        }
        if structured and request.scale:
            body["response_format"] = rating_schema(request.scale, bool(request.form[1]))
        if request.format is not None:
            body["response_format"] = dict(request.format)
        if on_delta:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        try:
            session = self._sessions.session()
            async with session.post(
                self._url, json=body, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    said = await response.text(errors="replace")
                    raise self._refused(response.status, said, response.headers)
                text, calls, finish, used = await (
                    self._streamed(response, on_delta) if on_delta else _whole_reply(response)
                )
        except TimeoutError as error:
            raise ModelTimeout(f"{self._name}: no reply in time.") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(
                self._redact(f"{self._name}: {str(error) or type(error).__name__}")
            ) from None
        except (ValueError, RecursionError, HttpProcessingError) as error:
            raise ModelUnavailable(f"{self._name}: the endpoint's reply is not of the protocol.") from error
        if finish == "content_filter" and not text:
            raise ModelRefused(f"{self._name}: the endpoint's content filter stopped the reply.")
        said = text if calls else spoken(text, request.purpose)
        usage = Usage(
            model=f"openai/{self._name}",
            prompt_tokens=_tokens(used, "prompt_tokens"),
            completion_tokens=_tokens(used, "completion_tokens"),
            latency_ms=round((time.perf_counter() - started) * 1000, 1),
            trimmed=trimmed,
            finish=finish,
        )
        rating = read_structured(said, request.scale) if structured and request.scale else None
        return Reply(said, rating, usage, calls=calls)

    def _refused(self, status: int, text: str, headers: Mapping[str, str]) -> ModelError:
        # Redacted before it is cut: half a key is not recognised.
        message = f"{self._name}: HTTP {status}: {self._redact(text[:20_000])[:500]}"
        if status == 429:
            return RateLimited(message, retry_after=retry_after(headers.get("Retry-After")))
        if status in (408, 504):
            return ModelTimeout(message)
        if status >= 500:
            return ModelUnavailable(message)
        return ContextOverflow(message) if says_overflow(status, text) else ModelRefused(message)

    async def _streamed(self, response: aiohttp.ClientResponse, on_delta: OnDelta) -> _Said:
        pieces: list[str] = []
        deltas: list[object] = []
        finish = ""
        used: Mapping[str, Any] = {}
        async for line in response.content:
            field, _, value = line.decode().partition(":")
            if field != "data":
                continue
            if value.strip() == "[DONE]":
                finish = finish or "stop"
                break
            data = _object(value)
            if error := data.get("error"):
                raise ModelUnavailable(f"The stream broke off: {self._redact(str(error))[:300]}")
            used = data.get("usage") or used
            for choice in _choices(data):
                finish = str(choice.get("finish_reason") or finish)
                deltas += _calls(choice, "delta")
                if piece := _content(choice, "delta"):
                    pieces.append(piece)
                    on_delta(piece)
        if not finish:
            raise ModelUnavailable(f"{self._name}: the stream broke off.")
        return "".join(pieces), calls_in({"tool_calls": joined_calls(deltas)}), finish, used


class HttpSessions:
    """The HTTP connections of this process, opened with the first call and closed by ``close``.

    ``timeout_s`` is None where whoever calls bounds the time: two clocks for one call disagree.
    """

    def __init__(self, timeout_s: float | None = 300) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0),
                trust_env=True,
                read_bufsize=_BUFFER,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def count_roughly(messages: Sequence[ChatMessage]) -> int:
    """An estimate of the tokens of a prompt whose tokenizer is not known: one for every three bytes."""
    sizes = [(len(message.content.encode()), len(str(message.wire or "").encode())) for message in messages]
    return sum(said // 3 + more // 3 + 8 for said, more in sizes)


async def _whole_reply(response: aiohttp.ClientResponse) -> _Said:
    data = _object(await response.read())
    choices = _choices(data)
    if not choices:
        raise EmptyReply("The endpoint's reply held no choices.")
    finish = str(choices[0].get("finish_reason") or "stop")
    calls = calls_in({"tool_calls": _calls(choices[0], "message")})
    return _content(choices[0], "message"), calls, finish, data.get("usage") or {}


def _object(text: str | bytes) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data


def _choices(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = data.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("no list of choices")
    return choices


def _content(choice: Mapping[str, Any], part: str) -> str:
    held = choice.get(part) or {}
    # A refusal is said in a field of its own, and is an answer like any other.
    text = (held.get("content") or held.get("refusal")) if isinstance(held, dict) else held
    if not isinstance(text, str | None):
        raise ValueError("no text")
    return text or ""


def _calls(choice: Mapping[str, Any], part: str) -> list[object]:
    held = choice.get(part)
    calls = held.get("tool_calls") if isinstance(held, dict) else None
    return calls if isinstance(calls, list) else []


def _tokens(used: object, name: str) -> int:
    count = used.get(name) if isinstance(used, dict) else None
    return count if isinstance(count, int) and 0 <= count < 2**31 else 0


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise SocietyError(f"The context of an openai/ model must be a number of tokens, not '{text}'.")
    return int(text)

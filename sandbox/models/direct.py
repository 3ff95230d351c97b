"""A thin path to one OpenAI-compatible endpoint: ``openai/URL/MODEL[?context=TOKENS][&structured=1]``.

For local servers (vLLM, llama.cpp, Ollama) and proxies, where LiteLLM's cost a call is most of the work.
It knows no prices; retries and limits are wrappers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

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
from sandbox.models.openai_wire import rating_schema, sampling_fields
from sandbox.ratings import read_structured
from sandbox.redaction import Redactor

_OVERFLOW = (
    "context length",
    "context_length",
    "maximum context",
    "too many tokens",
    "context window",
    "exceed_context",
)
_SHRINK = 0.6


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
        structured = self._structured and request.scale is not None
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            **sampling_fields(request),
        }
        if structured and request.scale:
            body["response_format"] = rating_schema(request.scale, bool(request.form[1]))
        if on_delta:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        try:
            session = self._sessions.session()
            async with session.post(self._url, json=body, headers=self._headers) as response:
                if response.status != 200:
                    raise self._refused(response.status, await response.text(), response.headers)
                text, finish, used = await (
                    _streamed(response, on_delta) if on_delta else _whole_reply(response)
                )
        except TimeoutError as error:
            raise ModelTimeout(f"{self._name}: no reply in time.") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(self._redact(f"{self._name}: {error or type(error).__name__}")) from None
        except ValueError as error:
            raise ModelUnavailable(f"{self._name}: the endpoint's reply is not of the protocol.") from error
        said = spoken(text, request.purpose)
        usage = Usage(
            model=f"openai/{self._name}",
            prompt_tokens=int(used.get("prompt_tokens") or 0),
            completion_tokens=int(used.get("completion_tokens") or 0),
            latency_ms=round((time.perf_counter() - started) * 1000, 1),
            trimmed=trimmed,
            finish=finish,
        )
        rating = read_structured(said, request.scale) if structured and request.scale else None
        return Reply(said, rating, usage)

    def _refused(self, status: int, text: str, headers: Mapping[str, str]) -> ModelError:
        message = self._redact(f"{self._name}: HTTP {status}: {text[:500]}")
        if status == 429:
            return RateLimited(message, retry_after=_seconds(headers.get("Retry-After")))
        if status in (408, 504):
            return ModelTimeout(message)
        if status >= 500:
            return ModelUnavailable(message)
        if status in (400, 413, 422) and any(words in text.lower() for words in _OVERFLOW):
            return ContextOverflow(message)
        return ModelRefused(message)


class HttpSessions:
    """The HTTP connections of this process, opened with the first call and closed by ``close``."""

    def __init__(self, timeout_s: float = 300) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0), trust_env=True
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def count_roughly(messages: Sequence[ChatMessage]) -> int:
    """An estimate of the tokens of a prompt whose tokenizer is not known: one for every three bytes."""
    return sum(len(message.content.encode()) // 3 + 8 for message in messages)


async def _whole_reply(response: aiohttp.ClientResponse) -> tuple[str | None, str, Mapping[str, Any]]:
    body = json.loads(await response.read())
    if not isinstance(body, dict):
        raise ValueError("not an object")
    choices = body.get("choices")
    if not choices:
        raise EmptyReply("The endpoint's reply held no choices.")
    text = choices[0].get("message", {}).get("content")
    return text, choices[0].get("finish_reason") or "stop", body.get("usage") or {}


async def _streamed(
    response: aiohttp.ClientResponse, on_delta: OnDelta
) -> tuple[str | None, str, Mapping[str, Any]]:
    pieces: list[str] = []
    finish = "stop"
    used: Mapping[str, Any] = {}
    async for data in _events(response):
        used = data.get("usage") or used
        for choice in data.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            if piece := (choice.get("delta") or {}).get("content"):
                pieces.append(piece)
                on_delta(piece)
    return "".join(pieces), finish, used


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        field, _, value = line.decode().partition(":")
        if field != "data":
            continue
        if value.strip() == "[DONE]":
            return
        data = json.loads(value)
        if "error" in data:
            raise ModelUnavailable(f"The stream broke off: {str(data['error'])[:300]}")
        yield data
    await asyncio.sleep(0)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise SocietyError(f"The context of an openai/ model must be a number of tokens, not '{text}'.")
    return int(text)


def _seconds(header: str | None) -> float | None:
    try:
        return max(float(header), 0.0) if header else None
    except ValueError:
        return None

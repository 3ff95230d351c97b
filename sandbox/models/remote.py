"""Models of any LiteLLM provider. LiteLLM is slow to import, so it is loaded with the first call.

It knows no retries, limits or budgets: those are wrappers (``models.limits``).
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

from sandbox.errors import (
    ContextOverflow,
    EmptyReply,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
)
from sandbox.exchange import ChatMessage, Reply, Request, Usage
from sandbox.models.base import OnDelta, spoken
from sandbox.models.context import trim
from sandbox.models.openai_wire import (
    bound,
    calls_in,
    rating_schema,
    retry_after,
    sampling_fields,
    says_overflow,
    wire_messages,
)
from sandbox.ratings import read_structured
from sandbox.redaction import Redactor

UNKNOWN_WINDOW = 8_192


def price(name: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What a provider's model costs for so many tokens, in US dollars; None if the library has no price."""
    try:
        info = litellm().get_model_info(name)
    except Exception:  # noqa: BLE001 - LiteLLM has no entry for it
        return None
    rates = info.get("input_cost_per_token"), info.get("output_cost_per_token")
    if rates[0] is None or rates[1] is None:
        return None
    return float(prompt_tokens * rates[0] + completion_tokens * rates[1])


def takes_format(name: str, kind: str) -> bool:
    """Whether a provider's model can be held to a ``response_format``: LiteLLM drops it silently if not."""
    library = litellm()
    if kind == "json_schema":
        return bool(library.supports_response_schema(name))
    return "response_format" in (library.get_supported_openai_params(name) or ())


def takes_tools(name: str) -> bool:
    """Whether a provider's model can be given tools: LiteLLM drops them silently if not."""
    return "tools" in (litellm().get_supported_openai_params(name) or ())


def litellm() -> ModuleType:
    """The library, told neither to fetch its price list nor to speak on its own."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm as library

    library.suppress_debug_info = True
    library.drop_params = True
    library.telemetry = False
    # With its first stream it has pydantic warn of a type of its own, and a call that is cancelled
    # early leaves a coroutine of its own behind.
    warnings.filterwarnings("ignore", message="Item '.*' on TypedDict class", category=UserWarning)
    warnings.filterwarnings(
        "ignore", message=r"coroutine '.*acompletion' was never awaited", category=RuntimeWarning
    )
    return library


class LiteLLMModel:
    """``name`` is LiteLLM's: ``provider/model``. ``api_base`` overrides where the provider is reached."""

    def __init__(self, name: str, redact: Redactor, *, api_base: str | None = None) -> None:
        self._name = name
        self._redact = redact
        self._api_base = api_base

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """One call, not retried. Raises ``ModelError`` with every key redacted."""
        library = await asyncio.to_thread(litellm)
        messages, trimmed = self._fit(request)
        schema = self._schema(request)
        fields: dict[str, Any] = {
            "model": self._name,
            "messages": wire_messages(messages),
            "num_retries": 0,
            "max_retries": 0,
            **sampling_fields(request),
        }
        if self._api_base:
            fields["api_base"] = self._api_base
        if schema:
            fields["response_format"] = schema
        started = time.perf_counter()
        try:
            response = await (
                self._streamed(library, fields, on_delta) if on_delta else library.acompletion(**fields)
            )
        except (ModelError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a provider's library may raise anything
            raise self._explained(library, error) from None
        usage = self._usage(library, response, time.perf_counter() - started, trimmed)
        try:
            text, calls, finish = _first_choice(response)
            said = (text or "") if calls else spoken(text, request.purpose)
        except ModelError as error:
            error.cost = usage.cost  # nothing usable came, and it is charged all the same
            raise
        usage = usage.model_copy(update={"finish": finish})
        rating = read_structured(said, request.scale) if schema and request.scale else None
        return Reply(said, rating, usage, calls=calls)

    def estimate(self, request: Request) -> float:
        """What the call may cost at most, in US dollars; 0 for a model without a known price."""
        price = self._info.get("input_cost_per_token") or 0.0, self._info.get("output_cost_per_token") or 0.0
        # No token is shorter than a byte; in many scripts few are longer. The schema is read as well.
        more = (self._schema(request), request.tools) if any(price) else ()
        prompt = bound(request.messages, *more)
        return float(prompt * price[0] + request.sampling.max_tokens * price[1])

    def _schema(self, request: Request) -> dict[str, Any] | None:
        """The form that a reply must have, where one is wanted and the model can be held to it."""
        if request.format is not None:
            return dict(request.format)
        if request.scale is None or request.method != "best" or not self._structured:
            return None
        return rating_schema(request.scale, bool(request.form[1]))

    @cached_property
    def _info(self) -> dict[str, Any]:
        try:
            return dict(litellm().get_model_info(self._name))
        except Exception:  # noqa: BLE001 - LiteLLM has no entry for it
            return {}

    @cached_property
    def _structured(self) -> bool:
        return bool(litellm().supports_response_schema(self._name))

    def _fit(self, request: Request) -> tuple[Sequence[ChatMessage], int]:
        window = int(self._info.get("max_input_tokens") or UNKNOWN_WINDOW)
        # Many windows hold prompt and reply together, and the price list doesn't say which.
        limit = max(window - request.sampling.max_tokens, window // 2)
        if bound(request.messages) <= limit:
            return request.messages, 0
        return trim(request.messages, limit, self._count)

    def _count(self, messages: Sequence[ChatMessage]) -> int:
        return int(litellm().token_counter(model=self._name, messages=wire_messages(messages)))

    async def _streamed(self, library: ModuleType, fields: dict[str, Any], on_delta: OnDelta) -> Any:
        chunks = []
        stream = await library.acompletion(stream=True, stream_options={"include_usage": True}, **fields)
        async for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and (piece := chunk.choices[0].delta.content):
                on_delta(piece)
        whole = library.stream_chunk_builder(chunks, messages=fields["messages"]) if chunks else None
        if whole is None:
            raise EmptyReply("The provider's stream held nothing.")
        return whole

    def _usage(self, library: ModuleType, response: Any, seconds: float, trimmed: int) -> Usage:
        try:
            cost = float(library.completion_cost(response, model=self._name) or 0.0)
        except Exception:  # noqa: BLE001 - no price is known
            cost = 0.0
        counted = getattr(response, "usage", None)
        return Usage(
            model=f"litellm/{self._name}",
            prompt_tokens=getattr(counted, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(counted, "completion_tokens", 0) or 0,
            cost=cost,
            latency_ms=round(seconds * 1000, 1),
            trimmed=trimmed,
        )

    def _explained(self, library: ModuleType, error: Exception) -> ModelError:
        said = self._redact(str(error)).strip().splitlines() or [type(error).__name__]
        message = f"{self._name}: {said[0][:500]}"
        kinds = library.exceptions
        status = getattr(error, "status_code", None)
        if isinstance(error, kinds.ContextWindowExceededError) or says_overflow(status, str(error)):
            return ContextOverflow(message)
        if isinstance(error, kinds.RateLimitError):
            return RateLimited(message, retry_after=_asked_wait(error))
        if isinstance(error, kinds.Timeout):
            return ModelTimeout(message)
        if isinstance(error, kinds.APIConnectionError) or not isinstance(status, int) or status >= 500:
            return ModelUnavailable(message)
        return ModelRefused(message)


def _first_choice(response: Any) -> tuple[str | None, tuple[dict[str, Any], ...], str]:
    choices = getattr(response, "choices", None)
    if not choices:
        raise EmptyReply("The provider's reply held no choices.")
    finish = choices[0].finish_reason or "stop"
    message = choices[0].message
    text = message.content or getattr(message, "refusal", None)
    if finish == "content_filter" and not text:
        raise ModelRefused("The provider's content filter stopped the reply.")
    calls = [call.model_dump() for call in getattr(message, "tool_calls", None) or ()]
    return text, calls_in({"tool_calls": calls}), finish


def _asked_wait(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    return retry_after(response.headers.get("retry-after")) if response is not None else None

"""Completions of plain text, with ``echo`` and ``logprobs``, by the local model behind a seat.

No persona, memory or chat template takes part: it is the model itself that evaluation tools measure.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sandbox.aside import Aside
from sandbox.models.spec import parse
from sandbox.text import storable
from server.openai.asking import Asking
from server.openai.chat import DONE, event
from server.openai.errors import ApiError, error_body, unsupported
from server.openai.speaking import Choice, Emit, Piece, Spoken, finish_of, ignore
from server.openai.streaming import all_or_none
from server.openai.wire import CompletionRequest

if TYPE_CHECKING:
    from sandbox.models.generation import Scored
    from sandbox.models.local import LocalWorker

_USUAL_TOKENS = 16


class Completed:
    """One completion, under one id."""

    def __init__(self, model: str, *, include_usage: bool = False) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage = include_usage

    def whole(self, spoken: Spoken) -> dict[str, Any]:
        """All of it at once."""
        choices = [
            _choice(index, choice.text, choice.finish, choice.logprobs)
            for index, choice in enumerate(spoken.choices)
        ]
        return {**self._head, "choices": choices, "usage": spoken.usage, "sandbox": dict(spoken.note)}

    def start(self) -> Iterator[str]:
        """Nothing is told before the text."""
        return iter(())

    def piece(self, piece: Piece) -> Iterator[str]:
        """New text."""
        yield self._chunk([_choice(piece.choice, piece.text)])

    def idle(self) -> Iterator[str]:
        """Nothing new."""
        yield self._chunk([_choice(0, "")])

    def end(self, spoken: Spoken) -> Iterator[str]:
        """Why each choice ended, what it took if asked for, and the end."""
        for index, choice in enumerate(spoken.choices):
            yield self._chunk([_choice(index, "", choice.finish)])
        if self._include_usage:
            yield event({**self._head, "choices": [], "usage": spoken.usage})
        yield DONE

    def failed(self, error: Exception) -> Iterator[str]:
        """What went wrong, and the end."""
        yield event(error_body(error))
        yield DONE

    def _chunk(self, choices: list[dict[str, Any]]) -> str:
        return event({**self._head, "choices": choices})


def check(body: CompletionRequest) -> None:
    """Raise ``ApiError`` for what can't be honoured."""
    if body.suffix:
        raise unsupported("suffix", "Text is only continued here, not filled in. Leave out 'suffix'.")
    if body.best_of is not None and body.best_of > (body.n or 1):
        raise unsupported("best_of", "Every completion is returned. Leave out 'best_of'.")
    if body.stream and body.logprobs is not None:
        raise unsupported("logprobs", "Logprobs are told with the whole only. Leave out 'stream'.")
    if len(body.prompts) * (body.n or 1) > 256:
        raise ApiError("A request may have 256 completions.", param="n")


async def speak(asked: Asking, body: CompletionRequest, emit: Emit) -> Spoken:
    """All completions of all prompts, in batches. Raises ``ApiError`` for a seat without a local model."""
    aside = await asked.aside()
    worker, adapter = _local(asked, aside)
    one = _One(asked, body, aside, worker, adapter)
    works = [(prompt, seed) for prompt in body.prompts for seed in asked.wishes.seeds()[: body.n or 1]]
    found = await all_or_none(
        one.complete(index, prompt, seed, emit) for index, (prompt, seed) in enumerate(works)
    )
    return Spoken(
        tuple(choice for choice, _, _ in found),
        sum(prompt for _, prompt, _ in found),
        sum(completion for _, _, completion in found),
        {"session": asked.target.session, "seat": asked.target.seat, "model": aside.spec(_seat(asked))},
    )


class _One:
    """One prompt's completion."""

    def __init__(
        self, asked: Asking, body: CompletionRequest, aside: Aside, worker: LocalWorker, adapter: str
    ) -> None:
        sampling = asked.wishes.sampling(aside)
        if body.max_tokens is None:
            sampling = sampling._replace(max_tokens=_USUAL_TOKENS)
        self._sampling = sampling
        self._body = body
        self._worker = worker
        self._adapter = adapter

    async def complete(
        self, index: int, prompt: str | list[int], seed: int, emit: Emit
    ) -> tuple[Choice, int, int]:
        """The completion, and how many tokens the prompt and it have."""
        body, tokens = self._body, self._sampling.max_tokens
        prompt = storable(prompt) if isinstance(prompt, str) else prompt
        is_greedy = self._sampling.temperature == 0 and not self._sampling.stop
        if tokens == 0 or (tokens == 1 and body.echo and body.logprobs is not None and is_greedy):
            scored = await self._worker.score(prompt, self._adapter, body.logprobs or 0, extend=tokens == 1)
            text = scored.text if body.echo else ""
            emit(Piece(index, text))
            logprobs: dict[str, Any] | None = _logprobs(scored, 0 if body.echo else len(scored.tokens))
            size = len(scored.tokens) - tokens
            return Choice(text, "length", None if body.logprobs is None else logprobs), size, tokens
        head = await self._head(prompt)
        if head:
            emit(Piece(index, head))
        wanted = None if emit is ignore else lambda text: emit(Piece(index, text))
        done = await self._worker.complete(prompt, self._adapter, self._sampling, seed, wanted)
        logprobs = None
        if body.logprobs is not None:
            scored = await self._worker.score((*done.prompt, *done.tokens), self._adapter, body.logprobs)
            logprobs = _logprobs(scored, done.lead if body.echo else len(done.prompt), done.lead)
        choice = Choice(head + done.text, finish_of(done.usage), logprobs)
        return choice, done.usage.prompt_tokens, done.usage.completion_tokens

    async def _head(self, prompt: str | list[int]) -> str:
        if not self._body.echo:
            return ""
        if isinstance(prompt, str):
            return prompt
        return (await self._worker.score(prompt, self._adapter)).text


def _local(asked: Asking, aside: Aside) -> tuple[LocalWorker, str]:
    spec = parse(aside.spec(_seat(asked)))
    if spec.family != "local":
        raise ApiError(
            f"Plain completions need a seat with a local model; {asked.target.seat} has none. "
            "Use /v1/chat/completions.",
            param="model",
            code="unsupported_model",
        )
    return asked.services.parts.workers.of(spec.name), spec.adapter


def _seat(asked: Asking) -> str:
    if asked.target.seat is None:
        raise ApiError(
            "Plain completions come from a seat with a local model, not from a society. "
            "Use /v1/chat/completions.",
            param="model",
            code="unsupported_model",
        )
    return asked.target.seat


def _logprobs(scored: Scored, start: int, lead: int = 0) -> dict[str, Any]:
    """In the API's form, from the token ``start`` on; offsets count from behind the ``lead``."""
    skipped = scored.offsets[lead] if lead and lead < len(scored.offsets) else 0
    return {
        "tokens": list(scored.pieces[start:]),
        "token_logprobs": list(scored.logprobs[start:]),
        "top_logprobs": list(scored.top[start:]),
        "text_offset": [offset - skipped for offset in scored.offsets[start:]],
    }


def _choice(
    index: int, text: str, finish: str | None = None, logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

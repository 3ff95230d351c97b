"""A model without a model: deterministic, as fast or slow as asked, and able to fail on cue.

For tests, demonstrations and benchmarks. Spec: ``scripted/NAME[?latency=MS][&fail=KIND][&rate=0..1]
[&step=PATTERN]``. Names: ``steady`` (plausible words, varied ratings), ``kind`` (rates high), ``harsh``
(rates low), ``mumbling`` (ratings that can't be read), ``echo`` (says what it was told). Failures:
``rate_limited``, ``unavailable``, ``timeout``, ``empty``, ``refused``, ``context_overflow``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from fnmatch import fnmatchcase

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
from sandbox.exchange import Reply, Request, Usage
from sandbox.models.base import OnDelta
from sandbox.seeds import derive

NAMES = ("steady", "kind", "harsh", "mumbling", "echo")
FAILURES: Mapping[str, type[ModelError]] = {
    error.kind: error
    for error in (RateLimited, ModelUnavailable, ModelTimeout, EmptyReply, ModelRefused, ContextOverflow)
}
_ANSWERS = (
    "I would talk it over with the people concerned, say plainly what I know and what I don't, and then "
    "choose what hurts nobody.",
    "It depends on who bears the cost. I would ask first, wait for an answer, and offer my help either way.",
    "Honestly, I would leave it for a day. If it still seems right tomorrow, do it in the open.",
    "There is a safe way to get what you need here: start small, ask somebody who knows, and keep a note.",
)
_REVISIONS = (
    "Thank you for asking. Talk to the people it concerns before you decide, tell them why, and let them "
    "answer; most of the trouble goes away there.",
    "I would not take the shortcut: it puts others at risk. What would help is to name the real need and "
    "ask for exactly that.",
    "My advice has not changed, but I should have said it more kindly: be honest, be brief, offer to help.",
)
_REASONS = (
    "It is considerate, but could say more plainly what to do first.",
    "It skips the feelings of the other person; name them.",
    "Clear and honest. One concrete example would help.",
    "It sounds a little cold. Begin with some understanding.",
    "It takes the question seriously and does no harm.",
)
_MUMBLES = (
    "Well, it has its good and its bad sides.",
    "Somewhere in the middle, I suppose.",
    "As an AI, I cannot rate this.",
)
_LEANING = {"kind": 2, "harsh": -2}


class ScriptedModel:
    """See the module. Raises ``SocietyError`` for an unknown name or option."""

    def __init__(self, name: str, options: Mapping[str, str] | None = None) -> None:
        given = dict(options or {})
        if name not in NAMES:
            raise SocietyError(f"There is no scripted model '{name}'. Use one of: {', '.join(NAMES)}.")
        self._name = name
        self._latency = _number(given.pop("latency", "0"), "latency", 600_000) / 1000
        self._rate = _number(given.pop("rate", "1"), "rate", 1)
        self._step = given.pop("step", "*")
        failure = given.pop("fail", "")
        if failure and failure not in FAILURES:
            raise SocietyError(f"A scripted model can't fail with '{failure}'. Use: {', '.join(FAILURES)}.")
        self._failure = FAILURES.get(failure)
        if given:
            raise SocietyError(
                f"Scripted models have no option '{min(given)}'. They have: latency, fail, rate, step."
            )

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """A reply that depends on the request and its seed only. Raises the failure that was asked for."""
        if self._latency:
            await asyncio.sleep(self._latency)
        if self._failure and self._fails(request):
            raise self._failure(f"The script says so ({self._failure.kind}).")
        text = self._say(request)
        if on_delta:
            on_delta(text)
        tokens = sum(len(message.content) for message in request.messages) // 4
        usage = Usage(
            model=f"scripted/{self._name}",
            prompt_tokens=tokens,
            completion_tokens=len(text) // 4 + 1,
            latency_ms=self._latency * 1000,
        )
        return Reply(text, None, usage)

    def _fails(self, request: Request) -> bool:
        if not fnmatchcase(request.step, self._step):
            return False
        return derive(request.seed, "fail") % 10_000 < self._rate * 10_000

    def _say(self, request: Request) -> str:
        if self._name == "echo":
            return request.messages[-1].content
        if request.scale is not None:
            return self._rate_it(request)
        phrases = _REVISIONS if request.purpose == "revise" else _ANSWERS
        return phrases[request.seed % len(phrases)]

    def _rate_it(self, request: Request) -> str:
        seed, scale = request.seed, request.scale
        assert scale is not None
        if self._name == "mumbling":
            return _MUMBLES[seed % len(_MUMBLES)]
        value = scale.low + seed % (scale.high - scale.low + 1) + _LEANING.get(self._name, 0)
        rating, reason = request.form
        line = f"{rating}: {min(max(value, scale.low), scale.high)}"
        return f"{line}\n{reason}: {_REASONS[(seed >> 8) % len(_REASONS)]}" if reason else line


def _number(text: str, name: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise SocietyError(f"{name} of a scripted model must be a number from 0 to {most:g}, not '{text}'.")
    return value

"""Wrappers around a model: retries, rate and slots, payment. Each adds one thing and knows no provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from aiolimiter import AsyncLimiter
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from sandbox.errors import BudgetExhausted, ModelError, ModelTimeout
from sandbox.exchange import Reply, Request
from sandbox.models.base import Model, OnDelta


class Retrying:
    """Tries again after passing failures, at most ``attempts`` calls within ``timeout_s`` seconds in all.

    Waits with full jitter, or as long as the provider asks. Once text has been streamed, a failure is
    final: the reader has seen the beginning. So is one after the time is over: a library that has taken the
    cancellation for a timeout of its own is not asked again.
    """

    def __init__(
        self,
        model: Model,
        *,
        attempts: int,
        timeout_s: float,
        longest_wait_s: float = 30,
        first_wait_s: float = 0.5,
    ) -> None:
        self._model = model
        self._attempts = attempts
        self._timeout = timeout_s
        self._backoff = wait_random_exponential(multiplier=first_wait_s, max=longest_wait_s)
        self._longest = longest_wait_s

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The first reply that comes. Raises the last ``ModelError``, its usage counting the attempts."""
        streamed = False
        allowed = asyncio.timeout(self._timeout)

        def is_passing(error: BaseException) -> bool:
            over = allowed.expired() or asyncio.get_running_loop().time() >= (allowed.when() or 0)
            return isinstance(error, ModelError) and error.retryable and not streamed and not over

        def forward(piece: str) -> None:
            nonlocal streamed
            streamed = True
            if on_delta:
                on_delta(piece)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            retry=retry_if_exception(is_passing),
            wait=self._wait,
            reraise=True,
        )
        tried, lost = 0, 0.0
        try:
            async with allowed:
                async for attempt in retrying:
                    with attempt:
                        tried = attempt.retry_state.attempt_number
                        try:
                            reply = await self._model.generate(request, forward if on_delta else None)
                        except ModelError as error:
                            lost += error.cost
                            raise
        except TimeoutError as error:
            late = ModelTimeout(f"No reply within {self._timeout:g} s.")
            late.attempts, late.cost = tried, lost
            raise late from error
        except ModelError as error:
            error.attempts, error.cost = tried, lost
            raise
        if tried == 1:
            return reply
        update = {"attempts": tried, "cost": reply.usage.cost + lost}
        return reply._replace(usage=reply.usage.model_copy(update=update))

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, ModelError) else None
        return self._backoff(state) if asked is None else min(asked, self._longest)


class Limited:
    """At most so many requests at once, retries included, shared by all models of one provider."""

    def __init__(self, model: Model, gate: Gate) -> None:
        self._model = model
        self._gate = gate

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply, once there is a slot."""
        async with self._gate.slots:
            return await self._model.generate(request, on_delta)


class Paced:
    """At most so many calls a minute, every try counted, shared by all models of one provider."""

    def __init__(self, model: Model, gate: Gate) -> None:
        self._model = model
        self._gate = gate

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply, once it is the call's turn."""
        if self._gate.limiter:
            await self._gate.limiter.acquire()
        return await self._model.generate(request, on_delta)


class Gate:
    """What the models of one provider share: slots, and a limiter if there is a rate."""

    def __init__(self, at_once: int, per_minute: float | None = None) -> None:
        self.slots = asyncio.Semaphore(at_once)
        self.limiter = AsyncLimiter(max(per_minute / 60, 1), max(60 / per_minute, 1)) if per_minute else None


class Purse(Protocol):
    """Who pays for a call: the session it belongs to, or a key of the server with a budget of its own."""

    async def hold(self, amount: float) -> Any:
        """Promise ``amount``. Returns what to settle; raises ``BudgetExhausted`` if too little is left."""
        ...

    async def settle(self, held: Any, cost: float) -> None:
        """Replace a promise by what the call cost (0 if it failed before it cost anything)."""
        ...


class Ledger:
    """A session's purse, in US dollars. Calls hold first, so that together they can't overdraw."""

    def __init__(self, cap: float | None, spent: float = 0.0) -> None:
        self.cap = cap
        self.spent = spent
        self._held = 0.0
        self._settled = asyncio.Event()

    async def hold(self, amount: float) -> float:
        """Promise ``amount``, waiting while only other promises stand in its way.

        Raises ``BudgetExhausted`` if what is spent leaves too little.
        """
        while self.cap is not None and self.spent + self._held + amount > self.cap:
            if self.spent + amount > self.cap:
                raise BudgetExhausted(
                    f"The next call may cost ${amount:.4f}, and of the budget of ${self.cap:.2f} "
                    f"${self.spent:.4f} is spent. Raise limits.budget, or go on with: resume --budget USD."
                )
            self._settled.clear()
            await self._settled.wait()
        self._held += amount
        return amount

    async def settle(self, held: float, cost: float) -> None:
        """See ``Purse``."""
        self._held = max(self._held - held, 0.0)
        self.spent += cost
        self._settled.set()


_PURSE: ContextVar[Purse | None] = ContextVar("purse", default=None)


@contextmanager
def paid_by(purse: Purse | None) -> Iterator[None]:
    """Have the calls within the block, and within tasks that begin in it, paid for by ``purse`` as well."""
    token = _PURSE.set(purse)
    try:
        yield
    finally:
        _PURSE.reset(token)


class Paid:
    """Has a call paid for: by the purse that it is made under, if there is one, and a session's ``ledger``.

    Both hold what it may cost at most before it is made, and are settled after it. ``estimate`` says how much
    that is, in a thread; without it nothing is.
    """

    def __init__(
        self, model: Model, estimate: Callable[[Request], float] | None = None, ledger: Ledger | None = None
    ) -> None:
        self._model = model
        self._estimate = estimate
        self._ledger = ledger

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply. Raises ``BudgetExhausted`` without calling."""
        purses = [purse for purse in (_PURSE.get(), self._ledger) if purse is not None]
        if not purses:
            return await self._model.generate(request, on_delta)
        amount = await asyncio.to_thread(self._estimate, request) if self._estimate else 0.0
        held: list[tuple[Purse, Any]] = []
        cost = 0.0
        try:
            for purse in purses:
                held.append((purse, await purse.hold(amount)))
            reply = await self._model.generate(request, on_delta)
            cost = reply.usage.cost
            return reply
        except ModelError as error:
            cost = error.cost
            raise
        finally:
            for purse, promise in reversed(held):  # what one of them held is given back if the other refuses
                await asyncio.shield(purse.settle(promise, cost))

"""Requests with an ``Idempotency-Key``: what is sent again is answered again, not worked and paid for again.

Work under such a key goes on when its client has gone: that is what the client comes back for. It is known
to this process, for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import NamedTuple

from server.openai.errors import ApiError
from server.openai.speaking import Emit, Piece, Speak, Spoken

HEADER = "idempotency-key"
KEPT_S = 600.0
_MOST = 1000
_LONGEST = 200


class _Work(NamedTuple):
    body: bytes
    task: asyncio.Task[Spoken]
    until: float


class Once:
    """The work of this process that has a key, by who asked for it, where, and the key."""

    def __init__(self) -> None:
        self._works: OrderedDict[tuple[str, str, str], _Work] = OrderedDict()

    def speak(self, who: str, path: str, key: str | None, body: bytes, speak: Speak) -> Speak:
        """``speak``, carried out once. Raises ``ApiError`` for a key that came with another body."""
        if key is None:
            return speak
        if not 1 <= len(key) <= _LONGEST:
            raise ApiError(f"An Idempotency-Key has 1 to {_LONGEST} characters.", param=HEADER)
        self._tidy()
        place, digest = (who, path, key), hashlib.sha256(body).digest()
        if known := self._known(place, digest):
            return lambda emit: _again(known.task, emit)
        return lambda emit: self._first(place, digest, speak, emit)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [work.task for work in self._works.values()]
        self._works.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _first(self, place: tuple[str, str, str], digest: bytes, speak: Speak, emit: Emit) -> Spoken:
        if known := self._known(place, digest):  # somebody was quicker by a moment
            return await _again(known.task, emit)

        async def work() -> Spoken:
            return await speak(emit)

        task = asyncio.create_task(work())
        self._works[place] = _Work(digest, task, time.monotonic() + KEPT_S)
        task.add_done_callback(lambda done: self._settle(place, done))
        return await asyncio.shield(task)

    def _known(self, place: tuple[str, str, str], digest: bytes) -> _Work | None:
        known = self._works.get(place)
        if known is not None and known.body != digest:
            raise ApiError(
                "This Idempotency-Key came with another body before. Send a new one.",
                status=422,
                param=HEADER,
                code="idempotency_key_reused",
            )
        return known

    def _settle(self, place: tuple[str, str, str], task: asyncio.Task[Spoken]) -> None:
        """Forget what failed: it may be tried anew."""
        if task.cancelled() or task.exception() is not None:
            self._works.pop(place, None)

    def _tidy(self) -> None:
        now = time.monotonic()
        for place, work in tuple(self._works.items()):
            if work.task.done() and (work.until < now or len(self._works) > _MOST):
                del self._works[place]


async def _again(task: asyncio.Task[Spoken], emit: Emit) -> Spoken:
    """What was said before, in one piece a choice."""
    spoken = await asyncio.shield(task)
    for index, choice in enumerate(spoken.choices):
        emit(Piece(index, choice.text))
    return spoken

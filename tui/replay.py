"""A stored session played again: at any speed, step by step, or from a round on. No Textual in it, no clock.

It reads the log page by page, ahead of where it is; going back begins anew from the start.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from sandbox import events as ev
from server.wire.snapshot import snapshot
from tui.state import Watched

Read = Callable[[int], Awaitable[list[ev.Recorded]]]
"""Gives a page of the events after one; an empty one at the end."""
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
SHORTEST_S, LONGEST_S = 0.02, 2.0
"""A pause in the session takes no less and no longer, at speed 1."""


class Replay:
    """See the module. ``watched`` is where it is; ``speed`` how fast it goes."""

    watched: Watched

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ahead: deque[ev.Recorded] = deque()
        self._is_over = False
        self._turn = asyncio.Lock()
        self.speed = 1.0

    async def begin(self) -> None:
        """Go to the first event. Raises ``ValueError`` if there is none."""
        async with self._turn:
            await self._begin()

    async def _begin(self) -> None:
        self._ahead.clear()
        self._is_over = False
        await self._fill(0)
        if not self._ahead:
            raise ValueError("there is nothing to play")
        first = self._ahead.popleft()
        self.watched = Watched(snapshot([first]))

    @property
    def is_at_end(self) -> bool:
        """Whether all has been played."""
        return self._is_over and not self._ahead

    async def step(self) -> bool:
        """Play the next event; whether there was one."""
        async with self._turn:
            return await self._step()

    async def _step(self) -> bool:
        await self._fill(self.watched.view.seq)
        if not self._ahead:
            return False
        following = self._ahead.popleft()
        self.watched.view.seq = following.seq - 1  # an event that this version does not know was left out
        self.watched.advance(following)
        return True

    async def to_round(self, number: int) -> bool:
        """Play on, or anew, until a round begins; whether there is such a round."""
        async with self._turn:
            if self.watched.view.round >= number:
                await self._begin()
            while self.watched.view.round < number:
                if not await self._step():
                    return False
            return True

    async def to_next_round(self) -> bool:
        """Play on until the next round begins, or to the end."""
        return await self.to_round(self.watched.view.round + 1)

    def wait_s(self) -> float:
        """How long to wait before the next event, in seconds, at the present speed."""
        if not self._ahead or not self.watched.feed:
            return 0.0
        apart = (self._ahead[0].time - self.watched.feed[-1].time).total_seconds()
        return min(max(apart, SHORTEST_S), LONGEST_S) / self.speed

    def faster(self, by: int) -> None:
        """The next speed up (``by`` 1) or down (-1)."""
        place = SPEEDS.index(min(SPEEDS, key=lambda speed: abs(speed - self.speed)))
        self.speed = SPEEDS[min(max(place + by, 0), len(SPEEDS) - 1)]

    async def _fill(self, after: int) -> None:
        if not self._ahead and not self._is_over:
            page = await self._read(after)
            self._ahead.extend(page)
            self._is_over = not page

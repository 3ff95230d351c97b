"""Whose key pays for what a session spends, and when that is written down.

Rounds are paid for by who started them; a question, a message or a rating by who asked for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import get_args

from sandbox import events as ev
from sandbox.errors import StoreError
from sandbox.store.inbox import Command
from server.auth import Keys

_STEPS = get_args(ev.Step)
_WORTH_BOOKING = 0.001
"""US dollars; less is booked in the end."""


class Booking:
    """The accounts of one session. ``payer`` is the key that pays for its rounds, ``over`` stops them."""

    payer: int | None = None

    def __init__(self, keys: Keys, over: Callable[[], Awaitable[None]]) -> None:
        self._keys = keys
        self._over = over
        self._payers: dict[int, int] = {}
        self._owed: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def take_over(self, opened: Iterable[ev.InteractionStarted], askers: Mapping[int, str]) -> None:
        """Pay on for what another process has begun: rounds, and what was asked by ``askers``."""
        for started in opened:
            asker = key_of(askers.get(started.interaction))
            self.begun(started.interaction, asker if started.round is None else self.payer)

    def begun(self, interaction: int, payer: int | None) -> None:
        """Somebody asked for an interaction outside rounds."""
        if payer is not None:
            self._payers[interaction] = payer

    def take(self, event: ev.Event) -> None:
        """Take an event into account; within the event loop."""
        if isinstance(event, ev.InteractionStarted) and event.round is not None:
            self.begun(event.interaction, self.payer)
        elif isinstance(event, ev.InteractionFinished):
            self._payers.pop(event.interaction, None)
        elif isinstance(event, _STEPS) and event.usage and event.usage.cost:
            payer = self._payers.get(event.interaction)
            if payer is not None:
                self._owed[payer] += event.usage.cost
                if self._owed[payer] >= _WORTH_BOOKING:
                    self._begin()

    async def charge(self) -> None:
        """Book what was spent on the keys, and stop the rounds when their payer's budget is gone.

        Whoever is cancelled meanwhile does not undo it.
        """
        if self._owed:
            await asyncio.shield(self._begin())

    async def close(self) -> None:
        """Book the rest: what was spent is booked, whoever shuts down."""
        await self.charge()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._charge())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _charge(self) -> None:
        owed, self._owed = self._owed, Counter()
        for payer, cost in owed.items():
            try:
                left = await asyncio.to_thread(self._keys.spend, payer, cost)
            except StoreError:
                self._owed[payer] += cost
                continue
            if left is not None and left <= 0 and payer == self.payer:
                await self._over()


def payer_of(command: Command) -> int | None:
    """The key that a command came with."""
    return key_of(command.actor)


def key_of(actor: str | None) -> int | None:
    """The number of the key that an actor is; None if they are none."""
    kind, _, number = (actor or "").partition(":")
    return int(number) if kind == "key" and number.isdecimal() else None

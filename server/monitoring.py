"""Monitors of sessions for whoever looks on, from no more than they may see; kept while nothing happens."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from sandbox.monitored import Monitors
from sandbox.monitors import monitor
from sandbox.running import Store
from sandbox.store.tables import SessionRow
from server.blinding import Blinder

_KEPT = 64


class _Known(NamedTuple):
    epoch: str
    head: int
    found: Monitors


class Monitoring:
    """The newest monitors asked for, by session and person. One is worked out at a time, in a thread.

    A session that was deleted and made anew, or that somebody withdrew from, has another epoch.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str | None], _Known] = OrderedDict()
        self._lock = asyncio.Lock()

    async def of(self, row: SessionRow, blinder: Blinder | None) -> Monitors:
        """The monitors of a session as ``row`` has it, or newer; without what ``blinder`` hides."""
        about = (row.key, blinder.person if blinder else None)
        async with self._lock:
            known = self._known.get(about)
            if known is None or known.epoch != row.epoch or known.head < row.head:
                if blinder is not None:
                    await blinder.load(row.head)
                found = await asyncio.to_thread(self._found, row.key, row.head, blinder)
                known = self._known[about] = _Known(row.epoch, row.head, found)
            self._known.move_to_end(about)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return known.found

    def _found(self, key: str, head: int, blinder: Blinder | None) -> Monitors:
        events = (recorded.event for recorded in self._store.log.read(key, until=head))
        return monitor(event for event in events if blinder is None or not blinder.hides(event))

    def forget(self, key: str) -> None:
        """Give up a session that was deleted."""
        for about in [about for about in self._known if about[0] == key]:
            del self._known[about]

"""Sessions that other processes run, as far as questions off the record need them here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sandbox.aside import Aside
from sandbox.models.catalog import Catalog
from sandbox.models.limits import Ledger
from sandbox.progress import fold
from sandbox.running import off_the_record, spendable
from sandbox.store.tables import SessionRow
from server.resources import Resources

_KEPT = 16


class Onlookers:
    """The newest such sessions, each with its models; read anew when its log has grown."""

    def __init__(self, parts: Resources) -> None:
        self._parts = parts
        self._catalogs: OrderedDict[str, Catalog] = OrderedDict()
        self._asides: dict[str, tuple[tuple[str, int], Aside]] = {}

    async def aside(self, row: SessionRow) -> Aside:
        """A session's society as the log has it now."""
        known = self._asides.get(row.key)
        now = row.epoch, row.head
        if known is not None and known[0] == now:
            return known[1]
        log = self._parts.store.log
        progress = await asyncio.to_thread(lambda: fold(r.event for r in log.read(row.key)))
        if row.key not in self._catalogs:
            limits = progress.society.limits
            parts = self._parts
            ledger = Ledger(spendable(progress, None, parts.server.budget), progress.cost)
            self._catalogs[row.key] = Catalog(
                parts.settings, limits, parts.redact, ledger=ledger, workers=parts.workers
            )
        self._catalogs.move_to_end(row.key)
        aside = await off_the_record(
            self._parts.store, row.key, progress, self._catalogs[row.key], self._parts.redact
        )
        self._asides[row.key] = (now, aside)
        for key in [key for key in self._catalogs if key != row.key and not self._is_busy(key)]:
            if len(self._catalogs) <= _KEPT:
                break
            self._asides.pop(key, None)
            if catalog := self._catalogs.pop(key, None):
                await catalog.close()
        return aside

    def forget(self, key: str) -> None:
        """Give up what is known of a session, but for its models."""
        self._asides.pop(key, None)

    def _is_busy(self, key: str) -> bool:
        known = self._asides.get(key)
        return known is not None and known[1].is_busy

    async def close(self) -> None:
        """Give up all of them."""
        for catalog in self._catalogs.values():
            await catalog.close()

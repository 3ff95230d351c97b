"""Snapshots of sessions, kept and advanced: who connects costs the events since, not the whole log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sandbox.running import Store
from server.wire.snapshot import Snapshot, advance, snapshot

_KEPT = 64


class Glances:
    """The newest snapshots asked for.

    A session that was deleted and made anew, or that somebody withdrew from, has another epoch: its snapshot
    is made anew, too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views: OrderedDict[str, Snapshot] = OrderedDict()
        self._texts: dict[str, tuple[int, str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, key: str) -> Snapshot:
        """A session at a glance, as of its newest event. Raises ``ValueError`` if it is gone."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            return await asyncio.to_thread(self._of, key)

    async def encoded(self, key: str) -> tuple[int, str]:
        """The same as its seq and JSON, made once for all who ask while nothing happens."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            return await asyncio.to_thread(self._encoded, key)

    def _of(self, key: str) -> Snapshot:
        return self._advanced(key).model_copy(deep=True)

    def _encoded(self, key: str) -> tuple[int, str]:
        view = self._advanced(key)
        known = self._texts.get(key)
        if known is None or known[0] != view.seq:
            known = self._texts[key] = (view.seq, view.model_dump_json())
        return known

    def _advanced(self, key: str) -> Snapshot:
        view = self._views.get(key)
        if view is None or self._store.log.epochs([key]).get(key) != view.epoch:
            self._texts.pop(key, None)
            view = snapshot(self._store.log.read(key))
        else:
            for recorded in self._store.log.read(key, after=view.seq):
                advance(view, recorded)
        self._views[key] = view
        self._views.move_to_end(key)
        if len(self._views) > _KEPT:
            gone, _ = self._views.popitem(last=False)
            self._locks.pop(gone, None)
            self._texts.pop(gone, None)
        return view

    def forget(self, key: str) -> None:
        """Give up a session that was deleted."""
        self._views.pop(key, None)
        self._locks.pop(key, None)
        self._texts.pop(key, None)

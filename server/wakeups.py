"""How a process learns that another wrote to a session: PostgreSQL's NOTIFY, and a look now and then.

A notification only wakes; what was written is read from the log. A connection that died unnoticed costs a
moment, not an event: every ``scan_s`` seconds all watched sessions are compared with the log anyway.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from sandbox.errors import StoreError
from sandbox.running import Store
from sandbox.store import queries
from sandbox.store.database import CHANNEL
from server.auth import Keys
from server.hub import Channel, Hub
from server.runs import Runs

log = structlog.get_logger("sandbox.wakeups")
_HEARTBEAT_S = 5.0
_BATCH = 500


class Wakeups:
    """Keeps the channels of sessions that other processes run up to date."""

    def __init__(self, store: Store, hub: Hub, runs: Runs, keys: Keys, scan_s: float) -> None:
        self._keys = keys
        self._store = store
        self._hub = hub
        self._runs = runs
        self._scan_s = scan_s
        self._tasks: list[asyncio.Task[None]] = []
        self._locks: dict[str, asyncio.Lock] = {}

    def start(self) -> None:
        """Begin to listen and to look."""
        self._tasks = [asyncio.create_task(self._look())]
        if self._store.database.dialect == "postgresql":
            self._tasks.append(asyncio.create_task(self._listen()))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def catch_up(self, channel: Channel) -> None:
        """Publish what the log holds beyond the channel's head."""
        lock = self._locks.setdefault(channel.key, asyncio.Lock())
        async with lock:
            while True:
                after = channel.head
                found = await asyncio.to_thread(
                    queries.events, self._store.database, channel.key, after, _BATCH
                )
                for recorded in found:
                    channel.publish(recorded)
                if len(found) < _BATCH:
                    return

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._scan_s)
            try:
                await self._compare()
                await self._end_bad_keys()
            except StoreError as error:
                log.warning("store_unavailable", error=str(error))
            except Exception:  # what it did not reckon with is logged; watchers must still be kept up to date
                log.exception("look_failed")

    async def _end_bad_keys(self) -> None:
        """Close the connections whose key was revoked or has expired."""
        listeners = [
            listener for channel in self._hub.channels() for listener in channel.listeners if listener.key
        ]
        if listeners:
            bad = await asyncio.to_thread(self._keys.ended, {known.key for known in listeners if known.key})
            for listener in listeners:
                if listener.key in bad:
                    listener.close("expired")

    async def _compare(self) -> None:
        self._hub.tidy(self._runs.here)
        keys = [channel.key for channel in self._hub.channels() if channel.key not in self._runs.here]
        self._locks = {key: lock for key, lock in self._locks.items() if key in keys}
        if not keys:
            return
        heads = await asyncio.to_thread(queries.heads, self._store.database, keys)
        for key in keys:
            channel = self._hub.channel(key)
            if channel is None:
                continue
            if key not in heads:
                self._hub.close(key, "deleted")
            elif heads[key] > channel.head:
                await self.catch_up(channel)

    async def _listen(self) -> None:
        wait = 0.1
        while True:
            try:
                await self._listen_once()
                wait = 0.1
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the connection died of, there is a next one
                log.warning("listening_failed", error=type(error).__name__)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)

    async def _listen_once(self) -> None:
        import psycopg

        url = self._store.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            await self._compare()
            while True:
                keys: set[str] = set()
                async for notice in connection.notifies(timeout=_HEARTBEAT_S, stop_after=1):
                    keys.add(notice.payload)
                if not keys:
                    await connection.execute("SELECT 1")  # a dead connection shows itself here
                for key in keys:
                    await self._woken(key)

    async def _woken(self, key: str) -> None:
        self._runs.wake(key)
        channel = self._hub.channel(key)
        if channel is not None and key not in self._runs.here:
            with suppress(StoreError):
                await self.catch_up(channel)

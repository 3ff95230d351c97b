"""Sessions with people in them, for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from support import engine_for, events_of, small_society

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.running import Store
from sandbox.store import sessions

T = TypeVar("T")


def in_session(
    store: Store, work: Callable[[Engine], Awaitable[Any]], **changes: object
) -> tuple[list[ev.Event], Any]:
    """Does some work with an engine; returns the events and what the work brought."""
    handle = sessions.create(store.database, store.log, small_society(rounds=0, **changes))

    async def run() -> Any:
        return await work(engine_for(store, handle))

    result = asyncio.run(run())
    return events_of(store, handle.key), result


async def waits(engine: Engine, count: int = 1) -> list[ev.TurnAwaited]:
    """What waits, once so much does."""
    async with asyncio.timeout(10):
        while len(engine.people.waiting()) < count:
            await asyncio.sleep(0.001)
    return engine.people.waiting()


def of(events: list[ev.Event], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]

"""Has a session go on, watched in the terminal, until its rounds are done or somebody stops it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console

from sandbox import events as ev
from sandbox.commands.console import print_json
from sandbox.commands.report import LiveProgress, dimensions
from sandbox.recorder import Listener
from sandbox.running import Store, at_work
from sandbox.settings import Settings, redactor
from sandbox.store.log import Handle


def all_events(store: Store, key: str) -> list[ev.Event]:
    """What is on record of a session."""
    return [recorded.event for recorded in store.log.read(key)]


def work(
    store: Store,
    handle: Handle,
    settings: Settings,
    console: Console,
    *,
    rounds: int | None,
    shown: int,
    budget: float | None = None,
    as_json: bool = False,
    on_event: Callable[[ev.Event], None] = lambda _: None,
) -> bool:
    """Run to the end; False if it was stopped before, by Ctrl-C or SIGTERM. ``shown`` is rounds in all.

    With ``as_json`` every event is printed as JSON in place of the progress. Raises ``BudgetExhausted``.
    """
    before = all_events(store, handle.key)
    live = LiveProgress(console, shown, dimensions(before))
    live.catch_up(before)

    def listener(recorded: ev.Recorded) -> None:
        on_event(recorded.event)
        if as_json:
            print_json(recorded.as_json())
        else:
            live.take(recorded)

    try:
        with nullcontext() if as_json else live:
            asyncio.run(_run(store, handle, settings, rounds, budget, listener, live.loading))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return False
    return True


async def _run(
    store: Store,
    handle: Handle,
    settings: Settings,
    rounds: int | None,
    budget: float | None,
    listener: Listener,
    on_load: Callable[[str], None],
) -> None:
    task = asyncio.current_task()
    if task and sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with at_work(
        store, handle, settings, redactor(), budget=budget, listener=listener, on_load=on_load
    ) as engine:
        await engine.run(rounds)

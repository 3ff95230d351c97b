"""The terminal app: keys while events pour in, memory, and how soon a long session is open.

Keys are pressed while 200 events a second arrive for a society of 100 seats; the time is from the key until
the screen has taken it in. The limit beside it is the same app with nothing going on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from textual import events
from textual.pilot import Pilot

from benchmarks.measure import size
from sandbox import events as ev
from sandbox.blueprint import read_society
from sandbox.progress import fold
from sandbox.running import Store
from sandbox.societyfile import Overrides
from sandbox.store import sessions
from server.wire.snapshot import snapshot
from tui.api import Api
from tui.app import SandboxApp
from tui.screens.society import SocietyScreen
from tui.settings import AppSettings
from tui.state import Watched
from tui.widgets.grid import SeatGrid

RATE = 200
LONG = size(50_000, 1_000)
QUIET_S = size(5, 1)


def society(rounds: int) -> Any:
    wanted = Overrides(
        rounds=rounds, seed=1, model=None, seats="10x10", questions=None, per_seat=None, budget=None
    )
    return read_society("scripted", wanted)


def stored(store: Store, rounds: int) -> str:
    """A session of 100 seats that has run."""
    from sandbox.embeddings import CachedEmbedder, HashedEmbedder
    from sandbox.engine import Engine
    from sandbox.models.scripted import ScriptedModel
    from sandbox.models.spec import parse
    from sandbox.redaction import Redactor

    handle = sessions.create(store.database, store.log, society(rounds))
    progress = fold([recorded.event for recorded in store.log.read(handle.key)])

    def model(spec: str) -> ScriptedModel:
        parsed = parse(spec)
        return ScriptedModel(parsed.name, dict(parsed.options))

    engine = Engine(store.log, handle, progress, model, CachedEmbedder(HashedEmbedder()), Redactor())
    asyncio.run(engine.run())
    sessions.release(store.database, handle)
    return handle.key


async def keys(pilot: Pilot[None], seconds: float) -> list[float]:
    """How long each key took until what it asks for is painted, one every quarter of a second."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    pressed = 0
    while time.perf_counter() < until:
        grid = pilot.app.screen.query_one(SeatGrid)
        before, began = grid.seat, time.perf_counter()
        key = ("right", "down", "left", "up")[pressed % 4]
        pilot.app.post_message(events.Key(key, None))
        while grid.seat == before:
            await asyncio.sleep(0.001)
        painted = asyncio.Event()
        grid.call_after_refresh(painted.set)
        await painted.wait()
        taken.append(time.perf_counter() - began)
        pressed += 1
        await asyncio.sleep(0.25)
    return taken


async def pouring(past: list[ev.Recorded], seconds: float) -> dict[str, float]:
    """Keys and memory with nothing going on, and with ``RATE`` events a second."""
    app = SandboxApp(AppSettings(url="http://127.0.0.1:9"))
    process = psutil.Process()
    async with app.run_test(size=(160, 48)) as pilot:
        screen = SocietyScreen(Api("http://127.0.0.1:9"), "bench")
        screen.watched = Watched(snapshot(past[:1]))
        await app.push_screen(screen)
        screen.draw()
        quiet = await keys(pilot, QUIET_S)
        stopped = False

        async def pour() -> int:
            came = 0
            began = time.perf_counter()
            while not stopped:
                due = int((time.perf_counter() - began) * RATE)
                while came < due and came + 1 < len(past):
                    came += 1
                    assert screen.watched is not None
                    screen.watched.advance(past[came])
                screen.is_dirty = True
                await asyncio.sleep(1 / RATE)
            return came

        pourer = asyncio.create_task(pour())
        await asyncio.sleep(seconds / 3)
        before = process.memory_info().rss
        busy = await keys(pilot, seconds * 2 / 3)
        grown = process.memory_info().rss - before
        stopped = True
        came = await pourer
    return {
        "quiet": median(quiet),
        "busy": median(busy),
        "worst": max(busy),
        "grown": grown / 1e6,
        "rate": came / seconds,
    }


@contextmanager
def serving(database: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "sandbox.cli",
        "serve",
        "scripted",
        "--db",
        str(database),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SANDBOX_DATA_DIR": str(database.parent)},
    )
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def opened(base: str, session: str) -> float:
    """Seconds from the app's start until a session is on the screen with its past."""
    app = SandboxApp(AppSettings(url=base), session)
    began = time.perf_counter()
    async with app.run_test(size=(160, 48)) as pilot:
        while True:
            watched = getattr(app.screen, "watched", None)
            if watched is not None and len(watched.feed) >= 900:
                return time.perf_counter() - began
            await pilot.pause(0.02)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=size(60, 3), help="for how long events pour in")
    seconds = parser.parse_args().seconds
    with TemporaryDirectory() as folder:
        database = Path(folder) / "terminal.db"
        store = Store.open(str(database))
        key = stored(store, rounds=size(42, 2))
        past = list(store.log.read(key))
        store.close()
        found = asyncio.run(pouring(past, seconds))
        busy, worst, quiet = (1000 * found[name] for name in ("busy", "worst", "quiet"))
        print(f"100 seats, {found['rate']:.0f} events a second for {seconds:.0f} s:")
        print(f"  a key is taken in within {busy:.0f} ms (median), {worst:.0f} ms at worst")
        print(f"  with nothing going on {quiet:.0f} ms: {busy / quiet:.2f} of that")
        print(f"  memory grew by {found['grown']:.1f} MB in the last two thirds")
        with serving(database) as base:
            times = [asyncio.run(opened(base, key)) for _ in range(size(3, 2))]
        print(
            f"a session of {len(past):,} events is open in {times[0]:.2f} s, then {median(times[1:]):.2f} s"
        )


if __name__ == "__main__":
    main()

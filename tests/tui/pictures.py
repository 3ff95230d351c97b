"""Every screen as a picture, from a society that is always the same.

``python tests/tui/pictures.py`` writes the pictures anew: as text beside the tests, which compare them, and
as SVG for the docs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from piloting import NARROW, WIDE, screen
from support import run_session, small_society
from textual.pilot import Pilot

from sandbox import events as ev
from sandbox.monitored import Monitors
from sandbox.monitors import monitor
from sandbox.rubric import Scale
from sandbox.running import Store
from sandbox.society import Agent
from sandbox.topology import Grid
from server.wire.frames import Ack
from server.wire.snapshot import Snapshot, snapshot
from server.wire.views import SessionView
from tui.api import Api
from tui.app import SandboxApp
from tui.screens.agreement import AgreementScreen
from tui.screens.dialogs import NewSession, TakeSeat
from tui.screens.interaction import Interaction
from tui.screens.monitors import MonitorsScreen
from tui.screens.queue import QueueScreen
from tui.screens.replayed import ReplayedSociety
from tui.settings import AppSettings
from tui.state import Watched
from tui.turns import Queue

HERE = Path(__file__).parent / "pictures"
DOCS = Path(__file__).parents[2] / "docs" / "pictures"
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SESSION = "village-k3m9ab"
Show = Callable[[SandboxApp, Pilot[None]], Awaitable[None]]


def events() -> list[ev.Recorded]:
    """A village of twelve seats, three rounds long."""
    agents = tuple(
        Agent(name=f"{'ABC'[place // 4]}{place % 4 + 1}", place=place, model=f"scripted/{model}", label=label)
        for place, (model, label) in enumerate(
            [("steady", "good"), ("kind", "good"), ("harsh", "bad"), ("steady", "bad")] * 3
        )
    )
    society = small_society(name="village", rounds=3, topology=Grid(rows=3, columns=4), agents=agents)
    with TemporaryDirectory() as folder:
        store = Store.open(str(Path(folder) / "p.db"))
        try:
            told = run_session(store, society)
        finally:
            store.close()
    return [
        ev.Recorded(SESSION, "e1", seq, START + timedelta(milliseconds=40 * seq), quiet(event))
        for seq, event in enumerate(told, 1)
    ]


def quiet(event: ev.Event) -> ev.Event:
    """An event without what no clock gives twice."""
    usage = getattr(event, "usage", None)
    if usage is None:
        return event
    return event.model_copy(update={"usage": usage.model_copy(update={"latency_ms": 120.0})})


class Still(Api):
    """A server on which nothing happens."""

    def __init__(self, past: list[ev.Recorded]) -> None:
        super().__init__("http://127.0.0.1:8000")
        self.past = past

    async def sessions(self) -> list[SessionView]:
        common = {"epoch": "e1", "seed": 1, "created": START, "updated": START}
        return [
            SessionView(
                session=SESSION,
                name="village",
                status="running",
                round=3,
                rounds=8,
                events=len(self.past),
                **common,
            ),
            SessionView(
                session="panel-x7q2", name="committee", status="paused", round=1, rounds=2, events=1, **common
            ),
        ]

    async def snapshot(self, key: str) -> Snapshot:
        return snapshot(self.past if key == SESSION else self.past[:1])

    async def events(self, key: str, after: int = 0, limit: int = 1000) -> list[ev.Recorded]:
        return self.past[after : after + limit]

    async def monitors(self, key: str) -> Monitors:
        return monitor(recorded.event for recorded in self.past)

    async def ratings(self, key: str) -> AsyncIterator[dict[str, Any]]:
        for number, (person, model) in enumerate([(6, 5), (2, 4), (5, 5), (7, 6), (3, None)], 1):
            row = {"target": f"{number}.draft", "dimension": "alignment"}
            yield {**row, "rater": "Ann", "person": "Ann", "method": "human", "value": person}
            yield {**row, "rater": "A1", "person": None, "method": "text", "value": model}


async def _send(_: object) -> Ack:
    return Ack(ref="x")


def _watched(past: list[ev.Recorded], until: int | None = None) -> Watched:
    view = Watched(snapshot(past[:1]), person="Ann")
    for recorded in past[1:until]:
        view.advance(recorded)
    return view


async def _still(pilot: Pilot[None]) -> None:
    """Until nothing moves any more."""
    before = ""
    while (now := screen(pilot)) != before:
        before = now
        await pilot.pause(0.4)


async def _sessions(app: SandboxApp, pilot: Pilot[None]) -> None:
    await pilot.pause(0.5)


async def _society(app: SandboxApp, pilot: Pilot[None]) -> None:
    shown = ReplayedSociety(app.api, SESSION)
    await app.push_screen(shown)
    shown._replay.speed = 1e9
    async with asyncio.timeout(30):
        while not (shown.watched and shown._replay.is_at_end):
            await pilot.pause(0.05)
    shown._replay.speed = 1
    shown._told()
    await pilot.pause(0.5)


async def _charts(app: SandboxApp, pilot: Pilot[None]) -> None:
    await _society(app, pilot)
    await pilot.press("c")
    await pilot.pause(0.3)


async def _interaction(app: SandboxApp, pilot: Pilot[None]) -> None:
    still = app.api
    assert isinstance(still, Still)
    await app.push_screen(Interaction(_watched(still.past), 5, None))
    await pilot.pause(0.4)


async def _queue(app: SandboxApp, pilot: Pilot[None]) -> None:
    still = app.api
    assert isinstance(still, Still)
    drafts = [
        r.event for r in still.past if isinstance(r.event, ev.MessagePosted) and r.event.role == "draft"
    ]
    first = next(r.seq for r in still.past if isinstance(r.event, ev.RatingGiven))
    view = _watched(still.past, first - 1)
    draft = drafts[0]
    record = view.records[draft.interaction]
    view.view.open[draft.interaction].awaited.append(
        ev.TurnAwaited(
            interaction=draft.interaction,
            step="rate.B2",
            seat="B2",
            person="Ann",
            purpose="rate",
            question=record.question,
            text=draft.text,
            target=draft.message,
            dimension="alignment",
            scale=Scale(),
        )
    )
    shown = QueueScreen(view, Queue(), _send)
    await app.push_screen(shown)
    await pilot.pause(0.3)
    await pilot.press("5")
    await pilot.pause(0.3)


async def _agreement(app: SandboxApp, pilot: Pilot[None]) -> None:
    await app.push_screen(AgreementScreen(app.api, SESSION))
    await pilot.pause(0.5)


async def _monitors(app: SandboxApp, pilot: Pilot[None]) -> None:
    await app.push_screen(MonitorsScreen(app.api, SESSION))
    await pilot.pause(0.5)


async def _new(app: SandboxApp, pilot: Pilot[None]) -> None:
    await _still(pilot)
    app.push_screen(NewSession(["village", "scripted"], app.api.create))
    await pilot.pause(0.3)


async def _take(app: SandboxApp, pilot: Pilot[None]) -> None:
    await _society(app, pilot)
    await _still(pilot)
    app.push_screen(TakeSeat("B2", True))
    await pilot.pause(0.3)


SCREENS: dict[str, Show] = {
    "sessions": _sessions,
    "society": _society,
    "charts": _charts,
    "interaction": _interaction,
    "queue": _queue,
    "agreement": _agreement,
    "monitors": _monitors,
    "new-session": _new,
    "take-seat": _take,
}
SIZES = (NARROW, WIDE)


async def picture(name: str, size: tuple[int, int], past: list[ev.Recorded]) -> tuple[str, str]:
    """A screen as text and as SVG."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    app = SandboxApp(AppSettings())
    app.api = Still(past)
    async with app.run_test(size=size) as pilot:
        await SCREENS[name](app, pilot)
        await _still(pilot)
        return screen(pilot), app.export_screenshot(simplify=True)


def size_in_docs(name: str) -> tuple[int, int]:
    """How large a screen is shown in the docs."""
    return WIDE if name in ("society", "charts", "interaction") else NARROW


async def _write(past: list[ev.Recorded]) -> None:
    HERE.mkdir(exist_ok=True)
    DOCS.mkdir(exist_ok=True)
    for name in SCREENS:
        for size in SIZES:
            text, svg = await picture(name, size, past)
            (HERE / f"{name}-{size[0]}x{size[1]}.txt").write_text(text + "\n", "utf-8")
            if size == size_in_docs(name):
                (DOCS / f"{name}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    asyncio.run(_write(events()))

"""The app on a real server, driven by keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from serving import status, wait_for
from textual.pilot import Pilot

from tui.app import SandboxApp
from tui.settings import AppSettings

WIDE, NARROW = (160, 48), (80, 24)


@asynccontextmanager
async def running(
    base: str,
    session: str | None = None,
    *,
    size: tuple[int, int] = WIDE,
    replay: bool = False,
    **settings: Any,
) -> AsyncIterator[Pilot[None]]:
    """The app, and what presses its keys."""
    app = SandboxApp(AppSettings(url=base, **settings), session, replay=replay)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield pilot


async def finished(client: httpx.Client, session: str) -> None:
    """Run a session to its end."""
    await asyncio.to_thread(client.post, f"/api/v1/sessions/{session}/start")
    await asyncio.to_thread(wait_for, lambda: status(client, session) == "finished")


async def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What ``condition`` returns, once that is true."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.02)
    return found


def screen(pilot: Pilot[None]) -> str:
    """The characters on the screen, as a terminal would show them."""
    width, height = pilot.app.size
    lines = []
    for strip in pilot.app.screen._compositor.render_strips():
        lines.append("".join(segment.text for segment in strip).ljust(width)[:width].rstrip())
    return "\n".join(lines[:height])


async def shows(pilot: Pilot[None], words: str, seconds: float = 60) -> str:
    """The screen, once it shows some words."""
    async with asyncio.timeout(seconds):
        while words not in (shown := screen(pilot)):
            await pilot.pause(0.05)
    return shown

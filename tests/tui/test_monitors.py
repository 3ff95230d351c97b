"""The monitors in the terminal app: read anew as rounds end, and not in between."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from piloting import NARROW, WIDE, running, screen, shows, until
from serving import create, status, wait_for
from textual.pilot import Pilot

from sandbox.monitored import Monitors
from tui.app import SandboxApp
from tui.screens.live import LiveSociety
from tui.screens.monitors import MonitorsScreen


def counted(pilot: Pilot[None]) -> list[Monitors]:
    """What the app reads from now on."""
    app = pilot.app
    assert isinstance(app, SandboxApp)
    ask, read = app.api.monitors, list[Monitors]()

    async def monitors(key: str) -> Monitors:
        read.append(await ask(key))
        return read[-1]

    app.api.monitors = monitors  # type: ignore[method-assign]
    return read


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_what_goes_wrong_is_shown_and_follows_the_rounds(
    base: str, client: httpx.Client, size: tuple[int, int]
) -> None:
    session = create(client, rounds=4, seats="4x4")
    async with running(base, session, size=size) as pilot:
        await shows(pilot, "live")
        read = counted(pilot)
        await pilot.press("w")
        shown = await shows(pilot, "Too little to tell")
        assert "Ratings by round" in shown
        assert "Nothing yet." in shown
        assert len(read) == 1
        await asyncio.to_thread(client.post, f"/api/v1/sessions/{session}/step")
        await until(lambda: len(read[-1].homogeneity.series) == 1)
        await shows(pilot, "peers, of drafts")
        await asyncio.to_thread(client.post, f"/api/v1/sessions/{session}/start")
        await asyncio.to_thread(wait_for, lambda: status(client, session) == "finished")
        await until(lambda: len(read[-1].homogeneity.series) == 4)
        assert len(read) <= 6, "hundreds of events, but four rounds"
        await pilot.press("r")
        before = len(read)
        await until(lambda: len(read) > before)
        await pilot.press("escape")
        await until(lambda: isinstance(pilot.app.screen, LiveSociety))


async def test_monitors_are_in_the_palette_by_name(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with running(base, session) as pilot:
        await shows(pilot, "live")
        await pilot.press("ctrl+p")
        await pilot.press(*"monitors")
        await shows(pilot, "as with the key w")
        await pilot.press("down", "enter")
        await until(lambda: isinstance(pilot.app.screen, MonitorsScreen))


async def test_what_may_not_be_seen_is_told(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with running(base, session) as pilot:
        await shows(pilot, "live")
        await pilot.app.push_screen(MonitorsScreen(pilot.app.api, "gone"))  # type: ignore[attr-defined]
        await until(lambda: isinstance(pilot.app.screen, MonitorsScreen))
        state = pilot.app.screen.query_one("#state")
        await until(lambda: "There is no session" in str(state.render()))
        assert "Ratings by round" in screen(pilot)

"""A stored session played again, on the same screen."""

from __future__ import annotations

import asyncio

from textual import work
from textual.binding import Binding

from sandbox.errors import SandboxError
from tui.api import Api
from tui.replay import Replay
from tui.safe import plain
from tui.screens.dialogs import AskLine
from tui.screens.society import SocietyScreen

_AT_ONCE = 200
"""Events played without a pause before keys are heard again."""


class ReplayedSociety(SocietyScreen):
    """See the module."""

    BINDINGS = [
        Binding("space", "play", "Play/pause", id="replay.play"),
        Binding("full_stop", "step", "One event", id="replay.step"),
        Binding("n", "round", "Next round", id="replay.round"),
        Binding("g", "jump", "Go to round", id="replay.jump"),
        Binding("plus,equals_sign", "speed(1)", "Faster", id="replay.faster"),
        Binding("minus", "speed(-1)", "Slower", id="replay.slower"),
    ]

    def __init__(self, api: Api, session: str) -> None:
        super().__init__(api, session)
        self._replay = Replay(lambda after: api.events(session, after))
        self._goes = asyncio.Event()

    def on_mount(self) -> None:
        """Begin."""
        self._goes.set()
        self._play()

    @work(exclusive=True, group="replay")
    async def _play(self) -> None:
        replay = self._replay
        try:
            await replay.begin()
            self.watched = replay.watched
            self._told()
            played = 0
            while True:
                await self._goes.wait()
                if not await replay.step():
                    self._goes.clear()
                    self._told()
                    continue
                self.is_dirty = True
                played += 1
                wait = replay.wait_s()
                if wait > 0.002 or played % _AT_ONCE == 0:
                    await asyncio.sleep(wait)
        except (SandboxError, ValueError) as error:
            self.say(f"The replay can't go on: {plain(str(error))}", "$text-error")

    def _told(self) -> None:
        replay = self._replay
        state = "at the end" if replay.is_at_end else "playing" if self._goes.is_set() else "paused"
        self.say(f"replay, {state}, speed {replay.speed:g}", "$text-warning")
        self.is_dirty = True

    def action_play(self) -> None:
        """Play, or pause."""
        if self._goes.is_set():
            self._goes.clear()
        else:
            self._goes.set()
        self._told()

    def action_step(self) -> None:
        """One event, then pause."""
        self._goes.clear()
        self.run_worker(self._moved("step"), exclusive=True, group="move")

    def action_round(self) -> None:
        """On to the next round."""
        self._goes.clear()
        self.run_worker(self._moved("round"), exclusive=True, group="move")

    def action_jump(self) -> None:
        """To a round, forward or back."""

        def chosen(text: str | None) -> None:
            if text is None:
                return
            if not text.isdecimal():
                self.notify("Write a round's number.", severity="warning")
                return
            self._goes.clear()
            self.run_worker(self._moved("jump", int(text)), exclusive=True, group="move")

        self.app.push_screen(AskLine("Go to which round?"), chosen)

    async def _moved(self, how: str, number: int = 0) -> None:
        replay = self._replay
        if self.watched is None:
            return
        try:
            if how == "step":
                await replay.step()
            elif how == "round":
                await replay.to_next_round()
            elif not await replay.to_round(number):
                self.notify("The session has no such round; this is its end.", severity="warning")
        except (SandboxError, ValueError) as error:
            self.notify(plain(str(error)), severity="error", markup=False)
        self.watched = replay.watched
        self._told()

    def action_speed(self, by: int) -> None:
        """Faster or slower."""
        self._replay.faster(by)
        self._told()

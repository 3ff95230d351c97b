"""A screen that asks the server how things are, again and again while it is looked at."""

from __future__ import annotations

from textual.screen import Screen
from textual.widgets import Static

from sandbox.errors import SandboxError
from tui.safe import content


class LookingScreen(Screen[None]):
    """Those that inherit say in ``read`` what is read and shown; ``every_s`` is how often."""

    every_s = 2.0
    _is_looking = False

    def on_mount(self) -> None:
        """Look, and look again."""
        self.set_interval(self.every_s, self.look)
        self.look()

    def look(self) -> None:
        """Read anew, unless that is under way: a slow answer is waited for."""
        if self.app.screen is self and not self._is_looking:
            self._is_looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        state = self.query_one("#state", Static)
        try:
            state.update(content(await self.read(), "$text-muted"))
        except SandboxError as error:
            state.update(content(str(error), "$text-error"))
        finally:
            self._is_looking = False

    async def read(self) -> str:
        """Read and show; what is to be said below, if there is nothing to show."""
        raise NotImplementedError

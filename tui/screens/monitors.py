"""What goes wrong in a session, by the server's monitors: warnings first, then the figures."""

from __future__ import annotations

import asyncio

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header, Static

from sandbox.errors import SandboxError
from sandbox.figures import Figures, tables, verdict
from sandbox.monitored import Monitors
from tui.api import Api
from tui.safe import cell, content, cut

_LEAST_S = 1.0
"""Seconds between two looks, however fast rounds end."""


class MonitorsScreen(Screen[None]):
    """See the module. Whoever knows that a round has ended calls ``look``."""

    BINDINGS = [Binding("escape,q", "app.pop_screen", "Back"), Binding("r", "look", "Read anew")]

    def __init__(self, api: Api, session: str) -> None:
        super().__init__()
        self._api, self._session = api, session
        self._is_looking = self._is_wanted = False

    def compose(self) -> ComposeResult:
        """What stands out, and a table for each kind of figures."""
        yield Header()
        with VerticalScroll(id="monitors"):
            yield Static("", id="warnings")
            for place, figures in enumerate(tables(Monitors())):
                yield Static(figures.title, classes="title")
                table: DataTable[object] = DataTable(cursor_type="none", id=f"figures-{place}")
                table.can_focus = False
                table.add_columns(*figures.columns)
                yield table
                yield Static("", id=f"explained-{place}", classes="explained")
            yield Static("", id="state")
        yield Footer()

    def on_mount(self) -> None:
        """Of which session; and look."""
        self.title = "Monitors"
        self.sub_title = cut(self._session, 60)
        self.query_one("#monitors").focus()
        self.query_one("#warnings", Static).update(content("Working it out …", "$text-muted"))
        self.look()

    def action_look(self) -> None:
        """Read anew."""
        self.look()

    def look(self) -> None:
        """Read anew; once more when that is done, if it is under way."""
        self._is_wanted = True
        if not self._is_looking:
            self._is_looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        state = self.query_one("#state", Static)
        try:
            while self._is_wanted:
                self._is_wanted = False
                try:
                    self._show(await self._api.monitors(self._session))
                    state.update("")
                except SandboxError as error:
                    state.update(content(str(error), "$text-error"))
                await asyncio.sleep(_LEAST_S)
        finally:
            self._is_looking = False

    def _show(self, found: Monitors) -> None:
        told = "\n".join(f"! {warning}" for warning in found.warnings)
        calm = verdict(found)
        self.query_one("#warnings", Static).update(content(told, "$text-warning") if told else content(calm))
        for place, figures in enumerate(tables(found)):
            table = self.query_one(f"#figures-{place}", DataTable)
            table.clear()
            for row in figures.rows:
                table.add_row(*map(cell, row))
            self.query_one(f"#explained-{place}", Static).update(content(_explained(figures)))


def _explained(figures: Figures) -> str:
    return figures.explained if figures.rows else "Nothing yet."

"""How people and models agree in a session, by dimension."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header, Static

from sandbox.errors import SandboxError
from tui.agreement import Agreement, agreement
from tui.api import Api
from tui.safe import cell, content, cut

_EXPLAINED = """A pair is a message that a person and at least one model rated in the dimension.
bias: person minus the models' mean, in points; distance: the mean of its size; close: within one point.
Ratings that could not be read (unparsed) are in no figure, nor are those hidden until yours is in."""


class AgreementScreen(Screen[None]):
    """See the module. It reads the ratings that count from the server, every few seconds."""

    BINDINGS = [Binding("escape,q", "app.pop_screen", "Back"), Binding("r", "look", "Read anew")]

    def __init__(self, api: Api, session: str) -> None:
        super().__init__()
        self._api, self._session = api, session
        self._is_looking = False

    def compose(self) -> ComposeResult:
        """A table, and what its columns mean."""
        yield Header()
        with VerticalScroll():
            table: DataTable[object] = DataTable(cursor_type="none", id="agreement")
            table.add_columns(
                "dimension", "n pairs", "people", "models", "bias", "distance", "close", "unparsed", "hidden"
            )
            yield table
            yield Static(content(_EXPLAINED, "$text-muted"))
            yield Static("", id="state")
        yield Footer()

    def on_mount(self) -> None:
        """Read, and read again."""
        self.sub_title = cut(self._session, 60)
        self.set_interval(5, self.action_look)
        self.action_look()

    def action_look(self) -> None:
        """Read the ratings anew."""
        if self.app.screen is self and not self._is_looking:
            self._is_looking = True  # a slow answer is waited for
            self.run_worker(self._look_once(), group="look")

    async def _look_once(self) -> None:
        try:
            await self._look()
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        state = self.query_one("#state", Static)
        try:
            found = agreement([row async for row in self._api.ratings(self._session)])
        except SandboxError as error:
            state.update(content(str(error), "$text-error"))
            return
        table = self.query_one(DataTable)
        table.clear()
        for one in found:
            table.add_row(*_cells(one))
        state.update("" if found else content("Nothing has been rated yet.", "$text-muted"))


def _cells(one: Agreement) -> tuple[object, ...]:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (
        cell(one.dimension),
        str(one.n),
        str(one.people),
        str(one.models),
        shown(one.bias, "+.2f"),
        shown(one.distance, ".2f"),
        shown(one.close, ".0%"),
        str(one.unread),
        str(one.hidden),
    )

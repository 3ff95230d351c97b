"""How people and models agree in a session, by dimension."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Header, Static

from tui.agreement import Agreement, agreement
from tui.api import Api
from tui.safe import cell, content, cut
from tui.screens.looking import LookingScreen

_EXPLAINED = """A pair is a message that a person and at least one model rated in the dimension.
bias: person minus the models' mean, in points; distance: the mean of its size; close: within one point.
Ratings that could not be read (unparsed) are in no figure, nor are those hidden until yours is in."""


class AgreementScreen(LookingScreen):
    """See the module. It reads the ratings that count from the server, every few seconds."""

    BINDINGS = [Binding("escape,q", "app.pop_screen", "Back"), Binding("r", "look", "Read anew")]

    every_s = 5.0

    def __init__(self, api: Api, session: str) -> None:
        super().__init__()
        self._api, self._session = api, session

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

    def action_look(self) -> None:
        """Read the ratings anew."""
        self.look()

    def on_mount(self) -> None:
        """Of which session."""
        self.sub_title = cut(self._session, 60)

    async def read(self) -> str:
        """The ratings that count, compared."""
        found = agreement([row async for row in self._api.ratings(self._session)])
        table = self.query_one(DataTable)
        table.clear()
        for one in found:
            table.add_row(*_cells(one))
        if not found:
            return "Nothing has been rated yet."
        return (
            ""
            if any(one.n for one in found)
            else "No person has rated yet: v in an interaction rates a message."
        )


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

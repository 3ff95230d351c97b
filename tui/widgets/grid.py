"""The seats of a society: who they are, how they were rated, who speaks and who rates whom."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.layout import CELL, WIDEST, Board, Look, board, look
from tui.safe import fit
from tui.state import Watched

_LEVELS = ("#c4473a", "#c98a2b", "#a8a23a", "#6fa84f", "#2fa86f")
"""Bottom to top of the scale; the number says the same without colour."""


class SeatGrid(ScrollView, can_focus=True):
    """See the module. The arrow keys choose a seat, Enter looks at it."""

    BINDINGS = [
        Binding("up", "move(-1, 0)", "Seat above", show=False),
        Binding("down", "move(1, 0)", "Seat below", show=False),
        Binding("left", "move(0, -1)", "Seat left", show=False),
        Binding("right", "move(0, 1)", "Seat right", show=False),
        Binding("enter", "choose", "Only this seat", id="grid.choose", show=False),
    ]

    class Chosen(Message):
        """A seat was chosen, to be looked at."""

        def __init__(self, seat: str) -> None:
            super().__init__()
            self.seat = seat

    class Moved(Message):
        """Another seat is under the cursor."""

        def __init__(self, seat: str) -> None:
            super().__init__()
            self.seat = seat

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._board = Board(())
        self._looks: dict[str, Look] = {}
        self._cell_width = CELL
        self.seat = ""

    def show(self, watched: Watched, dimension: str) -> None:
        """Show how things stand."""
        view = watched.view
        self._board = board(view.topology, view.seats)
        speaking = watched.speaking()
        rating = watched.judging()
        waited = {awaited.seat for opened in view.open.values() for awaited in opened.awaited}
        scale = view.rubric.scale
        self._looks = {
            seat.name: look(
                seat,
                dimension,
                scale.low,
                scale.high,
                speaking=seat.name in speaking,
                rating=seat.name in rating,
                waited=seat.name in waited,
            )
            for seat in view.seats
        }
        if self.seat not in self._looks:
            self.seat = next((name for row in self._board.rows for name in row if name), "")
        longest = max((len(name) for name in self._looks), default=0)
        self._cell_width = min(max(longest + 5, CELL), WIDEST)
        size = Size(self._board.width * self._cell_width, len(self._board.rows))
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of seats."""
        offset = self.scroll_offset
        row = y + offset.y
        base = self.rich_style
        segments: list[Segment] = []
        if row < len(self._board.rows):
            for name in self._board.rows[row]:
                segments.append(self._cell(name, base))
        strip = Strip(segments)
        return strip.crop_extend(offset.x, offset.x + self.size.width, base)

    def _cell(self, name: str | None, base: Style) -> Segment:
        shown = self._looks.get(name or "")
        if shown is None:
            return Segment(" " * self._cell_width, base)
        style = base
        if shown.level is not None:
            style += Style(color="#101010", bgcolor=_LEVELS[shown.level])
        if shown.mark == "»":
            style += Style(bold=True)
        if name == self.seat:
            style += Style(reverse=True, bold=True) if self.has_focus else Style(underline=True)
        return Segment(fit(shown.text(self._cell_width), self._cell_width), style)

    def action_move(self, down: int, right: int) -> None:
        """Go to the seat next to this one."""
        self.seat = self._board.near(self.seat, down, right)
        if place := self._board.find(self.seat):
            row, column = place
            self.scroll_to_region(Region(column * self._cell_width, row, self._cell_width, 1), animate=False)
        self.refresh()
        self.post_message(self.Moved(self.seat))

    def action_choose(self) -> None:
        """Look at this seat only."""
        if self.seat:
            self.post_message(self.Chosen(self.seat))

    def on_click(self, event: events.Click) -> None:
        """A click chooses a seat."""
        offset = self.scroll_offset
        row, column = event.y + offset.y, (event.x + offset.x) // self._cell_width
        if row < len(self._board.rows) and column < len(self._board.rows[row]):
            self.seat = self._board.rows[row][column] or self.seat
            self.refresh()
            self.post_message(self.Moved(self.seat))
            if event.chain > 1:
                self.action_choose()

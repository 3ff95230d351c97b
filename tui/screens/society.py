"""A society at a glance: its seats, what goes on, how it is rated. Live or replayed, it looks the same."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Footer, Header, Static

from sandbox.errors import SandboxError
from tui.api import Api
from tui.filters import Filter, parse
from tui.lines import number
from tui.recalling import interaction_at
from tui.safe import content, cut, plain
from tui.screens.agreement import AgreementScreen
from tui.screens.dialogs import AskLine
from tui.screens.interaction import Interaction, Send
from tui.screens.monitors import MonitorsScreen
from tui.state import Watched, mean_of
from tui.widgets.chart import Charts
from tui.widgets.feed import Feed
from tui.widgets.grid import SeatGrid

_DRAW_S = 0.1
_EDGES = 6


class SocietyScreen(Screen[None]):
    """See the module. Those that inherit say where events come from, and what can be done."""

    BINDINGS = [
        Binding("escape", "back", "Back"),
        Binding("c", "charts", "Charts", id="society.charts"),
        Binding("d", "dimension", "Dimension", id="society.dimension", show=False),
        Binding("slash", "filter", "Filter", id="society.filter"),
        Binding("a", "agreement", "Agreement", id="society.agreement", show=False),
        Binding("w", "monitors", "Monitors", id="society.monitors", show=False),
        Binding("y", "copy", "Copy", id="society.copy", show=False),
    ]
    send: Send | None = None

    def __init__(self, api: Api, session: str) -> None:
        super().__init__()
        self.api, self.session = api, session
        self.watched: Watched | None = None
        self.is_dirty = False
        self._filter = Filter()
        self._dimension = ""
        self._said = ""
        self._style = ""
        self._wide = 0

    def compose(self) -> ComposeResult:
        """Seats on the left, the feed or the charts on the right, the state below."""
        yield Header()
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield SeatGrid(id="grid")
                yield Static("", id="seat")
                yield Static("", id="edges")
            with ContentSwitcher(initial="feed", id="right"):
                yield Feed(id="feed")
                yield Charts(id="charts")
        yield Static("", id="status")
        yield from self.compose_more()
        yield Footer()

    def compose_more(self) -> ComposeResult:
        """What stands above the footer."""
        return ()

    def on_mount(self) -> None:
        """Draw a few times a second, whatever comes."""
        self.query_one(SeatGrid).focus()
        self.set_interval(_DRAW_S, self._tick)
        self.say("Connecting …")

    def say(self, text: str, style: str = "") -> None:
        """What is to be known of the connection, or of the replay."""
        self._said, self._style = text, style
        for status in self.query("#status").results(Static):  # none before the screen is there, or after it
            status.update(self._status(), layout=False)

    def _status(self) -> Content:
        style = self._style
        watched = self.watched
        if watched is None:
            return content(self._said, style)
        view = watched.view
        paused = f" ({view.paused})" if view.paused else ""
        seats = watched.own_seats()
        ready = "  (space starts, o runs one round)" if view.status == "ready" else ""
        parts = [
            f"{view.status}{paused}{ready}",
            f"you are {watched.person}" if watched.person else "",
            f"in {', '.join(seats)}" if seats else "",
            "blind" if watched.is_blind else "",
            f"round {view.round} of {view.rounds}",
            f"event {view.seq:,}",
            f"{len(watched.people) + watched.watching} here" if watched.people or watched.watching else "",
            f"filter {self._filter}" if not self._filter.is_empty else "",
        ]
        told = "  ".join(part for part in parts if part)
        return Content.assemble(content(f"{self._said}  ", style), content(told))

    def _tick(self) -> None:
        if self.is_dirty and self.watched is not None and self.app.screen is self:
            self.is_dirty = False
            self.draw()

    def draw(self) -> None:
        """Show how things stand."""
        watched = self.watched
        if watched is None:
            return
        view = watched.view
        names = [criterion.name for criterion in view.rubric.criteria]
        if self._dimension not in names:
            self._dimension = view.rubric.peer
        self.title = cut(view.name, 40)
        self.sub_title = cut(f"{view.session}, by {self._dimension}", 60)
        grid = self.query_one(SeatGrid)
        grid.show(watched, self._dimension)
        # A society of up to five or so columns is seen whole; a larger one leaves the feed half the screen.
        wide = max(min(grid.virtual_size.width + 1, self.size.width // 2), 28)
        if wide != self._wide:
            self.query_one("#left").styles.width = self._wide = wide
        self._draw_seat(grid.seat)
        self.query_one("#edges", Static).update(self._edges(watched), layout=False)
        if self.query_one(ContentSwitcher).current == "charts":
            self.query_one(Charts).show(watched)
        else:
            self._draw_feed(watched)
        self.query_one("#status", Static).update(self._status(), layout=False)

    def _draw_feed(self, watched: Watched) -> None:
        wanted = self._filter
        entries = (
            watched.feed
            if wanted.is_empty
            else watched.entries(seat=wanted.seat, round=wanted.round, kind=wanted.kind, words=wanted.words)
        )
        typing = [
            (watched.speaker(number, step) or step, text)
            for (number, step), text in watched.typing.items()
            if wanted.seat in (None, watched.speaker(number, step))
        ]
        is_running = watched.view.status == "running"
        self.query_one(Feed).show(tuple(entries), typing, is_running=is_running, wanted=wanted)

    def _draw_seat(self, name: str) -> None:
        watched = self.watched
        seat = watched.seat(name) if watched else None
        if watched is None or seat is None:
            return
        about = [f"{seat.name}, {seat.label or seat.role or seat.kind}", seat.model or "no model"]
        if seat.person:
            about.append(f"{seat.person} sits here (when away: {seat.absent})")
        for criterion in watched.view.rubric.criteria:
            value = mean_of(seat, criterion.name)
            if value is not None:
                about.append(f"{criterion.name} {value:.2f}")
        shown = self.query_one("#seat", Static)
        told = "\n".join(cut(part, max(shown.size.width, 20)) for part in about)
        shown.update(content(told), layout=False)

    def _edges(self, watched: Watched) -> Content:
        lines = []
        for edge in list(watched.edges)[-_EDGES:]:
            value = "hidden" if edge.masked else "unparsed" if edge.value is None else number(edge.value)
            lines.append(cut(f"{edge.rater} → {edge.centre}  {value}", 28))
        return content("\n".join(lines), "$text-accent")

    def action_back(self) -> None:
        """Back to the sessions; or first, out of a filter."""
        if not self._filter.is_empty:
            self._filter = Filter()
            self.draw()
        else:
            self.app.pop_screen()

    def action_charts(self) -> None:
        """The charts, or the feed."""
        switcher = self.query_one(ContentSwitcher)
        switcher.current = "feed" if switcher.current == "charts" else "charts"
        self.draw()

    def action_dimension(self) -> None:
        """Colour the seats by the next dimension."""
        if self.watched is not None:
            names = [criterion.name for criterion in self.watched.view.rubric.criteria]
            place = names.index(self._dimension) if self._dimension in names else -1
            self._dimension = names[(place + 1) % len(names)]
            self.draw()

    def action_filter(self) -> None:
        """Show a part of the feed only."""
        asked = AskLine(
            "Show only: a seat, round:2, kind:said (rated, failed, asked), words. Empty shows all.",
            str(self._filter),
        )
        self.app.push_screen(asked, self._filtered)

    def _filtered(self, text: str | None) -> None:
        if text is None or self.watched is None:
            return
        try:
            self._filter = parse(text, {seat.name for seat in self.watched.view.seats})
        except ValueError as error:
            self.notify(plain(str(error)), severity="warning", markup=False)
            return
        self.draw()

    def action_agreement(self) -> None:
        """How people and models agree."""
        self.app.push_screen(AgreementScreen(self.api, self.session))

    def action_monitors(self) -> None:
        """What goes wrong."""
        self.app.push_screen(MonitorsScreen(self.api, self.session))

    def action_copy(self) -> None:
        """Copy the text of the line under the cursor, as it is stored."""
        feed = self.query_one(Feed)
        entry = feed.entry()
        text = getattr(entry.event, "text", "") or getattr(entry.event, "raw", "") if entry else ""
        if text:
            self.app.run_worker(self.app.copy_text(text))  # type: ignore[attr-defined]

    def on_seat_grid_moved(self, message: SeatGrid.Moved) -> None:
        """Another seat is under the cursor."""
        self._draw_seat(message.seat)

    def on_seat_grid_chosen(self, message: SeatGrid.Chosen) -> None:
        """Show one seat's events only; or all again."""
        self._filter = Filter() if self._filter.seat == message.seat else Filter(seat=message.seat)
        self.draw()

    def on_feed_opened(self, message: Feed.Opened) -> None:
        """One interaction whole."""
        self.run_worker(self._open(message.interaction, message.seq), exclusive=True, group="open")

    async def _open(self, number: int, seq: int) -> None:
        watched = self.watched
        if watched is None:
            return
        if number not in watched.records:
            try:
                record = await interaction_at(self.api, self.session, number, seq)
            except SandboxError as error:
                self.notify(plain(str(error)), severity="error", markup=False)
                return
            if record is not None:
                watched.records[number] = record
        self.app.push_screen(Interaction(watched, number, self.send))

"""A society watched live: one sees it happen, runs it, talks with it, and takes part."""

from __future__ import annotations

from contextlib import aclosing

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding

from sandbox import events as ev
from sandbox.errors import SandboxError
from sandbox.text import is_blank, one_line
from server.wire import commands as do
from server.wire import frames as fr
from tui.api import Api
from tui.live import Connected, Ended, Item, Live, Lost
from tui.safe import plain
from tui.screens.dialogs import AskLine, Confirm, TakeSeat
from tui.screens.monitors import MonitorsScreen
from tui.screens.queue import QueueScreen
from tui.screens.society import SocietyScreen
from tui.state import Watched
from tui.talk import addressed
from tui.turns import Queue
from tui.widgets.feed import Feed
from tui.widgets.grid import SeatGrid
from tui.widgets.words import TalkLine

_PAST = 1000
"""Events of the past that are read at a time."""


class LiveSociety(SocietyScreen):
    """See the module."""

    BINDINGS = [
        Binding("space", "run", "Run", id="live.run"),
        Binding("o", "step", "Round", id="live.step"),
        Binding("x", "stop", "Stop", id="live.stop", show=False),
        Binding("t", "take", "Take seat", id="live.take"),
        Binding("l", "leave", "Leave seat", id="live.leave", show=False),
        Binding("u", "queue", "Turns", id="live.queue"),
        Binding("m", "talk", "Talk", id="live.talk"),
        Binding("ctrl+r", "hurry", "Connect now", show=False, id="live.connect"),
    ]

    def __init__(self, api: Api, session: str, person: str | None) -> None:
        super().__init__(api, session)
        self._live = Live(api.base, session, api.headers, person)
        self._queue = Queue()
        self._waited = 0
        self.send = self._give

    def compose_more(self) -> ComposeResult:
        """A line to talk on; hidden until one wants to."""
        yield TalkLine(
            id="talk",
            placeholder="to all; or to some: @A1 @B2 Hello. Enter sends, ctrl+j begins another line",
            highlight_cursor_line=False,
        )

    def on_mount(self) -> None:
        """Connect."""
        self.query_one("#talk").display = False
        self._follow()

    @work(exclusive=True, group="live")
    async def _follow(self) -> None:
        async with aclosing(self._live.items()) as items:  # the connection ends with the screen
            async for item in items:
                self._take(item)

    def _take(self, item: Item) -> None:
        match item:
            case Connected():
                if self.watched is not None:
                    self.say("live", "$text-success")
            case Lost(why=why, wait_s=wait):
                count = self._live.unanswered
                pending = f" {count} of yours wait to be sent." if count else ""
                self.say(
                    f"Trying again within {wait:.0f} s (ctrl+r: now).{pending} {plain(why)}", "$text-error"
                )
            case Ended(why=why):
                self.say(f"Over: {plain(why)}", "$text-error")
            case fr.SnapshotFrame(data=view) if self.watched is None:
                self.watched = Watched(view, head=view.seq)
                self.watched.begin_anew(view)
                self._adopt_hello()
                self.say("live", "$text-success")
                self._read_past()
            case fr.HelloFrame():
                self._hello = item
                self._adopt_hello()
            case _:
                if self.watched is not None:
                    self.watched.take(item)
        self.is_dirty = True
        if _tells_of_rounds(item):
            for screen in self.app.screen_stack:
                if isinstance(screen, MonitorsScreen):
                    screen.look()

    _hello: fr.HelloFrame | None = None

    def _adopt_hello(self) -> None:
        if self.watched is not None and self._hello is not None:
            self.watched.take(self._hello)

    @work(exclusive=True, group="past")
    async def _read_past(self) -> None:
        """The events just before the snapshot, so that the feed does not begin empty."""
        watched = self.watched
        if watched is None:
            return
        first = watched.feed[0].seq if watched.feed else watched.view.seq + 1
        if first <= 1:
            return
        after = max(first - 1 - _PAST, 0)
        try:
            watched.recall(await self.api.events(self.session, after, first - 1 - after))
        except SandboxError as error:
            self.notify(plain(str(error)), severity="warning", markup=False)
        self.is_dirty = True

    def on_feed_top(self, _: Feed.Top) -> None:
        """Further back."""
        self._read_past()

    def draw(self) -> None:
        """Show how things stand; and say when something waits."""
        super().draw()
        if self.watched is not None:
            waiting = len(self.watched.waiting())
            if waiting > self._waited:
                self.notify(f"{waiting} wait for you: press u.", title="Your turn")
            self._waited = waiting

    def _give(self, command: do.Command) -> None:
        """Send a command, and say so if it was not carried out."""
        self.run_worker(self._given(command), group="commands")

    async def _given(self, command: do.Command) -> bool:
        if not self._live.is_connected:
            self.notify("The server is away: it is sent when it is back.", severity="warning")
        try:
            await self._live.send(command)
        except SandboxError as error:
            self.notify(plain(str(error)), severity="error", timeout=8, markup=False)
            return False
        return True

    def action_run(self) -> None:
        """Start or go on; or pause. After the last round: how many more?"""
        view = self.watched.view if self.watched else None
        if view is not None and view.status == "finished":
            asked = AskLine(f"All {view.rounds} rounds are done. How many in all?", str(view.rounds + 1))
            self.app.push_screen(asked, self._given_rounds)
        else:
            running = view is not None and view.status == "running"
            self._give(do.Pause() if running else do.Start())

    def _given_rounds(self, text: str | None) -> None:
        if text is None:
            return
        if not text.isdecimal() or not 0 < int(text) <= 100_000:
            self.notify("Write a number of rounds, from 1 to 100,000.", severity="warning")
            return
        self._give(do.Start(rounds=int(text)))

    def action_step(self) -> None:
        """Run one round."""
        self._give(do.Step())

    def action_stop(self) -> None:
        """Stop."""
        self._give(do.Stop())

    def action_take(self) -> None:
        """Take the seat under the cursor."""
        name = self.query_one(SeatGrid).seat
        seat = self.watched.seat(name) if self.watched else None
        if seat is None or self.watched is None:
            return
        if self.watched.person is None:
            self.notify("Say who you are first: leave, and come back with --person NAME.", severity="warning")
            return

        def taken(command: do.Take | None) -> None:
            if command is not None:
                self._give(command)

        self.app.push_screen(TakeSeat(name, seat.model is not None), taken)

    def action_leave(self) -> None:
        """Hand back the seat under the cursor, or the only one that one has."""
        seats = self.watched.own_seats() if self.watched else []
        name = self.query_one(SeatGrid).seat
        if name in seats:
            self._give(do.Leave(seat=name))
        elif len(seats) == 1:
            self._give(do.Leave(seat=seats[0]))
        else:
            self.notify("Choose the seat that you want to leave.", severity="warning")

    def action_queue(self) -> None:
        """What waits for you."""
        if self.watched is not None:
            self.app.push_screen(
                QueueScreen(self.watched, self._queue, self._live.send, lambda: not self._live.is_connected)
            )

    def action_talk(self) -> None:
        """Write a message: to all, or to the seat under the cursor."""
        talk = self.query_one("#talk", TalkLine)
        talk.display = True
        talk.focus()

    def on_talk_line_submitted(self, event: TalkLine.Submitted) -> None:
        """Send what was written; it stays until the server has it, and is sent once."""
        talk = event.talk
        if talk.read_only or self.watched is None:
            return
        if is_blank(talk.text):
            self.notify("Write something first. Escape closes the line.", severity="warning")
            return
        names = [seat.name for seat in self.watched.view.seats]
        said = addressed(talk.text, names)
        if said.unknown:
            told = (
                f"There is no seat '{said.unknown}'. There are: {one_line(', '.join(names), 300)}; or @all."
            )
            self.notify(plain(told), severity="error", timeout=8, markup=False)
        elif is_blank(said.text):
            self.notify("Write what you want to say after the names.", severity="warning")
        elif len(said.text) > do.MAX_TEXT:
            told = f"A message may have {do.MAX_TEXT:,} characters; this one has {len(said.text):,}."
            self.notify(told, severity="error", timeout=8)
        else:
            talk.read_only = True  # at once: whoever presses Enter again means the same message
            self.run_worker(self._talked(talk, do.Say(text=said.text, to=said.seats)), group="commands")

    async def _talked(self, talk: TalkLine, command: do.Say) -> None:
        try:
            if await self._given(command):
                talk.clear()
                self._close_talk(talk)
        finally:
            talk.read_only = False

    def _close_talk(self, talk: TalkLine) -> None:
        talk.display = False
        self.query_one(SeatGrid).focus()

    def action_back(self) -> None:
        """Out of the line to talk on; else as everywhere."""
        talk = self.query_one("#talk", TalkLine)
        if talk.display:
            talk.display = False
            self.query_one(SeatGrid).focus()
        elif self._live.unanswered and self._filter.is_empty:
            count = self._live.unanswered
            asked = Confirm(f"{count} of yours have not been sent yet. Leave, and drop them?", "Leave")
            self.app.push_screen(asked, self._left)
        else:
            super().action_back()

    def _left(self, is_meant: bool | None) -> None:
        if is_meant:
            self.app.pop_screen()

    def on_unmount(self) -> None:
        """What could not be sent is refused, so that whoever waits for it knows."""
        self._live.close()

    def action_hurry(self) -> None:
        """Try to connect now."""
        self._live.hurry()


def _tells_of_rounds(item: Item) -> bool:
    """Whether a round has ended, or may have while the server was away."""
    match item:
        case fr.EventFrame(data=told):
            return isinstance(told.event, ev.RoundFinished)
        case fr.SnapshotFrame() | fr.ResyncFrame():
            return True
        case _:
            return False

"""The feed: one line an event, the newest below; thousands of lines cost no more than those on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.lines import Tone, line
from tui.safe import fit
from tui.state import Entry

_TONES: dict[Tone, str] = {
    "said": "$text",
    "rated": "$text-accent",
    "failed": "$text-error",
    "run": "$text-success",
    "people": "$text-warning",
    "quiet": "$text-muted",
}


class Feed(ScrollView, can_focus=True):
    """See the module. It stays at the newest line until one scrolls up, and is there again at the end."""

    BINDINGS = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home,g", "move(-100000)", "Oldest", show=False),
        Binding("end,G", "move(100000)", "Newest", show=False),
        Binding("enter", "open", "Open", id="feed.open"),
    ]

    class Opened(Message):
        """Somebody wants to see the interaction behind a line."""

        def __init__(self, interaction: int) -> None:
            super().__init__()
            self.interaction = interaction

    class Top(Message):
        """The oldest line is reached: there may be more in the log."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: Sequence[Entry] = ()
        self._typing: list[tuple[str, str]] = []
        self.chosen: int | None = None
        """The seq of the line under the cursor; None follows the newest."""

    def show(self, entries: Sequence[Entry], typing: list[tuple[str, str]]) -> None:
        """Show these events, and below them who writes what just now."""
        self._entries, self._typing = entries, typing
        self.virtual_size = Size(self.size.width, len(entries) + len(typing))
        if self.chosen is None:
            self._follow()
        self.refresh()

    def on_resize(self) -> None:
        """Stay at the end."""
        if self.chosen is None:
            self._follow()

    def _follow(self) -> None:
        """To the newest line, once it is known how high all of them are."""
        self.call_after_refresh(lambda: self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True))

    def render_line(self, y: int) -> Strip:
        """One event."""
        row, width = y + self.scroll_offset.y, self.size.width
        base = self.rich_style
        count = len(self._entries)
        if row < count:
            return Strip(self._entry(self._entries[row], width, base)).adjust_cell_length(width, base)
        if row < count + len(self._typing):
            who, text = self._typing[row - count]
            tail = " ".join(text.split())[-max(width - len(who) - 6, 10) :]
            style = base + Style(italic=True)
            return Strip([Segment(fit(f"  {who} … {tail}", width), style)])
        return Strip.blank(width, base)

    def _entry(self, entry: Entry, width: int, base: Style) -> list[Segment]:
        told = line(entry.event, masked=entry.masked)
        style = base + self._style(told.tone)
        if entry.seq == self.chosen:
            style += Style(reverse=True)
        time = f"{entry.time.astimezone():%H:%M:%S} "
        who = f"{told.who} " if told.who else ""
        room = max(width - len(time), 4)
        head = fit(who, min(len(who), room)) if who else ""
        return [
            Segment(time, style + Style(dim=True)),
            Segment(head, style + Style(bold=True)),
            Segment(fit(told.what, max(room - len(head), 0)), style),
        ]

    def _style(self, tone: Tone) -> Style:
        colors = self.app.theme_variables
        name = _TONES[tone].removeprefix("$")
        color = colors.get(name, "")
        if color.startswith("#"):
            return Style(color=color)
        return Style(dim=True) if tone == "quiet" else Style()

    def action_move(self, by: int) -> None:
        """Go up or down; below the newest line, follow again."""
        if not self._entries:
            return
        place = self._place()
        now = len(self._entries) - 1 if place is None else place
        wanted = now + by
        if wanted < 0 and now == 0:
            self.post_message(self.Top())
        if wanted >= len(self._entries):
            self.chosen = None
            self._follow()
        else:
            wanted = max(wanted, 0)
            self.chosen = self._entries[wanted].seq
            top, height = self.scroll_offset.y, self.size.height
            if wanted < top:
                self.scroll_to(y=wanted, animate=False, immediate=True)
            elif wanted >= top + height:
                self.scroll_to(y=wanted - height + 1, animate=False, immediate=True)
        self.refresh()

    def action_open(self) -> None:
        """See the interaction behind the line."""
        if entry := self.entry():
            told = line(entry.event)
            if told.interaction is not None:
                self.post_message(self.Opened(told.interaction))

    def entry(self) -> Entry | None:
        """The line under the cursor; the newest, if there is none."""
        place = self._place()
        return self._entries[-1 if place is None else place] if self._entries else None

    def on_click(self, event: events.Click) -> None:
        """A click chooses a line, a double one opens it."""
        row = event.y + self.scroll_offset.y
        if row < len(self._entries):
            self.chosen = self._entries[row].seq
            self.refresh()
            if event.chain > 1:
                self.action_open()

    def _place(self) -> int | None:
        if self.chosen is None:
            return None
        for place, entry in enumerate(self._entries):
            if entry.seq == self.chosen:
                return place
        return None

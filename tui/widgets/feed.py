"""The feed: one line an event, the newest below; thousands of lines cost no more than those on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
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
from tui.state import FEED, Entry

_STEP = 200
"""Lines by which it grows."""
_TYPING = 3
"""Lines for who writes just now."""
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

        def __init__(self, interaction: int, seq: int) -> None:
            super().__init__()
            self.interaction = interaction
            self.seq = seq

    class Top(Message):
        """The oldest line is reached: there may be more in the log."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: Sequence[Entry] = ()
        self._typing: list[tuple[str, str]] = []
        self._wanted: object = None
        self._blank = 0
        self._base: Style | None = None
        self._tones: dict[Tone, Style] = {}
        self._strips: dict[tuple[int, bool, bool], Strip] = {}
        self.chosen: int | None = None
        """The seq of the line under the cursor; None follows the newest."""

    def show(
        self,
        entries: Sequence[Entry],
        typing: list[tuple[str, str]],
        *,
        is_running: bool,
        wanted: object = None,
    ) -> None:
        """Show these events, and below them who writes what just now, while it runs.

        Under somebody's cursor nothing moves: what is newer comes when they are back at the end, or want
        something else.
        """
        wanted_anew = wanted != self._wanted
        if wanted_anew:
            self.chosen = None
        elif self.chosen is not None and self._entries and entries and entries[0].seq >= self._entries[0].seq:
            return
        older = len(entries) - len(self._entries) if self.chosen is not None else 0
        self._wanted = wanted
        self._entries, self._typing = entries, typing[-_TYPING:]
        lines = len(entries) + (_TYPING if is_running else 0)
        # A change of size lays the whole screen out anew: it grows by many lines at once, blank ones above.
        height = lines if lines <= self.size.height else -(-lines // _STEP) * _STEP
        self._blank = height - lines
        if self.virtual_size.height != height:
            self.virtual_size = Size(self.size.width, height)
        if self.chosen is None:
            self._follow()
        elif older:
            self._scroll_to_line(self.scroll_offset.y + older)
        self.refresh()

    def notify_style_update(self) -> None:
        """Another theme: nothing is drawn yet."""
        super().notify_style_update()
        self._base = None

    def on_resize(self) -> None:
        """Stay at the end."""
        self._strips.clear()
        if self.chosen is None:
            self._follow()

    def _follow(self) -> None:
        """To the newest line, once it is known how high all of them are."""
        self.call_after_refresh(lambda: self._scroll_to_line(self.max_scroll_y))

    def _scroll_to_line(self, y: int) -> None:
        # By force: else nothing moves until the scrollbar of a list that has just grown is there.
        self.scroll_to(y=y, animate=False, immediate=True, force=True)
        if self.show_vertical_scrollbar:  # it was not told of what was scrolled before it was there
            self.vertical_scrollbar.position = self.scroll_y

    def render_line(self, y: int) -> Strip:
        """One event."""
        row, width = y + self.scroll_offset.y - self._blank, self.size.width
        base = self._style()
        count = len(self._entries)
        if 0 <= row < count:
            entry = self._entries[row]
            key = (entry.seq, entry.masked, entry.seq == self.chosen)
            strip = self._strips.get(key)
            if strip is None:
                strip = Strip(self._entry(entry, width, base)).adjust_cell_length(width, base)
                if len(self._strips) > 2 * FEED:
                    self._strips.clear()
                self._strips[key] = strip
            return strip
        if count <= row < count + len(self._typing):
            who, text = self._typing[row - count]
            tail = " ".join(text[-4 * width :].split())[-max(width - len(who) - 6, 10) :]
            return Strip([Segment(fit(f"  {who} … {tail}", width), base + Style(italic=True))])
        return Strip.blank(width, base)

    def _style(self) -> Style:
        """The widget's own style, and those of the tones: worked out once a theme."""
        if self._base is None:
            self._base = self.rich_style
            self._strips.clear()
            colors = self.app.theme_variables
            self._tones = {
                tone: _tone(colors.get(name.removeprefix("$"), "")) for tone, name in _TONES.items()
            }
            self._tones["quiet"] = Style(dim=True)
        return self._base

    def _entry(self, entry: Entry, width: int, base: Style) -> list[Segment]:
        told = line(entry.event, masked=entry.masked)
        style = base + self._tones[told.tone]
        if entry.seq == self.chosen:
            style += Style(reverse=True)
        time = f"{entry.time.astimezone():%H:%M:%S} "
        who = f"{told.who} " if told.who else ""
        room = max(width - len(time), 4)
        head = fit(who, min(cell_len(who), room)) if who else ""
        return [
            Segment(time, style + Style(dim=True)),
            Segment(head, style + Style(bold=True)),
            Segment(fit(told.what, max(room - cell_len(head), 0)), style),
        ]

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
            top, height, row = self.scroll_offset.y, self.size.height, wanted + self._blank
            if row < top:
                self._scroll_to_line(row)
            elif row >= top + height:
                self._scroll_to_line(row - height + 1)
        self.refresh()

    def action_open(self) -> None:
        """See the interaction behind the line."""
        if entry := self.entry():
            told = line(entry.event)
            if told.interaction is not None:
                self.post_message(self.Opened(told.interaction, entry.seq))

    def entry(self) -> Entry | None:
        """The line under the cursor; the newest, if there is none."""
        place = self._place()
        return self._entries[-1 if place is None else place] if self._entries else None

    def on_click(self, event: events.Click) -> None:
        """A click chooses a line, a double one opens it."""
        row = event.y + self.scroll_offset.y - self._blank
        if 0 <= row < len(self._entries):
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


def _tone(color: str) -> Style:
    return Style(color=color) if color.startswith("#") else Style()

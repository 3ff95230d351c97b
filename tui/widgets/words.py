"""Where people write: nothing that is typed or pasted is lost without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.message import Message
from textual.widgets import Input, TextArea

from server.wire.commands import MAX_TEXT

if TYPE_CHECKING:
    from textual.widget import Widget


class Words(TextArea):
    """Several lines, soft-wrapped. What would be too long for the server is not inserted, and is told."""

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()  # else it comes in once more, by way of the app
        if not _fits(self, len(self.text) - len(self.selected_text), event.text):
            event.prevent_default()


class TalkLine(Words):
    """A message: Enter sends it, ``ctrl+j`` or alt+enter begins another line."""

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, talk: TalkLine) -> None:
            super().__init__()
            self.talk = talk

    async def _on_key(self, event: events.Key) -> None:
        if event.key not in ("enter", "ctrl+j", "alt+enter", "shift+enter"):
            return
        event.prevent_default()
        event.stop()
        if event.key == "enter":
            self.post_message(self.Submitted(self))
        elif not self.read_only:
            self.insert("\n")


class Line(Input):
    """One line: what is pasted in several comes in one, with a blank between them."""

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = " ".join(event.text.splitlines()).rstrip()  # many terminals send lines parted by returns
        if _fits(self, len(self.value) - len(self.selected_text), text):
            self.replace(text, *sorted(self.selection))


def _fits(widget: Widget, before: int, pasted: str) -> bool:
    whole = before + len(pasted)
    if whole <= MAX_TEXT:
        return True
    widget.notify(
        f"With the {len(pasted):,} characters that were pasted it would have {whole:,}; it may have "
        f"{MAX_TEXT:,}. Nothing was inserted.",
        severity="error",
        timeout=10,
    )
    return False

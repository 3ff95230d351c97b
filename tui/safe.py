"""The choke point: whatever models and people wrote passes here before it reaches the terminal.

Control characters, escape sequences, bidi and zero-width characters go; markup is text. Nothing else in the
app turns foreign text into what a widget shows.
"""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.content import Content

from sandbox.text import one_line, printable

_MOST = 50_000
"""Characters of one text that are shown at once; the raw text can be saved whole."""
_LONE = re.compile(r"[\U000e0000-\U000e007f\ufe00-\ufe0f]")
"""Tags and variation selectors: terminals disagree on their width."""


def plain(text: str) -> str:
    """A text as it may be shown, over several lines."""
    shown = _LONE.sub("", printable(text.expandtabs(4)))
    if len(shown) > _MOST:
        return f"{shown[:_MOST]}… ({len(shown) - _MOST:,} more characters)"
    return shown


def content(text: str, style: str = "") -> Content:
    """The same for a widget, with markup off."""
    return Content.styled(plain(text), style) if style else Content(plain(text))


def cell(text: str, style: str = "") -> Text:
    """The same for a table's cell."""
    return Text(" ".join(plain(text).split()), style=style)


def cut(text: str, cells: int) -> str:
    """A text on one line of at most ``cells`` columns; wide characters count twice."""
    line = _LONE.sub("", one_line(text[: cells * 8 + 200], cells * 2 + 8))
    if cell_len(line) <= cells:
        return line
    return set_cell_size(line, max(cells - 1, 0)).rstrip() + "…" if cells > 0 else ""


def fit(text: str, cells: int) -> str:
    """A text on one line of exactly ``cells`` columns."""
    return set_cell_size(cut(text, cells), cells)

"""Text as it may be stored and as it may reach a terminal: the two choke points.

``storable`` is applied to every text that enters (from models, people and files); ``printable`` to
every text that leaves for a terminal. Neither knows where the text came from.
"""

from __future__ import annotations

import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # CSI
    "|\x1b[P\\]X^_](?:[^\x1b\x07\x9c]|\x1b(?!\\\\))*(?:\x07|\x1b\\\\|\x9c|$)"  # DCS, OSC, SOS, PM, APC
    "|\x9b[0-?]*[ -/]*[@-~]"
    # As single characters they are most often text in the wrong encoding: they go, what follows stays.
    "|[\x90\x98\x9d\x9e\x9f](?:[^\n\x07\x1b\x90\x98\x9c-\x9f]|\x1b(?!\\\\))*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"  # no terminal takes unpaired surrogates
)


def storable(text: str) -> str:
    """``text`` as every database and JSON reader takes it.

    Unpaired surrogates (not valid Unicode) and NUL (refused by PostgreSQL) become U+FFFD; all else stays.
    """
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def storable_in(value: Any) -> Any:
    """``value``, as JSON is read, with every text in it made storable."""
    match value:
        case str():
            return storable(value)
        case list():
            return [storable_in(one) for one in value]
        case dict():
            return {storable_in(key): storable_in(one) for key, one in value.items()}
    return value


def printable(text: str) -> str:
    """``text`` without terminal escape sequences, control, bidi and zero-width characters.

    Newline and tab stay. Terminal markup (Rich, Textual) must be off, or escaped, as well.
    """
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, width: int) -> str:
    """``text`` on one printable line of at most ``width`` characters, shortened with an ellipsis."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"

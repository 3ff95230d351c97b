"""Text as it may be stored and as it may reach a terminal, and whether there is any: the choke points.

``storable`` is applied to every text that enters (from models, people and files); ``is_blank`` wherever a
text is needed; ``printable`` to every text that leaves for a terminal. None knows where the text came from.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
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

_PARTS_OF_SPELLING = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""Joiners, and how an emoji is drawn: without ink, and at home in names."""
_INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\ufff0-\ufff8\u2065"
    "\U0001d159\U000e0000-\U000e0fff]"
)
"""Without ink, though no category says so: fillers, variation selectors, the empty Braille cell."""
_INKED_FORMATS = re.compile(
    "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U00013438]"
)
"""Format characters that are drawn: the number signs of Arabic and the like."""


def is_blank(text: str) -> bool:
    """Whether nothing in ``text`` can be seen: it is empty, or all spaces, controls and fillers.

    A blank text is no text, wherever one is needed; any other is kept as it is, with all that is in it.
    """
    return not any(map(_has_ink, text))


def kept(text: str) -> str:
    """What is stored of a text that may be left out, such as a reason: itself, or nothing if it is blank."""
    return "" if is_blank(text) else storable(text)


def is_plain_name(name: str) -> bool:
    """Whether all of a name shows: something does, and nothing is hidden in it but parts of the spelling."""
    hidden = (sign for sign in name if not _has_ink(sign) and sign not in _PARTS_OF_SPELLING)
    return not is_blank(name) and all(sign == " " for sign in hidden)


@lru_cache(maxsize=4096)
def _has_ink(character: str) -> bool:
    if character.isspace() or _INKLESS.match(character):
        return False
    match unicodedata.category(character):
        case "Cf":
            return _INKED_FORMATS.match(character) is not None
        case "Cc":
            return False
        case "Cn":  # unassigned: newer than this Python, so it may be a letter; or never to be a character
            return not (0xFDD0 <= ord(character) <= 0xFDEF or ord(character) & 0xFFFE == 0xFFFE)
    return True  # half characters among them: they are stored as U+FFFD


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

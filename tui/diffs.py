"""What a revision changed, word by word. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal, NamedTuple

_WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_FEW = 3
"""Words that stay count as such from this number on."""
_MOST = 800
"""Words; longer texts are shown side by side as wholes, for comparing them takes too long."""


class Piece(NamedTuple):
    """Some text that stayed, went or came."""

    change: Literal["same", "gone", "new"]
    text: str


@lru_cache(64)
def word_diff(before: str, after: str) -> tuple[Piece, ...]:
    """The pieces of both texts, in order. Without the ``new`` ones they are ``before``, else ``after``."""
    if before == after:
        return (Piece("same", after),) if after else ()
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if len(old) > _MOST or len(new) > _MOST:
        return tuple(piece for piece in (Piece("gone", before), Piece("new", after)) if piece.text)
    return tuple(_pieces(old, new))


def _pieces(old: list[str], new: list[str]) -> Iterator[Piece]:
    """The changes; where only a word or two stay between two of them, they are one."""
    gone, came = "", ""
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for place, (tag, a, b, c, d) in enumerate(opcodes):
        stays = "".join(new[c:d])
        lonely = 0 < place < len(opcodes) - 1 and len(re.findall(r"\w+", stays)) < _FEW
        if tag == "equal" and not lonely:
            yield from (piece for piece in (Piece("gone", gone), Piece("new", came)) if piece.text)
            gone, came = "", ""
            yield Piece("same", stays)
        else:
            gone += "".join(old[a:b])
            came += stays
    yield from (piece for piece in (Piece("gone", gone), Piece("new", came)) if piece.text)

"""Whom a message is for: ``@A1 @B2 Hello`` is for two seats, ``Hello`` or ``@all Hello`` for all. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

_ALL = "all"


class Addressed(NamedTuple):
    """What is said, and to whom (all, if nobody is named); ``unknown`` is the first name of no seat."""

    text: str
    seats: tuple[str, ...]
    unknown: str = ""


def addressed(text: str, seats: Collection[str]) -> Addressed:
    """Read a message's addressees, as they are named at its beginning, in upper or lower case."""
    known = {name.casefold(): name for name in seats}
    rest = text.strip()
    names: list[str] = []
    for_all = False
    while rest.startswith("@") and rest[1:2].strip():
        word, *after = rest.split(maxsplit=1)
        for name in filter(None, (part.removeprefix("@") for part in word[1:].rstrip(":").split(","))):
            if name.casefold() == _ALL:
                for_all = True
            elif seat := known.get(name.casefold()):
                names.append(seat)
            else:
                return Addressed(text.strip(), (), name)
        rest = "".join(after)
    return Addressed(rest, () if for_all else tuple(dict.fromkeys(names)))

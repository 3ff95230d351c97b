"""Whom a message is for: ``@A1 @B2 Hello`` is for two seats, ``Hello`` for all. Pure."""

from __future__ import annotations

from collections.abc import Collection


def addressed(text: str, seats: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """What is said, and to whom; nobody named means all. A name that is no seat is a part of the text."""
    rest = text.strip()
    names: list[str] = []
    while rest.startswith("@"):
        word, _, after = rest.partition(" ")
        name = word.removeprefix("@").rstrip(",")
        if name not in seats:
            break
        names.append(name)
        rest = after.lstrip()
    return rest, tuple(dict.fromkeys(names))

"""Takes one person's words, ratings and name out of events. Pure: event in, event out.

What they said becomes ``WITHDRAWN``, what they rated is unparsed ("withdrawn"), and a pseudonym stands for
their name wherever the log names them. What others said about it stays, except for verbatim copies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from sandbox import events as ev
from sandbox.names import normal

WITHDRAWN = "[withdrawn]"
PSEUDONYM = re.compile(r"withdrawn-\d+")
_NAMES = ("seat", "rater", "person", "author")
_LISTS = ("to", "peers", "observers")
_AFTER_NAME = {"rate": 0, "reply": 0, "observe": 2, "judge": 1}
"""The kinds of step that name somebody, with how many parts follow the name (none of them holds a dot)."""


def withdraw(events: Sequence[ev.Event], person: str, alias: str) -> dict[int, ev.Event]:
    """The events that change, by their place in ``events``."""
    said = _said(events, person)
    changed: dict[int, ev.Event] = {}
    for place, event in enumerate(events):
        told = _without(event, person, alias, said)
        if told != event:
            changed[place] = told
    return changed


def mentions(events: Iterable[ev.Event], person: str) -> list[str]:
    """The ids of messages, ratings and questions that have a name in their words, in the log's order.

    A question's id is that of its interaction. Upper and lower case are one; parts of words don't count.
    """
    name = re.compile(rf"(?<!\w){re.escape(normal(person))}(?!\w)", re.IGNORECASE)
    found: dict[str, None] = {}
    for event in events:
        match event:
            case ev.MessagePosted():
                place, words = event.message, event.text
            case ev.RatingGiven():
                place, words = f"{event.interaction}.{event.step}", f"{event.reason}\n{event.raw}"
            case ev.InteractionStarted():
                place, words = str(event.interaction), event.question
            case _:
                continue
        if name.search(unicodedata.normalize("NFC", words)):
            found[place] = None
    return list(found)


def alias_for(events: Iterable[ev.Event]) -> str:
    """A pseudonym that nobody in the events has."""
    taken = {getattr(event, name, None) for event in events for name in _NAMES}
    number = 1
    while f"withdrawn-{number}" in taken:
        number += 1
    return f"withdrawn-{number}"


def _said(events: Sequence[ev.Event], person: str) -> set[str]:
    """All that the person wrote, as it may have been copied into what others were asked."""
    texts: set[str] = set()
    for event in events:
        if not _is_by(event, person):
            continue
        for name in ("text", "reason", "question"):
            texts.add(getattr(event, name, None) or "")
    return texts - {""}


def _is_by(event: ev.Event, person: str) -> bool:
    """Whether the person gave it; a seat of theirs may bear their name, or somebody else's."""
    match event:
        case ev.MessagePosted():
            return person == (event.person or event.seat)
        case ev.RatingGiven():
            return person == (event.person or event.rater)
        case ev.InteractionStarted():
            return event.person == person or (event.seat == person and event.kind in ("chat", "rating"))
        case _:
            return False


def _without(event: ev.Event, person: str, alias: str, said: set[str]) -> ev.Event:
    update = _named(event, person, alias) | _copied(event, said)
    if _is_by(event, person):
        update |= _taken_back(event)
    return event.model_copy(update=update) if update else event


def _taken_back(event: ev.Event) -> dict[str, Any]:
    """What the person gave, as nothing."""
    match event:
        case ev.MessagePosted():
            return {"text": WITHDRAWN, "recalled": None}
        case ev.RatingGiven():
            empty = {"value": None, "raw": "", "reason": "", "distribution": None, "recalled": None}
            return empty | {"unparsed": "withdrawn"}
        case ev.InteractionStarted() if event.question:
            return {"question": WITHDRAWN}
        case _:
            return {}


def _named(event: ev.Event, person: str, alias: str) -> dict[str, Any]:
    """The pseudonym wherever the event names the person."""
    update: dict[str, Any] = {name: alias for name in _NAMES if getattr(event, name, None) == person}
    for name in _LISTS:
        names = getattr(event, name, ())
        if person in names:
            update[name] = tuple(alias if each == person else each for each in names)
    step = getattr(event, "step", "")
    if (renamed := _renamed(step, person, alias)) != step:
        update["step"] = renamed
    number, dot, said = getattr(event, "target", "").partition(".")  # a message is called by its step
    if (renamed := _renamed(said, person, alias)) != said:
        update["target"] = f"{number}{dot}{renamed}"
    if isinstance(event, ev.SeatAdded) and event.seat.name == person:
        update["seat"] = event.seat.model_copy(update={"name": alias})
    return update


def _renamed(step: str, person: str, alias: str) -> str:
    """A step with the pseudonym in the place where it names a seat or a rater; a name may hold dots."""
    kind, dot, rest = step.partition(".")
    after = _AFTER_NAME.get(kind)
    if not dot or after is None:
        return step
    parts = rest.split(".")
    cut = len(parts) - after
    if ".".join(parts[:cut]) != person:
        return step
    return ".".join((kind, alias, *parts[cut:]))


def _copied(event: ev.Event, said: set[str]) -> dict[str, Any]:
    """Verbatim copies of what the person said, in what others were asked or recalled."""
    names: tuple[str, ...] = ("recalled",)
    if isinstance(event, ev.TurnAwaited):
        names = ("text", "question")
    elif isinstance(event, ev.InteractionStarted) and event.round is None:
        names = ("question",)  # of whoever rates an answer to it later
    update: dict[str, Any] = {name: WITHDRAWN for name in names if getattr(event, name, None) in said}
    reasons = getattr(event, "reasons", ())
    if said.intersection(reasons):
        update["reasons"] = tuple(WITHDRAWN if reason in said else reason for reason in reasons)
    return update

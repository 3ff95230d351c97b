"""Blind rating: others' ratings of a message are hidden from a person until their own is in.

Also where they show through: in what an author is told of them before revising, and in tallies.

Applied to what leaves for one person (frames, pages, snapshots); the log itself is whole.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel

from sandbox import events as ev
from sandbox.events import Recorded
from sandbox.running import Store
from sandbox.store import queries
from server.wire.frames import encode_event
from server.wire.snapshot import Snapshot

E = TypeVar("E", bound=BaseModel)
HIDDEN = {"value": None, "unparsed": None, "raw": "", "reason": "", "distribution": None}


class Blinder:
    """What one person may see of the ratings in one session."""

    def __init__(self, store: Store, key: str, person: str) -> None:
        self._store = store
        self._key = key
        self._person = person
        self._rated: set[str] = set()

    @property
    def person(self) -> str:
        """Who."""
        return self._person

    async def load(self, until: int | None = None) -> None:
        """Read what the person has rated so far, or up to an event."""
        self._rated = await asyncio.to_thread(
            queries.rated_by, self._store.database, self._key, self._person, until
        )

    def hides(self, event: ev.Event) -> bool:
        """Whether an event must be masked."""
        match event:
            case ev.RatingGiven():
                return not self._is_own(event) and event.target not in self._rated
            case ev.TurnAwaited(mean=mean, reasons=reasons):
                told = mean is not None or reasons
                return bool(told) and event.person != self._person and event.target not in self._rated
            case _:
                return False

    def reveals(self, event: ev.Event) -> str | None:
        """The message whose ratings the person may see from this event on, if it is their first of it."""
        if isinstance(event, ev.RatingGiven) and self._is_own(event) and event.target not in self._rated:
            self._rated.add(event.target)
            return event.target
        return None

    def frame(self, recorded: Recorded) -> str:
        """The frame of an event that is hidden."""
        return encode_event(recorded._replace(event=masked(recorded.event)), masked=True)

    async def revealed(self, target: str) -> list[ev.Event]:
        """The ratings of a message, whole."""
        found = await asyncio.to_thread(queries.ratings_of, self._store.database, self._key, target)
        return [recorded.event for recorded in found]

    def snapshot(self, view: Snapshot) -> Snapshot:
        """A snapshot with what is hidden taken out: ratings, and the tallies that they would show through."""
        for opened in view.open.values():
            opened.ratings = [masked(r) if self.hides(r) else r for r in opened.ratings]
            opened.awaited = [masked(turn) if self.hides(turn) else turn for turn in opened.awaited]
        for seat in view.seats:
            if f"{seat.rated}.draft" not in self._rated:
                seat.drafted = {}
            if f"{seat.rated}.revision" not in self._rated:
                seat.revised = {}
        for round in view.history:
            round.ratings = {}
        return view

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of the ratings, hidden if it must be."""
        own = row.get("rater") == self._person or row.get("person") == self._person
        return row if own or row["target"] in self._rated else {**row, **HIDDEN, "masked": True}

    def _is_own(self, event: ev.RatingGiven) -> bool:
        return self._person in (event.rater, event.person)


def masked(event: E) -> E:
    """An event without what was rated."""
    hidden = HIDDEN if isinstance(event, ev.RatingGiven) else {"mean": None, "reasons": ()}
    return event.model_copy(update=hidden)

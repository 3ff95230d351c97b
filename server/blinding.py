"""Blind rating: others' ratings of a message are hidden from a person until their own is in.

Applied to what leaves for one person (frames, pages, snapshots); the log itself is whole.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sandbox import events as ev
from sandbox.events import Recorded
from sandbox.running import Store
from sandbox.store import queries
from server.wire.frames import encode_event
from server.wire.snapshot import Snapshot

HIDDEN = {"value": None, "unparsed": None, "raw": "", "reason": "", "distribution": None}


class Blinder:
    """What one person may see of the ratings in one session."""

    def __init__(self, store: Store, key: str, person: str) -> None:
        self._store = store
        self._key = key
        self._person = person
        self._rated: set[str] = set()

    async def load(self) -> None:
        """Read what the person has rated so far."""
        self._rated = await asyncio.to_thread(queries.rated_by, self._store.database, self._key, self._person)

    def hides(self, event: ev.Event) -> bool:
        """Whether an event must be masked."""
        return (
            isinstance(event, ev.RatingGiven) and not self._is_own(event) and event.target not in self._rated
        )

    def reveals(self, event: ev.Event) -> str | None:
        """The message whose ratings the person may see from this event on, if it is their first of it."""
        if isinstance(event, ev.RatingGiven) and self._is_own(event) and event.target not in self._rated:
            self._rated.add(event.target)
            return event.target
        return None

    def frame(self, recorded: Recorded) -> str:
        """The frame of a rating that is hidden."""
        return encode_event(masked(recorded), masked=True)

    async def revealed(self, target: str) -> list[ev.Event]:
        """The ratings of a message, whole."""
        found = await asyncio.to_thread(queries.ratings_of, self._store.database, self._key, target)
        return [recorded.event for recorded in found]

    def snapshot(self, view: Snapshot) -> Snapshot:
        """A snapshot with what is hidden taken out: ratings, and the tallies that they would show through."""
        for opened in view.open.values():
            opened.ratings = [masked_rating(r) if self.hides(r) else r for r in opened.ratings]
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


def masked(recorded: Recorded) -> Recorded:
    """A rating without what it says."""
    event = recorded.event
    assert isinstance(event, ev.RatingGiven)
    return recorded._replace(event=masked_rating(event))


def masked_rating(event: ev.RatingGiven) -> ev.RatingGiven:
    """A rating without what it says."""
    return event.model_copy(update=HIDDEN)

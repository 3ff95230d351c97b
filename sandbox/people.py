"""People in a running session: who sits where, what waits for them, and what they answer.

A person in a seat is put the same requests as its model, with a deadline and a stated policy for when they
are away. What waits is on record, so that it outlives a crash and can be answered a day later. It knows
no models and no terminals; the engine asks it first, and the seat's model when it has nothing to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from sandbox import events as ev
from sandbox.conversation import PERSON
from sandbox.errors import SessionError
from sandbox.exchange import Failure, Outcome, Reply, Request
from sandbox.names import is_person_name, looks_like
from sandbox.progress import Occupant, Progress
from sandbox.ratings import Rating
from sandbox.society import Absence, Agent, Human
from sandbox.store.inbox import Receipt, each
from sandbox.text import kept


class Record(Protocol):
    """Commits events, and settles the receipts with them."""

    async def __call__(self, events: Sequence[ev.Event], receipts: Sequence[Receipt] = ()) -> None:
        """Returns after the commit."""
        ...


MAX_TEXT = 20_000
"""Characters that a person may write at once."""


_PAUSED = "The run is paused. Your answer can be taken when it goes on; keep it till then."


class _Asked:
    """A request that is being put to a person; its outcome is None if they left."""

    __slots__ = ("outcome", "seat")

    def __init__(self, seat: str) -> None:
        self.seat = seat
        self.outcome: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()


class People:
    """The people of one session. ``record`` commits events before it returns."""

    def __init__(self, progress: Progress, record: Record, now: Callable[[], float] = time.time) -> None:
        self._progress = progress
        self._record = record
        self._now = now
        self._open: dict[tuple[int, str], _Asked] = {}
        self._receipts: dict[tuple[int, str], Receipt] = {}
        self._asked = asyncio.Event()

    def waiting(self, person: str | None = None) -> list[ev.TurnAwaited]:
        """What waits for one person (for anybody, if None), the oldest first."""
        return [
            awaited
            for _, opened in sorted(self._progress.open.items())
            for awaited in opened.awaited.values()
            if person is None or awaited.person == person
        ]

    async def reply(self, interaction: int, request: Request) -> Outcome | None:
        """What the person in the seat answers; None if the seat's model is to answer."""
        while occupant := self._progress.people.get(request.seat):
            key = (interaction, request.step)
            self._asked.set()
            asked = self._open[key] = _Asked(request.seat)
            try:
                opened = self._progress.open.get(interaction)
                awaited = opened.awaited.get(request.step) if opened else None
                if awaited is None or awaited.deadline is not None or awaited.person != occupant.person:
                    # One that waited when the run stopped gets all its time again: nobody could answer then.
                    awaited = self._awaited(interaction, request, occupant)
                    await self._record([awaited])
                if self._progress.people.get(request.seat) == occupant:
                    return await self._wait(asked.outcome, awaited, occupant)
            finally:
                del self._open[key]
        return None

    def receipts(self, interaction: int, step: str) -> list[Receipt]:
        """The receipt of the command by which a step was answered, to be settled with its event."""
        receipt = self._receipts.pop((interaction, step), None)
        return [receipt] if receipt else []

    def give_up(self, interaction: int) -> None:
        """Nobody takes answers in an interaction any more; those that are not on record have failed."""
        for key in [key for key in self._receipts if key[0] == interaction]:
            self._receipts.pop(key).failed(SessionError(_PAUSED))

    async def take(
        self,
        seat: str,
        person: str,
        absent: Absence = "abstain",
        patience_s: float = 300.0,
        receipt: Receipt | None = None,
    ) -> None:
        """Put a person into a seat. Raises ``SessionError`` if that can't be."""
        self.check_name(person)
        there = self._progress.society.seat(seat)
        if there is None:
            names = ", ".join(known.name for known in self._progress.society.seats())
            raise SessionError(f"There is no seat '{seat}'. The seats are: {names}.")
        occupant = self._progress.people.get(seat)
        if occupant and occupant.person != person:
            raise SessionError(f"Somebody sits at '{seat}' already. Take another seat, or wait for this one.")
        if absent == "stand_in" and not there.model:
            raise SessionError(f"No model can stand in at '{seat}'. Choose 'abstain' or 'wait'.")
        if isinstance(there, Agent) and not there.active:
            raise SessionError(f"The seat '{seat}' is not active. Take another one.")
        taken = ev.SeatTaken(seat=seat, person=person, absent=absent, patience_s=patience_s)
        await self._record([taken], each(receipt))

    async def give_back(self, seat: str, person: str | None, receipt: Receipt | None = None) -> None:
        """Take a person (whoever it is, if None) out of a seat; what waited for them is its model's.

        Raises ``SessionError`` if they don't sit there.
        """
        occupant = self._progress.people.get(seat)
        if occupant is None or person not in (None, occupant.person):
            raise SessionError(
                f"'{person}' does not sit at '{seat}'." if person else f"Nobody sits at '{seat}'."
            )
        await self._record([ev.SeatReturned(seat=seat, person=occupant.person)], each(receipt))
        for asked in self._open.values():
            if asked.seat == seat and not asked.outcome.done():
                asked.outcome.set_result(None)

    async def add_seat(
        self, human: Human, receipt: Receipt | None = None, joined: Iterable[str] = ()
    ) -> None:
        """One more seat, for people. Raises ``SessionError`` if there can be no such seat.

        It can't be called as a person is who is there, has been there, or is among those who ``joined``.
        """
        society, progress = self._progress.society, self._progress
        if society.seat(human.name):
            raise SessionError(f"There is a seat '{human.name}' already. Choose another name.")
        persons = {*progress.persons, *joined}
        if human.name in persons or looks_like(human.name, persons):
            raise SessionError(
                f"'{human.name}' is a person here, or looks like one; a seat can't have their name. "
                "Choose another."
            )
        placed = human.model_copy(update={"place": society.topology.size + len(society.humans)})
        try:
            society.with_seat(placed)
        except ValueError as error:
            raise SessionError(f"There can be no seat '{human.name}': {error}.") from error
        await self._record([ev.SeatAdded(seat=placed)], each(receipt))

    async def until_asked(self, interaction: int, step: str, seconds: float) -> None:
        """Wait a moment for a run that has just been taken up to come to what waits in it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (interaction, step) not in self._open:
                    self._asked.clear()
                    await self._asked.wait()

    def answer(
        self,
        interaction: int,
        step: str,
        person: str,
        *,
        text: str = "",
        value: float | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        """Give a person's answer to what waits for them: words, or a ``value`` with ``text`` as its reason.

        ``receipt`` is settled with the event that the answer becomes, or fails if the run stops before.
        Raises ``SessionError`` if nothing of the kind waits.
        """
        awaited = self._theirs(interaction, step, person)
        if len(text) > MAX_TEXT:
            raise SessionError(f"An answer may have {MAX_TEXT:,} characters; this one has {len(text):,}.")
        text = kept(text).strip()
        if awaited.scale is None:
            if value is not None or not text:
                raise SessionError("Words are wanted here, and no rating. Send a text.")
            reply = Reply(text, person=person)
        else:
            if value is None or not awaited.scale.holds(value):
                low, high = awaited.scale.low, awaited.scale.high
                raise SessionError(
                    f"A rating from {low} to {high} is wanted here, with a reason if you like."
                )
            reply = Reply(f"{value:g}", Rating(value, text, "human", None), person=person)
        self._resolve(interaction, step, reply, receipt)

    def skip(self, interaction: int, step: str, person: str, receipt: Receipt | None = None) -> None:
        """Abstain from what waits. Raises ``SessionError`` if nothing of the kind waits."""
        self._theirs(interaction, step, person)
        passed = Failure("abstained", "The person passed.", person=person)
        self._resolve(interaction, step, passed, receipt)

    async def react(
        self, target: str, person: str, reaction: str, on: bool = True, receipt: Receipt | None = None
    ) -> None:
        """Put a reaction on record. Raises ``SessionError`` for a name or reaction that can't be."""
        self.check_name(person)
        if not 1 <= len(reaction) <= 16 or not reaction.isprintable():
            raise SessionError("A reaction is a sign or a short word, 16 characters at most.")
        given = ev.ReactionGiven(target=target, person=person, reaction=reaction, on=on)
        await self._record([given], each(receipt))

    def check_name(self, name: str) -> None:
        """Raise ``SessionError`` unless a person may be called so here."""
        if not is_person_name(name):
            raise SessionError(
                "A person's name begins with a letter and goes on with letters, digits, spaces and .'_-, "
                "32 characters at most."
            )
        seats = [seat.name for seat in self._progress.society.seats()]
        if seat := name if name in seats else looks_like(name, seats):
            raise SessionError(
                f"'{name}' is a seat, or looks like the seat '{seat}'; a person can't act under its name. "
                "Choose another."
            )
        persons = self._progress.persons
        if name not in persons and (other := looks_like(name, {PERSON, *persons})):
            raise SessionError(
                f"'{name}' looks like '{other}', who is here already. If that is you, write it the same way; "
                "else choose another name."
            )

    def check_not_own(self, target: str, person: str) -> None:
        """Raise ``SessionError`` if the person wrote the message themselves."""
        if self._progress.authors.get(target) == person:
            raise SessionError("That message is yours. Nobody rates their own.")

    def _theirs(self, interaction: int, step: str, person: str) -> ev.TurnAwaited:
        opened = self._progress.open.get(interaction)
        awaited = opened.awaited.get(step) if opened else None
        if awaited is None or awaited.person != person:
            raise SessionError(
                "Nothing of the kind waits for you: it was answered, or its time is over. Look at what waits."
            )
        return awaited

    def _resolve(self, interaction: int, step: str, outcome: Outcome, receipt: Receipt | None) -> None:
        asked = self._open.get((interaction, step))
        if asked is None:
            raise SessionError(_PAUSED)
        if asked.outcome.done():
            raise SessionError("Your answer to this is being recorded; it can't be given twice.")
        asked.outcome.set_result(outcome)
        if receipt is not None:
            self._receipts[interaction, step] = receipt

    def _awaited(self, interaction: int, request: Request, occupant: Occupant) -> ev.TurnAwaited:
        subject = request.subject
        return ev.TurnAwaited(
            interaction=interaction,
            step=request.step,
            seat=request.seat,
            person=occupant.person,
            purpose=request.purpose,
            question=subject.question,
            text=subject.text,
            target=subject.target,
            dimension=subject.dimension,
            author=subject.author,
            mean=subject.mean,
            reasons=subject.reasons,
            scale=request.scale,
            deadline=None if occupant.absent == "wait" else round(self._now() + occupant.patience_s, 3),
        )

    async def _wait(
        self, future: asyncio.Future[Outcome | None], awaited: ev.TurnAwaited, occupant: Occupant
    ) -> Outcome | None:
        if awaited.deadline is None:
            return await future
        try:
            async with asyncio.timeout(max(awaited.deadline - self._now(), 0)):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled():  # in the last moment
                return future.result()
            if occupant.absent == "stand_in":
                return None
            return Failure("abstained", "The person did not answer in time.", person=awaited.person)

"""Where a session stands, folded from its events: the one way in which a run is resumed or forked.

Pure. It holds what a run needs to go on: the society as it is now, the rounds done, the interactions
that are open with the outcomes they already have, what every seat has come to remember, and the chats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sandbox import events as ev
from sandbox.conversation import Exchange
from sandbox.exchange import Answered
from sandbox.outcomes import recorded_outcome
from sandbox.rubric import Rubric
from sandbox.society import Absence, Society

Status = Literal["ready", "running", "paused", "finished"]


@dataclass(slots=True)
class OpenInteraction:
    """An interaction that began and has not ended, with the steps on record so far, in their order.

    ``rubric`` is the one it began under; ``said`` is whether the message that opens a chat is on record,
    which is no outcome; ``awaited`` are the steps that wait for a person.
    """

    started: ev.InteractionStarted
    rubric: Rubric
    steps: list[ev.Step] = field(default_factory=list)
    said: bool = False
    awaited: dict[str, ev.TurnAwaited] = field(default_factory=dict)

    def answered(self) -> list[Answered]:
        """The outcomes behind the steps, as a resumed generator is sent them."""
        return [Answered(step.step, recorded_outcome(step)) for step in self.steps]

    def holds(self, event: ev.Event) -> bool:
        """Whether an event of this interaction is on record already."""
        if isinstance(event, ev.InteractionStarted):
            return True
        if isinstance(event, ev.InteractionFinished):
            return False
        step = getattr(event, "step", None)
        return self.said if step == "message" else any(known.step == step for known in self.steps)


@dataclass(slots=True)
class OpenRound:
    """A round that began and has not ended: its number and the numbers of its interactions."""

    round: int
    first: int
    count: int
    finished: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Occupant:
    """The person in a seat, how long they have for a request, and what happens when it is over."""

    person: str
    absent: Absence
    patience_s: float


@dataclass(slots=True)
class _Revision:
    seat: str
    question: str
    text: str


@dataclass(slots=True)
class Progress:
    """See the module. ``revised`` lists (seat, question, revision) in the order they are remembered.

    ``people`` maps a seat to who sits there; ``authors`` a message that a person wrote to that person;
    ``persons`` are all who have acted by a name;
    ``models_before`` a seat to the models that it can be rolled back to, the last one first to go.
    ``until`` is the round after which the run is to pause, ``budget`` what was allowed since the beginning.
    """

    society: Society
    seed: int
    status: Status = "ready"
    rounds: int = 0
    rounds_done: int = 0
    until: int | None = None
    next_interaction: int = 1
    open_round: OpenRound | None = None
    open: dict[int, OpenInteraction] = field(default_factory=dict)
    revised: list[tuple[str, str, str]] = field(default_factory=list)
    chats: dict[str, list[Exchange]] = field(default_factory=dict)
    people: dict[str, Occupant] = field(default_factory=dict)
    authors: dict[str, str] = field(default_factory=dict)
    persons: set[str] = field(default_factory=set)
    models_before: dict[str, list[str]] = field(default_factory=dict)
    cost: float = 0.0
    budget: float | None = None
    _pending: dict[int, _Revision] = field(default_factory=dict)

    def apply(self, event: ev.Event) -> None:
        """Take one more event into account; events come in the order of the log."""
        if person := getattr(event, "person", None):
            self.persons.add(person)
        match event:
            case ev.RatingGiven() | ev.MessagePosted() | ev.TurnFailed():  # the most frequent first
                self._answer(event)
            case ev.RubricChanged(rubric=rubric):
                self.society = self.society.model_copy(update={"rubric": rubric})
            case ev.RunPaused() | ev.RunResumed() | ev.RunFinished() | ev.SessionForked():
                self._run(event)
            case ev.RoundStarted():
                self.status = "running"
                self.open_round = OpenRound(event.round, event.first, event.count)
                self.next_interaction = max(self.next_interaction, event.first + event.count)
            case ev.RoundFinished():
                self._end_round(event.round)
            case ev.InteractionStarted():
                self.open[event.interaction] = OpenInteraction(event, self.society.rubric)
                self.next_interaction = max(self.next_interaction, event.interaction + 1)
            case ev.InteractionFinished():
                self._end_interaction(event)
            case ev.TurnAwaited():
                if opened := self.open.get(event.interaction):
                    opened.awaited[event.step] = event
            case ev.SeatTaken() | ev.SeatReturned() | ev.SeatAdded() | ev.SeatChanged():
                self._seat(event)

    def _run(self, event: ev.RunPaused | ev.RunResumed | ev.RunFinished | ev.SessionForked) -> None:
        match event:
            case ev.SessionForked(seed=seed):
                self.seed = self.seed if seed is None else seed
                self.status = "paused"
                self.people = {}  # they stayed where they were
                for opened in self.open.values():
                    opened.awaited = {}
            case ev.RunPaused():
                self.status, self.until = "paused", None
            case ev.RunResumed(rounds=rounds, until=until, budget=budget):
                self.rounds, self.until, self.status = rounds, until, "running"
                self.budget = self.budget if budget is None else budget
            case ev.RunFinished():
                self.status, self.until = "finished", None

    def _seat(self, event: ev.SeatTaken | ev.SeatReturned | ev.SeatAdded | ev.SeatChanged) -> None:
        match event:
            case ev.SeatTaken():
                self.people[event.seat] = Occupant(event.person, event.absent, event.patience_s)
            case ev.SeatReturned():
                self.people.pop(event.seat, None)
                for opened in self.open.values():  # whoever sits there next is asked anew
                    opened.awaited = {s: a for s, a in opened.awaited.items() if a.seat != event.seat}
            case ev.SeatAdded(seat=human):
                self.society = self.society.with_seat(human)
            case ev.SeatChanged():
                self._reseat(event)

    def _reseat(self, event: ev.SeatChanged) -> None:
        before = self.models_before.setdefault(event.seat, [])
        if not event.rolled_back:
            before.append(event.before)
        elif before:
            before.pop()
        if seat := self.society.seat(event.seat):
            self.society = self.society.with_seat(seat.model_copy(update={"model": event.model}))

    def _answer(self, event: ev.Step) -> None:
        self.cost += event.usage.cost if event.usage else 0.0
        interaction = self.open[event.interaction]
        if interaction.awaited:
            interaction.awaited.pop(event.step, None)
        if isinstance(event, ev.MessagePosted):
            started = interaction.started
            if event.person or event.step == "message":
                self.authors[event.message] = event.person or event.seat
                if self.society.seat(event.seat) is None:
                    self.persons.add(event.seat)
            if event.role == "revision":
                self._pending[event.interaction] = _Revision(event.seat, started.question, event.text)
            if event.step == "message":
                interaction.said = True
                return
            if event.role == "message":
                exchange = Exchange(started.seat, started.question, event.text)
                self.chats.setdefault(event.seat, []).append(exchange)
        interaction.steps.append(event)

    def _end_interaction(self, event: ev.InteractionFinished) -> None:
        interaction = self.open.pop(event.interaction)
        if interaction.started.round is None:
            self._remember(event.interaction)
        elif self.open_round:
            self.open_round.finished.add(event.interaction)

    def _end_round(self, number: int) -> None:
        for interaction in sorted(self._pending.keys() - self.open.keys()):
            self._remember(interaction)
        self.rounds_done = number
        self.open_round = None

    def _remember(self, interaction: int) -> None:
        if revision := self._pending.pop(interaction, None):
            self.revised.append((revision.seat, revision.question, revision.text))


def fold(events: Iterable[ev.Event]) -> Progress:
    """The progress after ``events``, the first of which created the session. Raises ``ValueError``."""
    stream = iter(events)
    created = next(stream, None)
    if not isinstance(created, ev.SessionCreated):
        raise ValueError("a session's first event must be session_created")
    society = created.society
    progress = Progress(society=society, seed=society.seed, rounds=society.rounds)
    for event in stream:
        progress.apply(event)
    return progress

"""What the terminal app knows of a session, frame by frame. Pure: no terminal, no network, no clock.

A ``Watched`` begins with a snapshot and takes every frame after it; a replay gives it stored events instead.
It is bounded: by the society, and by how much of the past it keeps.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sandbox import events as ev
from sandbox.records import InteractionRecord
from sandbox.rubric import Scale
from server.wire import frames as fr
from server.wire.snapshot import OpenView, RoundView, SeatView, Snapshot, Tally, advance

FEED = 2_000
"""Lines of the feed that are kept."""
KEPT = 500
"""Interactions that are kept whole."""
EDGES = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the feed: an event and its time. ``masked`` ratings are hidden until one's own is in."""

    seq: int
    time: datetime
    event: ev.Event
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """A rating as it happened: who rated whose message, and how it came out."""

    rater: str
    centre: str
    value: float | None
    scale: Scale
    masked: bool = False


@dataclass(slots=True)
class Watched:
    """See the module. ``person`` is whom the server knows us as; ``head`` the newest event there is."""

    view: Snapshot
    person: str | None = None
    scopes: frozenset[str] = frozenset()
    head: int = 0
    people: tuple[str, ...] = ()
    watching: int = 0
    is_blind: bool = False
    feed: deque[Entry] = field(default_factory=lambda: deque(maxlen=FEED))
    edges: deque[Edge] = field(default_factory=lambda: deque(maxlen=EDGES))
    typing: dict[tuple[int, str], str] = field(default_factory=dict)
    records: OrderedDict[int, InteractionRecord] = field(default_factory=OrderedDict)
    is_gone: bool = False

    def take(self, frame: fr.ServerFrame) -> None:
        """Take one frame into account; those that are no news (answers to commands) change nothing."""
        match frame:
            case fr.EventFrame():
                seq = frame.seq
                if seq is not None and seq > self.view.seq:
                    recorded = ev.Recorded(frame.session, frame.epoch, seq, frame.ts, frame.data.event)
                    self.view.seq = seq - 1  # an event that this version does not know was left out
                    self.advance(recorded, masked=frame.data.masked)
            case fr.DeltaFrame(data=delta):
                key = (delta.interaction, delta.step)
                self.typing[key] = self.typing.get(key, "") + delta.text
            case fr.HelloFrame(data=hello):
                self.person, self.scopes, self.head = hello.person, frozenset(hello.scopes), hello.head
                self.is_blind = hello.blind
                self.typing.clear()  # what was being written when the connection went is written anew
            case fr.SnapshotFrame(data=view):
                self.begin_anew(view)
            case fr.ResyncFrame(data=again):
                self.begin_anew(again.snapshot)
            case fr.RevealedFrame(data=revealed):
                for event in revealed.ratings:
                    if isinstance(event, ev.RatingGiven):
                        self._reveal(event)
            case fr.PresenceFrame(data=there):
                self.people, self.watching = there.people, there.watching
            case fr.GoneFrame():
                self.is_gone = True
            case _:
                pass

    def begin_anew(self, view: Snapshot) -> None:
        """Go on from a snapshot: what was known of the past and is still true stays."""
        if view.epoch != self.view.epoch or view.session != self.view.session:
            self.feed.clear()
            self.records.clear()
        self.view = view
        self.head = max(self.head, view.seq)
        self.typing.clear()
        for opened in view.open.values():
            record = _record_of(opened.interaction, opened.kind, opened.round, opened.seat, opened.question)
            record.peers = opened.peers
            steps: list[ev.Step] = [*opened.messages, *opened.ratings, *opened.failures]
            for step in steps:
                _add(record, step)
            self._keep(record)

    def advance(self, recorded: ev.Recorded, *, masked: bool = False) -> None:
        """Take the event after ``view.seq`` into account. Raises ``ValueError`` for any other."""
        advance(self.view, recorded)
        self.head = max(self.head, recorded.seq)
        event = recorded.event
        self.feed.append(Entry(recorded.seq, recorded.time, event, masked))
        match event:
            case ev.InteractionStarted():
                self._start(event)
            case ev.MessagePosted() | ev.TurnFailed():
                self.typing.pop((event.interaction, event.step), None)
                self._step(event)
            case ev.RatingGiven():
                self._step(event)
                self._edge(event, masked)
            case ev.InteractionFinished():
                if record := self.records.get(event.interaction):
                    record.outcome = event.outcome
                self.typing = {key: text for key, text in self.typing.items() if key[0] != event.interaction}
            case ev.RunPaused() | ev.RunFinished():
                self.typing.clear()
            case _:
                pass

    def recall(self, past: Iterable[ev.Recorded]) -> None:
        """Add events from before what is known: the past, read page by page. Order within them is kept."""
        older = [recorded for recorded in past if not self.feed or recorded.seq < self.feed[0].seq]
        room = max(FEED - len(self.feed), 0)
        kept = older[-room:] if room else []
        entries = [Entry(r.seq, r.time, r.event, is_masked(r.event)) for r in kept]
        self.feed.extendleft(reversed(entries))
        for recorded in older:
            match recorded.event:
                case ev.InteractionStarted() as event if event.interaction not in self.records:
                    self._start(event)
                case ev.MessagePosted() | ev.RatingGiven() | ev.TurnFailed() as event:
                    self._step(event)
                case ev.InteractionFinished() as event:
                    if record := self.records.get(event.interaction):
                        record.outcome = event.outcome
                case _:
                    pass

    # Answers to what screens ask.

    def seat(self, name: str) -> SeatView | None:
        """The seat called so, if there is one."""
        return next((seat for seat in self.view.seats if seat.name == name), None)

    def waiting(self) -> list[ev.TurnAwaited]:
        """What waits for us, the oldest first."""
        return [
            awaited
            for _, opened in sorted(self.view.open.items())
            for awaited in opened.awaited
            if awaited.person == self.person
        ]

    def own_seats(self) -> list[str]:
        """The seats that we sit in."""
        return [seat.name for seat in self.view.seats if seat.person and seat.person == self.person]

    def speaking(self) -> set[str]:
        """The seats that are at their draft, revision or reply just now."""
        seats = {seat for key in self.typing if (seat := self.speaker(*key))}
        for opened in self.view.open.values():
            drafted = any(message.role == "draft" for message in opened.messages)
            if opened.kind != "chat" and (not drafted or not self._missing(opened, "rate", opened.peers)):
                seats.add(opened.seat)
        return seats

    def judging(self) -> set[str]:
        """The seats that are asked for a rating just now."""
        seats: set[str] = set()
        for opened in self.view.open.values():
            if any(message.role == "draft" for message in opened.messages):
                seats |= self._missing(opened, "rate", opened.peers)
            if any(message.role == "revision" for message in opened.messages):
                seats |= self._missing(opened, "observe", opened.observers)
        return seats

    @staticmethod
    def _missing(opened: OpenView, step: str, seats: Iterable[str]) -> set[str]:
        """Those of some seats that have not answered a kind of request yet."""
        answers = [*(r.step for r in opened.ratings), *(f.step for f in opened.failures)]
        return {seat for seat in seats if not any(f"{s}.".startswith(f"{step}.{seat}.") for s in answers)}

    def entries(
        self,
        *,
        seat: str | None = None,
        round: int | None = None,
        kind: str | None = None,
        words: str = "",
    ) -> list[Entry]:
        """The feed as far as it is wanted: of one seat, round or kind of event, holding some words."""
        wanted = words.casefold()
        return [
            entry
            for entry in self.feed
            if (kind is None or entry.event.type == kind)
            and (seat is None or seat in _seats_of(entry.event))
            and (round is None or self._round_of(entry.event) == round)
            and (not wanted or wanted in _words_of(entry.event).casefold())
        ]

    def speaker(self, interaction: int, step: str) -> str | None:
        """Whose text comes in at a step, if that is known."""
        kind, _, seat = step.partition(".")
        if kind in ("reply", "rate") and seat:
            return seat.split(".")[0]
        record = self.records.get(interaction)
        return record.seat if record else None

    def _round_of(self, event: ev.Event) -> int | None:
        number = getattr(event, "interaction", None)
        if number is None:
            return getattr(event, "round", None)
        record = self.records.get(number)
        return record.round if record else None

    def _start(self, event: ev.InteractionStarted) -> None:
        record = _record_of(event.interaction, event.kind, event.round, event.seat, event.question)
        record.peers = event.peers
        self._keep(record)

    def _keep(self, record: InteractionRecord) -> None:
        self.records[record.interaction] = record
        if len(self.records) > KEPT:
            over = sorted(number for number in self.records if number not in self.view.open)
            for number in over[: len(self.records) - KEPT]:
                del self.records[number]

    def _step(self, event: ev.Step) -> None:
        if record := self.records.get(event.interaction):
            _add(record, event)
        if isinstance(event, ev.RatingGiven):
            elsewhere = self.records.get(interaction_of(event.target))
            if elsewhere is not None and elsewhere.interaction != event.interaction:
                _add(elsewhere, event)

    def _reveal(self, rating: ev.RatingGiven) -> None:
        for number in {rating.interaction, interaction_of(rating.target)}:
            if record := self.records.get(number):
                _add(record, rating)
        for place, entry in enumerate(self.feed):
            known = entry.event
            if (
                entry.masked
                and isinstance(known, ev.RatingGiven)
                and (known.interaction, known.step) == (rating.interaction, rating.step)
            ):
                self.feed[place] = Entry(entry.seq, entry.time, rating)

    def _edge(self, event: ev.RatingGiven, masked: bool) -> None:
        record = self.records.get(interaction_of(event.target))
        if record is not None:
            self.edges.append(Edge(event.rater, record.seat, event.value, event.scale, masked))


def interaction_of(message: str) -> int:
    """The number of the interaction that a message belongs to; 0 if it is no message's id."""
    number = message.partition(".")[0]
    return int(number) if number.isdecimal() else 0


def is_masked(event: ev.Event) -> bool:
    """Whether a rating is hidden: it has neither a value nor a reason why it has none."""
    return isinstance(event, ev.RatingGiven) and event.value is None and event.unparsed is None


def mean_of(seat: SeatView, dimension: str) -> float | None:
    """How a seat's last answer was rated by observers: its revision, or its draft before there is one."""
    for tallies in (seat.revised, seat.drafted):
        tally = tallies.get(dimension)
        if tally is not None and tally.mean is not None:
            return tally.mean
    return None


def series(history: Sequence[RoundView], role: str, dimension: str) -> list[tuple[int, Tally]]:
    """The tallies of draft or revision in one dimension, round by round."""
    name = f"{role}.{dimension}"
    return [(round.round, round.ratings[name]) for round in history if name in round.ratings]


def spread(tally: Tally) -> float | None:
    """The standard deviation of a tally's values (of the population); None if nothing could be read."""
    if not tally.n:
        return None
    mean = tally.total / tally.n
    return float(max(tally.squares / tally.n - mean * mean, 0.0) ** 0.5)


def _record_of(interaction: int, kind: str, round: int | None, seat: str, question: str) -> InteractionRecord:
    return InteractionRecord(interaction=interaction, kind=kind, round=round, seat=seat, question=question)


def _add(record: InteractionRecord, step: ev.Step) -> None:
    match step:
        case ev.MessagePosted():
            if all(known.step != step.step for known in record.messages):
                record.messages.append(step)
                if step.role in ("draft", "answer"):
                    record.draft = step
                elif step.role == "revision":
                    record.revision = step
        case ev.RatingGiven():
            key = (step.interaction, step.step)
            record.ratings = [r for r in record.ratings if (r.interaction, r.step) != key] + [step]
        case ev.TurnFailed():
            if all(known.step != step.step for known in record.failures):
                record.failures.append(step)


def _seats_of(event: ev.Event) -> set[str]:
    names = {getattr(event, name, None) for name in ("seat", "rater", "person")}
    return {name for name in names if isinstance(name, str)}


def _words_of(event: ev.Event) -> str:
    return " ".join(str(getattr(event, name, "")) for name in ("question", "text", "reason", "raw", "detail"))

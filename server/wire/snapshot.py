"""A session at a glance, as of one event: what a client draws first, and keeps up to date by the events.

Pure: ``advance`` is all there is to it, on both sides of the wire. A snapshot that is advanced by every event
equals one that is made anew. It is bounded by the society and by what goes on, not by what was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox import events as ev
from sandbox.rubric import Rubric
from sandbox.society import Absence, Observer, Seat, Society
from sandbox.topology import Topology

Status = Literal["ready", "running", "paused", "finished"]


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=False)


class Tally(_View):
    """Ratings of one kind: how many could be read, their sum and squares, and how many could not."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    unparsed: int = 0

    @property
    def mean(self) -> float | None:
        """The mean of what could be read; None if nothing could."""
        return self.total / self.n if self.n else None


class SeatView(_View):
    """A seat: who speaks there, and how its last draft and revision were rated by observers, by dimension.

    ``drafted`` and ``revised`` belong to the newest interaction with a rating.
    """

    name: str
    kind: Literal["agent", "observer", "human"]
    place: int | None = None
    label: str | None = None
    role: str | None = None
    model: str | None = None
    person: str | None = None
    absent: Absence | None = None
    rated: int = 0
    drafted: dict[str, Tally] = Field(default_factory=dict)
    revised: dict[str, Tally] = Field(default_factory=dict)


class OpenView(_View):
    """An interaction that goes on, with what was said and rated in it so far."""

    interaction: int
    kind: str
    round: int | None
    seat: str
    question: str
    peers: tuple[str, ...]
    observers: tuple[str, ...]
    messages: list[ev.MessagePosted] = Field(default_factory=list)
    ratings: list[ev.RatingGiven] = Field(default_factory=list)
    failures: list[ev.TurnFailed] = Field(default_factory=list)
    awaited: list[ev.TurnAwaited] = Field(default_factory=list)


class RoundView(_View):
    """A round's observer ratings by "draft.DIMENSION" and "revision.DIMENSION"; its interactions."""

    round: int
    begun: int = 0
    finished: int = 0
    ratings: dict[str, Tally] = Field(default_factory=dict)


class Totals(_View):
    """Since the session began. ``cost`` is in US dollars; ``recalled`` of ``drafts`` recalled a memory."""

    interactions: int = 0
    messages: int = 0
    drafts: int = 0
    recalled: int = 0
    ratings: int = 0
    unparsed: int = 0
    failures: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class Snapshot(_View):
    """See the module. ``seq`` is the event that it is as of; ``rounds`` is how many are meant in all."""

    session: str
    epoch: str
    seq: int
    name: str
    status: Status = "ready"
    paused: ev.PauseReason | None = None
    detail: str = ""
    round: int = 0
    rounds: int = 0
    topology: Topology
    rubric: Rubric
    questions: int = 0
    parent: str | None = None
    seats: list[SeatView]
    open: dict[int, OpenView] = Field(default_factory=dict)
    history: list[RoundView] = Field(default_factory=list)
    totals: Totals = Totals()


def snapshot(events: Iterable[ev.Recorded]) -> Snapshot:
    """The snapshot after ``events``, the first of which created the session. Raises ``ValueError``."""
    stream = iter(events)
    first = next(stream, None)
    if first is None or not isinstance(first.event, ev.SessionCreated):
        raise ValueError("a session's first event must be session_created")
    view = _begun(first, first.event.society)
    for recorded in stream:
        advance(view, recorded)
    return view


def _begun(recorded: ev.Recorded, society: Society) -> Snapshot:
    return Snapshot(
        session=recorded.session,
        epoch=recorded.epoch,
        seq=recorded.seq,
        name=society.name,
        rounds=society.rounds,
        topology=society.topology,
        rubric=society.rubric,
        questions=len(society.questions),
        seats=[_seat(seat) for seat in society.seats()],
        totals=Totals(),
    )


def _seat(seat: Seat) -> SeatView:
    return SeatView(
        name=seat.name,
        kind=seat.kind,
        place=None if isinstance(seat, Observer) else seat.place,
        label=getattr(seat, "label", None),
        role=getattr(seat, "role", None),
        model=seat.model,
    )


def advance(view: Snapshot, recorded: ev.Recorded) -> None:
    """Take the event after ``view.seq`` into account. Raises ``ValueError`` for any other."""
    if recorded.seq != view.seq + 1:
        raise ValueError(f"event {recorded.seq} does not follow on {view.seq}")
    view.seq = recorded.seq
    match recorded.event:
        case ev.MessagePosted() | ev.RatingGiven() | ev.TurnFailed() as event:
            _step(view, event)
        case ev.InteractionStarted() as event:
            _start(view, event)
        case ev.InteractionFinished() as event:
            opened = view.open.pop(event.interaction, None)
            if opened and opened.round is not None:
                _round(view, opened.round).finished += 1
        case ev.TurnAwaited() as event:
            if opened := view.open.get(event.interaction):
                opened.awaited = [a for a in opened.awaited if a.step != event.step] + [event]
        case ev.SeatTaken() | ev.SeatReturned() | ev.SeatAdded() | ev.SeatChanged() as event:
            _reseat(view, event)
        case event:
            _run(view, event)


def _run(view: Snapshot, event: ev.Event) -> None:
    match event:
        case ev.RoundStarted():
            view.status, view.paused, view.round = "running", None, event.round
            _round(view, event.round)
        case ev.RunPaused():
            view.status, view.paused, view.detail = "paused", event.reason, event.detail
        case ev.RunResumed():
            view.status, view.paused, view.detail, view.rounds = "running", None, "", event.rounds
        case ev.RunFinished():
            view.status, view.paused = "finished", None
        case ev.SessionForked():
            view.status, view.paused, view.parent = "paused", None, event.parent
            for seat in view.seats:
                seat.person = seat.absent = None
            for opened in view.open.values():
                opened.awaited = []
        case ev.RubricChanged():
            view.rubric = event.rubric
        case _:
            pass


def _left(view: Snapshot, seat: str) -> None:
    """What waited in a seat waits no more: whoever sits there next is asked anew."""
    for opened in view.open.values():
        if opened.awaited:
            opened.awaited = [awaited for awaited in opened.awaited if awaited.seat != seat]


def _reseat(view: Snapshot, event: ev.SeatTaken | ev.SeatReturned | ev.SeatAdded | ev.SeatChanged) -> None:
    if isinstance(event, ev.SeatAdded):
        view.seats.append(_seat(event.seat))
        return
    for seat in view.seats:
        if seat.name == event.seat:
            match event:
                case ev.SeatTaken():
                    seat.person, seat.absent = event.person, event.absent
                case ev.SeatReturned():
                    seat.person = seat.absent = None
                    _left(view, event.seat)
                case ev.SeatChanged():
                    seat.model = event.model


def _start(view: Snapshot, event: ev.InteractionStarted) -> None:
    view.totals.interactions += 1
    if event.round is not None:
        _round(view, event.round).begun += 1
    view.open[event.interaction] = OpenView(
        interaction=event.interaction,
        kind=event.kind,
        round=event.round,
        seat=event.seat,
        question=event.question,
        peers=event.peers,
        observers=event.observers,
    )


def _step(view: Snapshot, event: ev.Step) -> None:
    totals = view.totals
    opened = view.open.get(event.interaction)
    match event:
        case ev.MessagePosted():
            totals.messages += 1
            if event.role == "draft":
                totals.drafts += 1
                totals.recalled += event.recalled is not None
            if opened:
                opened.messages.append(event)
        case ev.RatingGiven():
            totals.ratings += 1
            totals.unparsed += event.unparsed is not None
            if opened:
                opened.ratings.append(event)
                _observed(view, opened, event)
        case ev.TurnFailed():
            totals.failures += 1
            if opened:
                opened.failures.append(event)
    if opened and opened.awaited:
        opened.awaited = [awaited for awaited in opened.awaited if awaited.step != event.step]
    if usage := event.usage:
        totals.calls += 1
        totals.prompt_tokens += usage.prompt_tokens
        totals.completion_tokens += usage.completion_tokens
        totals.cost += usage.cost


def _observed(view: Snapshot, opened: OpenView, event: ev.RatingGiven) -> None:
    if event.rated_as != "observer" or (event.value is None and event.unparsed is None):
        return  # not an observer's, or hidden from who looks
    role = event.target.partition(".")[2]
    for seat in view.seats:
        if seat.name == opened.seat and opened.interaction >= seat.rated:
            if opened.interaction > seat.rated:
                seat.rated, seat.drafted, seat.revised = opened.interaction, {}, {}
            _count((seat.revised if role == "revision" else seat.drafted), event.dimension, event.value)
    if opened.round is not None:
        _count(_round(view, opened.round).ratings, f"{role}.{event.dimension}", event.value)


def _count(tallies: dict[str, Tally], name: str, value: float | None) -> None:
    tally = tallies.setdefault(name, Tally())
    if value is None:
        tally.unparsed += 1
    else:
        tally.n += 1
        tally.total += value
        tally.squares += value * value


def _round(view: Snapshot, number: int) -> RoundView:
    for known in reversed(view.history):
        if known.round == number:
            return known
    view.history.append(RoundView(round=number))
    return view.history[-1]

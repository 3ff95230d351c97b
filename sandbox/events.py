"""Everything that can happen in a session: one discriminated union, frozen.

Pure. An event states a fact, in the past tense; its ``seq``, ``epoch`` and time are the log's
(``Recorded``). Interactions are numbered per session; a message's id is ``"<interaction>.<step>"``.
Fields that hold their default are left out of the stored form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sandbox.exchange import FailureKind, Purpose, Usage
from sandbox.names import normal
from sandbox.ratings import Method, UnparsedReason
from sandbox.rubric import Rubric, Scale
from sandbox.society import Absence, Human, ModelSpec, Seed, Society

InteractionKind = Literal["deliberation", "answer", "chat", "rating"]
InteractionOutcome = Literal["revised", "unrevised", "answered", "failed"]
MessageRole = Literal["draft", "revision", "answer", "message"]
RaterRole = Literal["peer", "observer", "judge"]
"""Peers rate drafts in a deliberation, observers drafts and revisions; a judge rates whatever was said."""
PauseReason = Literal["paused", "stopped", "budget", "error"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SessionCreated(_Event):
    """A session began with this society."""

    type: Literal["session_created"] = "session_created"
    society: Society


class SessionForked(_Event):
    """This session's events up to here are those of ``parent`` up to its seq ``at``."""

    type: Literal["session_forked"] = "session_forked"
    parent: str
    at: int
    seed: Seed | None = None


class RunPaused(_Event):
    """The run stopped before its end, on purpose; what was done stands."""

    type: Literal["run_paused"] = "run_paused"
    reason: PauseReason
    detail: str = ""


class RunResumed(_Event):
    """A paused run goes on, or a finished one was given more rounds (``rounds`` in all).

    It is to pause when round ``until`` is over, if that is given; from now on it may cost ``budget`` US
    dollars in all, if that is given.
    """

    type: Literal["run_resumed"] = "run_resumed"
    rounds: int
    until: int | None = None
    budget: float | None = None


class RunFinished(_Event):
    """All rounds are done."""

    type: Literal["run_finished"] = "run_finished"


class RubricChanged(_Event):
    """From this event on the society's norms are these."""

    type: Literal["rubric_changed"] = "rubric_changed"
    rubric: Rubric


class SeatTaken(_Event):
    """A person sits down: the seat's requests go to them, each for ``patience_s`` seconds at most.

    ``absent`` is what happens after that.
    """

    type: Literal["seat_taken"] = "seat_taken"
    seat: str
    person: str
    absent: Absence = "abstain"
    patience_s: float = 300.0


class SeatReturned(_Event):
    """The person left the seat; it is its model's again, or empty."""

    type: Literal["seat_returned"] = "seat_returned"
    seat: str
    person: str


class SeatAdded(_Event):
    """There is one more seat, for a person."""

    type: Literal["seat_added"] = "seat_added"
    seat: Human


class SeatChanged(_Event):
    """From its next request on, the seat speaks through another model (``before``: the one until now).

    ``rolled_back`` is whether that takes its last change back.
    """

    type: Literal["seat_changed"] = "seat_changed"
    seat: str
    model: ModelSpec
    before: str = ""
    rolled_back: bool = False


class TurnAwaited(_Event):
    """A request waits for a person; ``deadline`` in seconds since 1970, None for as long as it takes."""

    type: Literal["turn_awaited"] = "turn_awaited"
    interaction: int
    step: str
    seat: str
    person: str
    purpose: Purpose
    question: str = ""
    text: str = ""
    target: str = ""
    dimension: str = ""
    author: str = ""
    mean: float | None = None
    reasons: tuple[str, ...] = ()
    scale: Scale | None = None
    deadline: float | None = None


class ReactionGiven(_Event):
    """A person reacted to a message, or took the reaction back (``on`` false). It is no rating."""

    type: Literal["reaction_given"] = "reaction_given"
    target: str
    person: str
    reaction: str
    on: bool = True


class RoundStarted(_Event):
    """Round ``round`` (from 1) began: its interactions are numbered from ``first`` on, ``count`` of them."""

    type: Literal["round_started"] = "round_started"
    round: int
    first: int
    count: int


class RoundFinished(_Event):
    """All interactions of a round are over; what was revised in it is remembered from here on."""

    type: Literal["round_finished"] = "round_finished"
    round: int


class InteractionStarted(_Event):
    """A seat was asked a question, or a message was sent. ``round`` is None outside rounds.

    ``person`` is who asked, where a person did.
    """

    type: Literal["interaction_started"] = "interaction_started"
    interaction: int
    kind: InteractionKind = "deliberation"
    round: int | None = None
    seat: str
    question: str = ""
    peers: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()
    person: str | None = None


class MessagePosted(_Event):
    """A seat or a person wrote something. ``recalled`` is the remembered question that informed it.

    In this and the other answers, ``person`` is who gave it in the seat's place.
    """

    type: Literal["message_posted"] = "message_posted"
    interaction: int
    step: str
    seat: str
    role: MessageRole
    text: str
    to: tuple[str, ...] = ()
    recalled: str | None = None
    usage: Usage | None = None
    person: str | None = None

    @property
    def message(self) -> str:
        """The message's id within its session."""
        return f"{self.interaction}.{self.step}"


class RatingGiven(_Event):
    """One rater's judgement of one message in one dimension: a value, or why none could be read."""

    type: Literal["rating_given"] = "rating_given"
    interaction: int
    step: str
    rater: str
    role: RaterRole | None = None
    target: str
    dimension: str
    value: float | None = None
    unparsed: UnparsedReason | None = None
    scale: Scale = Scale()
    raw: str = ""
    reason: str = ""
    method: Method = "text"
    distribution: tuple[tuple[int, float], ...] | None = None
    rubric: int = 1
    recalled: str | None = None
    usage: Usage | None = None
    person: str | None = None

    @property
    def rated_as(self) -> RaterRole | None:
        """In which role it was given; read off the step in logs from before ``role`` was there."""
        return self.role or _ROLE_OF_STEP.get(self.step.partition(".")[0])


_ROLE_OF_STEP: dict[str, RaterRole] = {"rate": "peer", "observe": "observer", "judge": "judge"}


class TurnFailed(_Event):
    """A request got no usable reply; nothing takes its place."""

    type: Literal["turn_failed"] = "turn_failed"
    interaction: int
    step: str
    seat: str
    error: FailureKind
    detail: str = ""
    usage: Usage | None = None
    person: str | None = None


class InteractionFinished(_Event):
    """An interaction is over."""

    type: Literal["interaction_finished"] = "interaction_finished"
    interaction: int
    outcome: InteractionOutcome


Event = Annotated[
    SessionCreated
    | SessionForked
    | RunPaused
    | RunResumed
    | RunFinished
    | RubricChanged
    | SeatTaken
    | SeatReturned
    | SeatAdded
    | SeatChanged
    | TurnAwaited
    | ReactionGiven
    | RoundStarted
    | RoundFinished
    | InteractionStarted
    | MessagePosted
    | RatingGiven
    | TurnFailed
    | InteractionFinished,
    Field(discriminator="type"),
]
Step = MessagePosted | RatingGiven | TurnFailed
"""The events that answer a request: each carries its ``step`` and what the call took."""


class Recorded(NamedTuple):
    """An event as the log holds it: ``seq`` counts from 1 without gaps within a session's ``epoch``."""

    session: str
    epoch: str
    seq: int
    time: datetime
    event: Event

    def as_json(self) -> dict[str, Any]:
        """The whole as values that JSON knows, every field of the event written out."""
        return {
            "session": self.session,
            "epoch": self.epoch,
            "seq": self.seq,
            "time": self.time.isoformat(),
            "event": self.event.model_dump(mode="json"),
        }


EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def dump(event: Event) -> str:
    """The stored form of an event: JSON without the fields that hold their default.

    What describes the society is written out whole: defaults may change, a stored session must not.
    """
    if isinstance(event, SessionCreated | RubricChanged):
        return event.model_dump_json()
    body = event.__pydantic_serializer__.to_json(event, exclude_defaults=True).decode()
    head = f'{{"type":"{event.type}"'
    return f"{head}}}" if body == "{}" else f"{head},{body[1:]}"


def load(payload: str) -> Event:
    """The event that ``dump`` wrote, names in NFC. Raises ``pydantic.ValidationError`` for anything else."""
    event = EVENT.validate_json(payload)
    return event if payload.isascii() else _with_normal_names(event)


def _with_normal_names(event: Event) -> Event:
    """The event as it would be stored today; those before had people's names as they came."""
    update: dict[str, Any] = {}
    for field in ("seat", "rater", "person", "author", "step", "target", "to"):
        match getattr(event, field, None):
            case str() as name if normal(name) != name:
                update[field] = normal(name)
            case tuple() as names if any(normal(name) != name for name in names):
                update[field] = tuple(map(normal, names))
    return event.model_copy(update=update) if update else event

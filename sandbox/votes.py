"""From events to the ratings that count, and to what was answered: all that monitors look at. Pure.

Of one rater's votes on a message in a dimension the last counts; a person is one rater, in whichever seat.
What was withdrawn, and what is hidden from whoever asks, is as if it were not there. Nothing that follows
depends on how the events of different interactions were interleaved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sandbox import events as ev
from sandbox.rubric import Scale
from sandbox.society import Agent, Seat
from sandbox.withdrawing import WITHDRAWN

Asked = Literal["peer", "observer", ""]


class Vote(NamedTuple):
    """A rating that counts. ``value`` is None if it could not be read, ``model`` empty if a person gave it.

    ``asked`` is as what the rater was asked within the interaction that the message belongs to.
    """

    target: str
    dimension: str
    rater: str
    is_person: bool
    model: str
    interaction: int
    asked: Asked
    value: float | None
    scale: Scale

    @property
    def as_peer(self) -> bool:
        """Whether the rater was asked as the author's peer, not as an observer or a judge."""
        return self.asked == "peer"


class Answer(NamedTuple):
    """A final answer in a round."""

    interaction: int
    round: int
    seat: str
    text: str


@dataclass(slots=True)
class Seen:
    """``votes`` on today's scale in the order of message, dimension and rater; ``authors`` maps a message to
    the model that wrote it; ``rounds`` an interaction to its round; ``same`` one to the first about the same
    question."""

    votes: list[Vote] = field(default_factory=list)
    other_scale: int = 0
    authors: dict[str, str] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    same: dict[int, int] = field(default_factory=dict)

    def question(self, interaction: int) -> int:
        """What stands for the question of an interaction: the first that has the same, or none, itself."""
        return self.same.get(interaction, interaction)


def gather(events: Iterable[ev.Event]) -> Seen:
    """What monitors look at in ``events``."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    return reader.seen()


class _Reader:
    def __init__(self) -> None:
        self._votes: dict[tuple[str, str, str], Vote] = {}
        self._scale: Scale | None = None
        self._models: dict[str, tuple[str, str]] = {}
        self._authors: dict[str, str] = {}
        self._rounds: dict[int, int] = {}
        self._questions: dict[int, str] = {}
        self._messages: dict[int, dict[str, ev.MessagePosted]] = {}
        self._finished: set[int] = set()

    def take(self, event: ev.Event) -> None:
        """Take one more event into account."""
        match event:
            case ev.RatingGiven():
                self._rate(event)
            case ev.MessagePosted():
                self._post(event)
            case ev.InteractionStarted(interaction=number, round=round, question=question):
                if question and question != WITHDRAWN:
                    self._questions[number] = " ".join(question.split())
                if round is not None:
                    self._rounds[number] = round
            case ev.InteractionFinished(interaction=number):
                self._finished.add(number)
            case ev.SessionCreated(society=society):
                self._scale = society.rubric.scale
                for seat in society.seats():
                    self._seat(seat)
            case ev.RubricChanged(rubric=rubric):
                self._scale = rubric.scale
            case ev.SeatAdded(seat=human):
                self._seat(human)
            case ev.SeatChanged(seat=name, model=model):
                _, rating = self._models.get(name, ("", ""))
                self._models[name] = (_bare(model), rating)
            case _:
                pass

    def seen(self) -> Seen:
        """All of it, in an order of its own."""
        votes = [vote for _, vote in sorted(self._votes.items())]
        scale = self._scale or _most_used(votes)
        kept = [vote for vote in votes if vote.scale == scale]
        answers = [
            Answer(number, self._rounds[number], message.seat, message.text)
            for number, messages in sorted(self._messages.items())
            if number in self._finished and number in self._rounds
            if (message := messages.get("revision") or messages.get("draft")) is not None
            if message.text != WITHDRAWN
        ]
        first: dict[str, int] = {}
        same = {number: first.setdefault(asked, number) for number, asked in sorted(self._questions.items())}
        return Seen(kept, len(votes) - len(kept), self._authors, self._rounds, answers, same)

    def _seat(self, seat: Seat) -> None:
        rating = seat.rating_model if isinstance(seat, Agent) else None
        self._models[seat.name] = (_bare(seat.model or ""), _bare(rating or ""))

    def _post(self, event: ev.MessagePosted) -> None:
        if event.person is None and event.step != "message":  # which is what opens a chat, said by a person
            model = event.usage.model if event.usage else ""
            if model := model or self._models.get(event.seat, ("", ""))[0]:
                self._authors[event.message] = model
        role = "draft" if event.role == "answer" else event.role
        if role in ("draft", "revision"):
            self._messages.setdefault(event.interaction, {})[role] = event

    def _rate(self, event: ev.RatingGiven) -> None:
        if event.value is None and event.unparsed is None:
            return  # hidden from whoever asks
        key = (event.target, event.dimension, event.person or event.rater)
        if event.unparsed == "withdrawn":
            self._votes.pop(key, None)
            return
        is_person = event.person is not None or event.method == "human"
        head = event.target.partition(".")[0]
        interaction = int(head) if head.isdecimal() and len(head) < 10 else event.interaction
        before = self._votes.get(key)
        asked = _asked(event) if interaction == event.interaction else ""
        value = event.value if event.value is not None and event.scale.holds(event.value) else None
        self._votes[key] = Vote(
            *key,
            is_person=is_person,
            model="" if is_person else self._rating_model(event),
            interaction=interaction,
            asked=asked or (before.asked if before else ""),
            value=value,
            scale=event.scale,
        )

    def _rating_model(self, event: ev.RatingGiven) -> str:
        if event.usage and event.usage.model:
            return event.usage.model
        own, rating = self._models.get(event.rater, ("", ""))
        return rating or own


def _asked(event: ev.RatingGiven) -> Asked:
    match event.rated_as:
        case "peer" | "observer" as role:
            return role
    return ""


def _bare(spec: str) -> str:
    """A model as usage names it: a script's options are no part of its name."""
    return spec.partition("?")[0] if spec.startswith("scripted/") else spec


def _most_used(votes: Iterable[Vote]) -> Scale | None:
    counts = Counter((vote.scale.low, vote.scale.high) for vote in votes)
    if not counts:
        return None
    (low, high), _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    return Scale(low=low, high=high)

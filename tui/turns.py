"""What a person has to answer, and what they have begun to: their queue. Pure.

Half-written answers and half-made ratings belong to the request, not to a window: they are there when one
comes back to it, and go only when the server has taken the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox import events as ev
from sandbox.text import is_blank
from server.wire import commands as do

Key = tuple[int, str]


@dataclass(slots=True)
class Draft:
    """A begun answer."""

    text: str = ""
    value: int | None = None


@dataclass(slots=True)
class Queue:
    """See the module. ``at`` is which of those that wait is in front."""

    turns: list[ev.TurnAwaited] = field(default_factory=list)
    at: int = 0
    drafts: dict[Key, Draft] = field(default_factory=dict)
    sent: list[ev.TurnAwaited] = field(default_factory=list)
    under_way: set[Key] = field(default_factory=set)

    def show(self, waiting: list[ev.TurnAwaited]) -> None:
        """Take over what waits now, and stay at the same request if it is still there."""
        front = self.front
        self.turns = [turn for turn in waiting if key_of(turn) not in self.under_way]
        keys = [key_of(turn) for turn in self.turns]
        if front is not None and key_of(front) in keys:
            self.at = keys.index(key_of(front))
        else:
            self.at = min(self.at, max(len(self.turns) - 1, 0))

    @property
    def front(self) -> ev.TurnAwaited | None:
        """The request in front."""
        return self.turns[self.at] if self.at < len(self.turns) else None

    def draft(self) -> Draft:
        """What was begun for the request in front."""
        turn = self.front
        return Draft() if turn is None else self.drafts.setdefault(key_of(turn), Draft())

    def go(self, by: int) -> None:
        """To the next request, or the one before."""
        if self.turns:
            self.at = (self.at + by) % len(self.turns)

    def answer(self) -> do.Answer | str:
        """The answer as it stands, or what is still missing in it."""
        turn, begun = self.front, self.draft()
        if turn is None:
            return "Nothing waits for you."
        if len(begun.text) > do.MAX_TEXT:
            return f"At most {do.MAX_TEXT:,} characters can be sent; this has {len(begun.text):,}."
        if turn.scale is None:
            if is_blank(begun.text):
                return "Write something first."
            return do.Answer(interaction=turn.interaction, step=turn.step, text=begun.text.strip())
        if begun.value is None:
            return f"Choose a number from {turn.scale.low} to {turn.scale.high} first."
        return do.Answer(
            interaction=turn.interaction, step=turn.step, text=begun.text.strip(), value=float(begun.value)
        )

    def choose(self, number: int) -> bool:
        """Choose a value by its digit; whether it is on the scale. 0 is 10 where that is on it."""
        turn = self.front
        if turn is None or turn.scale is None:
            return False
        value = 10 if number == 0 and not turn.scale.holds(0) else number
        if not turn.scale.holds(value):
            return False
        self.draft().value = value
        return True

    def begin(self, turn: ev.TurnAwaited) -> None:
        """Its answer is on its way."""
        self.under_way.add(key_of(turn))
        self.show(self.turns)

    def taken(self, turn: ev.TurnAwaited) -> None:
        """The server has it."""
        self.under_way.discard(key_of(turn))
        self.drafts.pop(key_of(turn), None)
        self.sent.append(turn)

    def failed(self, turn: ev.TurnAwaited) -> None:
        """It has not: what was written stays."""
        self.under_way.discard(key_of(turn))

    def last_rated(self) -> ev.TurnAwaited | None:
        """The last rating that was sent, to be given anew: the later one counts."""
        return next((turn for turn in reversed(self.sent) if turn.scale is not None and turn.target), None)


def key_of(turn: ev.TurnAwaited) -> Key:
    """What names a request."""
    return (turn.interaction, turn.step)

"""What training sees: one prompt with its rated candidates, and where all of it came from.

Pure. It does not know how groups are made, stored or trained on.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sandbox.exchange import ChatMessage

Kind = Literal["imitation", "self-critic", "realignment"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The three kinds of alignment data, in the order in which the paper trains on them."""
DIGEST = 15
"""Bytes of a digest that tells questions or prompts apart. One more would take Python a third more memory."""
Raters = Literal["people", "models", "all"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Turn(_Part):
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class Judgement(_Part):
    """One rating that counted. ``reference`` is the rating's id in its session, ``target`` what it rates."""

    reference: str
    target: str
    rater: str
    person: str | None = None
    value: float
    method: str = ""
    rubric: int = 1
    reason: str = ""


class Candidate(_Part):
    """One reply to the prompt. ``rating`` is on the group's scale, None where nobody rated it.

    ``messages`` are the ids of the messages that say this, ``model`` what spoke, ``person`` who did.
    """

    text: str = Field(min_length=1)
    rating: float | None = None
    messages: tuple[str, ...] = ()
    seat: str = ""
    model: str = ""
    person: str | None = None
    judgements: tuple[Judgement, ...] = ()


class Group(_Part):
    """A prompt and its candidates, each different; ratings go from ``low`` to ``high``, which is best.

    ``question`` is what the society was asked, by which training and held-out parts are told apart;
    ``people`` are all whose words or ratings are in it, in the prompt too.
    """

    kind: Kind = "imitation"
    prompt: tuple[Turn, ...] = Field(min_length=1)
    question: str
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    low: float = 1
    high: float = 7
    dimension: str = "alignment"
    session: str = ""
    people: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Group:
        if self.low >= self.high:
            raise ValueError(f"the scale must rise: low is {self.low}, high is {self.high}")
        texts = [candidate.text for candidate in self.candidates]
        if len(set(texts)) < len(texts):
            raise ValueError("the candidates of a group must differ")
        for candidate in self.candidates:
            if candidate.rating is not None and not self.low <= candidate.rating <= self.high:
                raise ValueError(f"a rating of {candidate.rating} is not on the scale {self.low}–{self.high}")
        return self

    @property
    def points(self) -> float:
        """How many whole values the scale has: the R of the loss (7 for 1–7)."""
        return self.high - self.low + 1

    @property
    def rated(self) -> tuple[Candidate, ...]:
        """The candidates that have a rating, best first; of equals, in their order."""
        known = [candidate for candidate in self.candidates if candidate.rating is not None]
        return tuple(sorted(known, key=lambda candidate: -(candidate.rating or 0)))

    @property
    def size(self) -> int:
        """How many candidates have a rating."""
        return sum(candidate.rating is not None for candidate in self.candidates)

    @property
    def asked(self) -> bytes:
        """What tells its question from others: a digest, in which white space makes no difference."""
        return hashlib.sha256(" ".join(self.question.split()).encode()).digest()[:DIGEST]

    @property
    def source(self) -> str:
        """Who said the best of it: the seat or person, with the session; "" where that is not known."""
        best = (self.rated or self.candidates)[0]
        who = best.person or best.seat
        return f"{self.session}/{who}" if who else ""

    @property
    def id(self) -> str:
        """A name that follows from what it holds: 12 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def chat(self) -> tuple[ChatMessage, ...]:
        """The prompt as models take it."""
        return tuple(ChatMessage(turn.role, turn.content) for turn in self.prompt)


def turns(messages: tuple[ChatMessage, ...]) -> tuple[Turn, ...]:
    """Messages as the prompt of a group."""
    return tuple(Turn(role=message.role, content=message.content) for message in messages)

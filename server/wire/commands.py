"""What can be asked of a session: one discriminated union, for the websocket and for REST alike. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sandbox.names import NormalName
from sandbox.rubric import Rubric
from sandbox.society import Absence, ModelSpec, SeatName
from sandbox.text import is_blank, storable_in

MAX_TEXT = 20_000
PersonName = Annotated[NormalName, Field(min_length=1, max_length=32)]


def seen(text: str) -> str:
    """A text in which something can be seen. Raises ``ValueError``."""
    if is_blank(text):
        raise ValueError("nothing in this can be seen; write a text")
    return text


Words = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S"), AfterValidator(seen)]
MessageId = Annotated[str, Field(pattern=r"^\d{1,9}\.[A-Za-z0-9_.-]{1,120}$", examples=["1.draft"])]


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        """Half characters (unpaired surrogates) become U+FFFD, wherever they stand."""
        return storable_in(data)


class Start(_Command):
    """Run the rounds: from the start, or from where it stopped; ``rounds`` in all, if others than before."""

    do: Literal["start"] = "start"
    rounds: int | None = Field(default=None, ge=0, le=100_000)
    budget: float | None = Field(default=None, ge=0, description="US dollars, for the whole session")


class Step(_Command):
    """Run one round, then pause."""

    do: Literal["step"] = "step"


class Pause(_Command):
    """Stop at once; calls under way are made again when it goes on."""

    do: Literal["pause"] = "pause"


class Stop(_Command):
    """Stop at once, for good as it is meant; it can still be started again."""

    do: Literal["stop"] = "stop"


class Say(_Command):
    """Send a message to some seats, who answer; to all, if none is named."""

    do: Literal["say"] = "say"
    text: Words
    to: tuple[SeatName, ...] = ()


class Ask(_Command):
    """Put a question to a seat on record: its answer, or with ``society`` draft, ratings and revision."""

    do: Literal["ask"] = "ask"
    question: Words
    seat: SeatName | None = None
    society: bool = True


class Rate(_Command):
    """Rate a message; the same person's later rating in the same dimension counts instead."""

    do: Literal["rate"] = "rate"
    message: MessageId
    value: float = Field(strict=True)
    dimension: str | None = Field(default=None, max_length=32, description="the peers' own, if left out")
    reason: str = Field(default="", max_length=MAX_TEXT)


class Judge(_Command):
    """Have a seat rate a message."""

    do: Literal["judge"] = "judge"
    message: MessageId
    seat: SeatName
    dimension: str | None = Field(default=None, max_length=32)


class React(_Command):
    """React to a message, or take the reaction back."""

    do: Literal["react"] = "react"
    message: MessageId
    reaction: Annotated[str, Field(min_length=1, max_length=16, pattern=r"\S"), AfterValidator(seen)]
    on: bool = True


class Take(_Command):
    """Sit down at a seat. ``absent`` says what happens when a request waits longer than ``patience_s``."""

    do: Literal["take"] = "take"
    seat: SeatName
    absent: Absence = "abstain"
    patience_s: float = Field(default=300.0, ge=1, le=30 * 86_400)


class Leave(_Command):
    """Hand a seat back; with ``force`` (for keys with the scope ``run``), whoever sits there."""

    do: Literal["leave"] = "leave"
    seat: SeatName
    force: bool = False


class AddSeat(_Command):
    """One more seat for a person: a ``peer`` rates drafts, an ``observer`` rates by every criterion."""

    do: Literal["add_seat"] = "add_seat"
    seat: SeatName
    role: Literal["peer", "observer"] = "peer"
    model: ModelSpec | None = Field(default=None, description="who stands in")


class Answer(_Command):
    """Answer what waits: by ``text``, or for a rating by ``value`` with ``text`` as its reason."""

    do: Literal["answer"] = "answer"
    interaction: int = Field(ge=1)
    step: str = Field(min_length=1, max_length=120)
    text: str = Field(default="", max_length=MAX_TEXT)
    value: float | None = Field(default=None, strict=True)


class Skip(_Command):
    """Abstain from what waits."""

    do: Literal["skip"] = "skip"
    interaction: int = Field(ge=1)
    step: str = Field(min_length=1, max_length=120)


class ChangeModel(_Command):
    """Have a seat speak through another model or adapter from its next request on."""

    do: Literal["change_model"] = "change_model"
    seat: SeatName
    model: ModelSpec


class RollBackModel(_Command):
    """Give a seat the model it had before its last change; again, the one before that."""

    do: Literal["roll_back_model"] = "roll_back_model"
    seat: SeatName


class ChangeRubric(_Command):
    """Put new norms into force; their version is given by the server."""

    do: Literal["change_rubric"] = "change_rubric"
    rubric: Rubric


Command = Annotated[
    Start
    | Step
    | Pause
    | Stop
    | Say
    | Ask
    | Rate
    | Judge
    | React
    | Take
    | Leave
    | AddSeat
    | Answer
    | Skip
    | ChangeModel
    | RollBackModel
    | ChangeRubric,
    Field(discriminator="do"),
]

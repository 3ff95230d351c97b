"""The bodies of REST calls that are no commands: sessions, keys, invites, pages. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from sandbox.society import ModelSpec, SeatName, Society
from sandbox.text import storable_in
from server.wire.commands import PersonName, seen

Scope = Literal["watch", "join", "ask", "run", "admin"]
SCOPES: dict[str, str] = {
    "watch": "see sessions, events, messages and ratings",
    "join": "take seats, answer, talk, rate and react as a person",
    "ask": "put questions to seats and societies, on and off the record",
    "run": "create, start, pause, change, fork and delete sessions",
    "admin": "all of it, and manage keys and invites",
}


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        """Half characters (unpaired surrogates) become U+FFFD, wherever they stand."""
        return storable_in(data)


class CreateSession(_Body):
    """A new session: of a bundled example, of a society file's text (TOML), or of a whole description."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"example": "scripted", "rounds": 2, "seats": "3x3", "start": True}]},
    )

    example: str | None = Field(default=None, max_length=64, description="the name of a bundled society")
    toml: str | None = Field(default=None, max_length=1_000_000, description="the text of a society file")
    society: Society | None = Field(default=None, description="a whole society, as the first event holds it")
    rounds: int | None = Field(default=None, ge=0, le=100_000)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    seats: str | None = Field(default=None, max_length=32, description="another size: 4x4, or a number")
    model: ModelSpec | None = Field(default=None, description="one model for all seats")
    budget: float | None = Field(default=None, ge=0, description="US dollars")
    start: bool = Field(default=False, description="run it at once")

    @model_validator(mode="after")
    def _one(self) -> CreateSession:
        given = [name for name in ("example", "toml", "society") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give one of: example, toml, society")
        if self.society is not None and (self.seats or self.model):
            raise ValueError("a whole society has its seats and models; leave out seats and model")
        return self


class SessionView(BaseModel):
    """A session in a list. ``leased`` is whether a process has it open just now."""

    session: str
    name: str
    status: str
    round: int
    rounds: int
    events: int
    epoch: str
    seed: int
    created: datetime
    updated: datetime
    parent: str | None = None
    parent_seq: int | None = None
    leased: bool = False


class Estimate(BaseModel):
    """What a run may take, by the society's own numbers, before it is begun.

    ``cost`` is in US dollars, as if every answer had its full length; None where a price is not known
    (``unpriced`` names those models). ``recall`` is the share of questions that remind a seat of a prior
    memory; None where there are none, or where the embedding is a model that would have to be asked.
    """

    rounds: int
    interactions: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    unpriced: tuple[str, ...] = ()
    recall: float | None = None


class Fork(_Body):
    """A new session with the events of another up to ``at`` (all, if left out)."""

    at: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)


class Withdrawal(BaseModel):
    """What taking somebody out of a session changed: ``alias`` stands for the name in so many events.

    ``datasets`` and ``adapters`` were made from it and still hold it: they are marked, and to be deleted;
    ``mentions`` are the ids of others' messages and ratings that have the name in their words, which stay;
    ``evaluations`` looked at it, and their reports were written before.
    """

    session: str
    alias: str
    events: int
    datasets: tuple[str, ...]
    adapters: tuple[str, ...]
    evaluations: tuple[str, ...]
    mentions: tuple[str, ...] = ()


class Withdrawals(BaseModel):
    """The sessions that somebody was taken out of.

    ``spared`` are forks to which one of that name was invited: they, or whoever runs the fork, ask there.
    """

    sessions: tuple[Withdrawal, ...]
    spared: tuple[str, ...]


class Page(BaseModel):
    """Some rows, and the ``after`` that brings the next ones; None when there are no more."""

    items: list[dict[str, Any]]
    next: int | None


class Done(BaseModel):
    """What a command brought: the interaction that it began, if it began one."""

    interaction: int | None = None


class Me(BaseModel):
    """Whose key this is, and what it is good for. ``home`` is the session that ``sandbox/SEAT`` means."""

    scopes: tuple[str, ...]
    session: str | None
    person: str | None
    budget: float | None
    spent: float
    home: str | None = None


class CreateKey(_Body):
    """A new key. ``per_minute`` bounds its requests, ``budget`` (US dollars) what they may cost in all."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(seen)]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    session: str | None = Field(default=None, max_length=64, description="good for this session only")
    expires_in_s: float | None = Field(default=None, gt=0)
    per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000)
    budget: float | None = Field(default=None, ge=0)


class KeyView(BaseModel):
    """A key as it is listed: by what it begins with, never whole."""

    id: int
    prefix: str
    name: str
    scopes: tuple[str, ...]
    session: str | None = None
    person: str | None = None
    created: float
    expires: float | None = None
    revoked: float | None = None
    per_minute: int | None = None
    budget: float | None = None
    spent: float = 0.0


class NewKey(KeyView):
    """A key that has just been made. ``key`` is shown this once."""

    key: str


class CreateInvite(_Body):
    """An invitation of one person to a session. Who accepts it agrees to ``consent_text``."""

    person: PersonName | None = Field(
        default=None, description="the pseudonym; chosen when joining, if left out"
    )
    seat: SeatName | None = Field(default=None, description="the seat to be taken when joining")
    consent_version: str = Field(default="", max_length=64)
    consent_text: str = Field(default="", max_length=20_000)
    expires_in_s: float | None = Field(default=7 * 86_400, gt=0)
    again: bool = Field(
        default=False, description="a new key for a person who has joined before, and keeps their name"
    )

    @model_validator(mode="after")
    def _named(self) -> CreateInvite:
        if self.consent_text and not self.consent_version:
            raise ValueError("a consent_text needs a consent_version, by which it is agreed to")
        if self.again and self.person is None:
            raise ValueError("say which person is invited again")
        return self


class NewInvite(BaseModel):
    """An invitation. ``ticket`` is shown this once, and is good once."""

    ticket: str
    session: str
    person: str | None
    seat: str | None
    expires: float | None


class InviteView(BaseModel):
    """What a ticket invites to, before it is used."""

    session: str
    person: str | None
    seat: str | None
    consent_version: str
    consent_text: str


class InviteRowView(BaseModel):
    """An invitation as the operator sees it: its ticket is not kept. Times are seconds since 1970."""

    id: int
    person: str | None
    seat: str | None
    consent_version: str
    created: float
    expires: float | None
    used: float | None


class ConsentView(BaseModel):
    """That a person agreed to a text, and when (in seconds since 1970)."""

    person: str
    version: str
    text: str
    time: float


class Join(_Body):
    """Use a ticket. ``consent`` is the invitation's ``consent_version``, word for word, if it has a text."""

    ticket: str = Field(min_length=8, max_length=200)
    person: PersonName | None = None
    consent: str | None = Field(
        default=None,
        max_length=64,
        description='the consent_version that /invites/look tells, such as "v1"; not true or yes',
    )

    @field_validator("consent", mode="before")
    @classmethod
    def _version(cls, given: Any) -> Any:
        if isinstance(given, bool | int | float):
            raise ValueError("send the consent_version that /invites/look tells, as text")
        return given


class Joined(BaseModel):
    """A person's key to one session, shown this once."""

    key: str
    session: str
    person: str
    seat: str | None


class SocketTicket(BaseModel):
    """A ticket for one websocket connection by a browser; good once, for ``expires_in_s`` seconds."""

    ticket: str
    expires_in_s: float


Limit = Annotated[int, Field(ge=1, le=1000)]

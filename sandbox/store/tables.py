"""The tables. ``events`` is the truth of a session, and the tables of what was said and rated follow from it.

Beside them stand the sessions and adapters themselves, and what a server needs: commands, keys, invites.
The keys of what follows from events are natural: a session's number, and the seq of the event that a row
follows from, so that rows are only ever added at the end of their session. Deleting a session deletes all
that hangs on it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, MetaData, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
METADATA = MetaData(naming_convention=NAMING)

# Rows are found by their composite key only, so SQLite needs no second tree beside it.
_CLUSTERED = {"sqlite_with_rowid": False}


def _session_key() -> Any:
    return Field(
        sa_column=Column(
            BigInteger, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True, nullable=False
        )
    )


def _belonging() -> Any:
    return Field(
        sa_column=Column(
            BigInteger, ForeignKey("sessions.id", ondelete="CASCADE"), index=True, nullable=False
        )
    )


def _text(nullable: bool = False) -> Any:
    return Field(default=None if nullable else "", sa_column=Column(Text, nullable=nullable))


class Table(SQLModel):
    """Base of all tables; keeps their metadata apart from other SQLModel users in the process."""

    metadata = METADATA


class SessionRow(Table, table=True):
    """One society at work. ``head`` is the seq of its newest event; the lease names the running process."""

    __tablename__: ClassVar[Any] = "sessions"
    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    name: str
    status: str = Field(index=True)
    seed: int = Field(sa_type=BigInteger)
    round: int = 0
    rounds: int = 0
    head: int = 0
    epoch: str
    created: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    parent: str | None = None
    parent_seq: int | None = None
    lease_owner: str | None = None
    lease_until: float | None = None


class SeatRow(Table, table=True):
    """An agent or observer of a session, as it was at the start."""

    __tablename__: ClassVar[Any] = "seats"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    name: str = Field(primary_key=True)
    kind: str
    place: int | None = None
    label: str | None = None
    model: str
    persona: str = _text()


class EventRow(Table, table=True):
    """The log. ``payload`` is the event as JSON."""

    __tablename__: ClassVar[Any] = "events"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    seq: int = Field(primary_key=True)
    time: float
    payload: str = _text()


class RubricRow(Table, table=True):
    """A version of a session's norms, valid from event ``seq`` on."""

    __tablename__: ClassVar[Any] = "rubrics"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    version: int = Field(primary_key=True)
    seq: int
    body: str = _text()


class InteractionRow(Table, table=True):
    """One interaction. ``outcome`` is null while it is open."""

    __tablename__: ClassVar[Any] = "interactions"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    number: int = Field(primary_key=True)
    kind: str
    round: int | None = None
    seat: str
    question: str = _text()
    outcome: str | None = None


class MessageRow(Table, table=True):
    """One message; its id is ``<interaction>.<step>``."""

    __tablename__: ClassVar[Any] = "messages"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    seq: int = Field(primary_key=True)
    interaction: int
    step: str
    seat: str
    role: str
    text: str = _text()
    recipients: str | None = None
    recalled: str | None = _text(nullable=True)
    person: str | None = None


class RatingRow(Table, table=True):
    """One rater's judgement of a message in one dimension; ``value`` null with ``unparsed`` saying why."""

    __tablename__: ClassVar[Any] = "ratings"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    seq: int = Field(primary_key=True)
    interaction: int
    step: str
    rater: str
    target: str
    dimension: str
    value: float | None = None
    unparsed: str | None = None
    low: int
    high: int
    raw: str = _text()
    reason: str = _text()
    method: str
    distribution: str | None = _text(nullable=True)
    rubric: int
    recalled: str | None = _text(nullable=True)
    person: str | None = None
    role: str | None = None


class ModelCallRow(Table, table=True):
    """What one request took. ``cost`` in US dollars, ``latency_ms`` in milliseconds."""

    __tablename__: ClassVar[Any] = "model_calls"
    __table_args__: ClassVar[Any] = _CLUSTERED
    session_id: int = _session_key()
    seq: int = Field(primary_key=True)
    interaction: int
    step: str
    seat: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost: float
    latency_ms: float
    attempts: int
    trimmed: int
    finish: str
    error: str | None = None
    detail: str | None = _text(nullable=True)


class AdapterRow(Table, table=True):
    """A PEFT adapter that can be seated as ``local/BASE#NAME``; ``dataset`` is the digest of what it saw.

    ``flagged`` says why it should not be used any more, if somebody's data was withdrawn.
    """

    __tablename__: ClassVar[Any] = "adapters"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    base: str
    path: str
    created: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    card: str = _text()
    dataset: str | None = Field(default=None, index=True)
    flagged: str | None = _text(nullable=True)


class DatasetRow(Table, table=True):
    """Training data on disk; ``digest`` is that of its rows. ``flagged`` as an adapter's."""

    __tablename__: ClassVar[Any] = "datasets"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    path: str
    digest: str = Field(index=True)
    created: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    card: str = _text()
    flagged: str | None = _text(nullable=True)


class DatasetSourceRow(Table, table=True):
    """That rows of a digest hold something of a session, and of a person in it ("": of its models).

    It outlives the dataset, for the adapters that saw it. Sessions are named by key: they may go first.
    """

    __tablename__: ClassVar[Any] = "dataset_sources"
    digest: str = Field(primary_key=True)
    session: str = Field(primary_key=True)
    person: str = Field(default="", primary_key=True)
    flagged: str | None = _text(nullable=True)


class CommandRow(Table, table=True):
    """What somebody asked of a session, for the process that runs it; ``cid`` makes asking idempotent.

    ``state`` is ``waiting``, ``done`` or ``refused``; ``result`` is JSON.
    """

    __tablename__: ClassVar[Any] = "commands"
    __table_args__: ClassVar[Any] = (UniqueConstraint("session_id", "actor", "cid"),)
    id: int | None = Field(default=None, primary_key=True)
    session_id: int = _belonging()
    actor: str
    cid: str
    kind: str
    body: str = _text()
    created: float
    state: str = Field(default="waiting", index=True)
    result: str | None = _text(nullable=True)


class KeyRow(Table, table=True):
    """A key to the server. Only its digest is kept; ``prefix`` is what people recognise it by.

    ``scopes`` are parted by commas; ``session`` and ``person`` bind it to one person in one session;
    ``budget`` and ``spent`` are US dollars.
    """

    __tablename__: ClassVar[Any] = "keys"
    __table_args__: ClassVar[Any] = (UniqueConstraint("session", "person"),)
    id: int | None = Field(default=None, primary_key=True)
    prefix: str
    digest: str = Field(unique=True)
    name: str
    scopes: str
    session: str | None = None
    person: str | None = None
    created: float
    expires: float | None = None
    revoked: float | None = None
    per_minute: int | None = None
    budget: float | None = None
    spent: float = 0.0


class SocketTicketRow(Table, table=True):
    """A ticket for one connection, good ``until`` then and once; only its digest is kept.

    ``key`` and ``made`` are those of who got it (no key: nobody needed one), ``person`` as whom they come.
    """

    __tablename__: ClassVar[Any] = "socket_tickets"
    digest: str = Field(primary_key=True)
    key: int | None = None
    made: float
    session: str | None = None
    person: str | None = Field(default=None, index=True)
    until: float = Field(index=True)


class HoldRow(Table, table=True):
    """Money of a key's budget that is promised to a call under way (US dollars).

    It is given back when the call ends, and counts no more after ``until`` if the process died.
    """

    __tablename__: ClassVar[Any] = "holds"
    id: int | None = Field(default=None, primary_key=True)
    key: int = Field(index=True)
    amount: float
    until: float


class InviteRow(Table, table=True):
    """A ticket for one person to join one session, once; only its digest is kept."""

    __tablename__: ClassVar[Any] = "invites"
    id: int | None = Field(default=None, primary_key=True)
    session_id: int = _belonging()
    digest: str = Field(unique=True)
    person: str | None = None
    seat: str | None = None
    consent_version: str = ""
    consent_text: str = _text()
    created: float
    expires: float | None = None
    used: float | None = None


class ConsentRow(Table, table=True):
    """That a person agreed to a text, and when."""

    __tablename__: ClassVar[Any] = "consents"
    id: int | None = Field(default=None, primary_key=True)
    session_id: int = _belonging()
    person: str
    version: str
    text: str = _text()
    time: float


class EvaluationRow(Table, table=True):
    """Models measured side by side; ``plan`` says on what. ``finished`` is null while items are missing."""

    __tablename__: ClassVar[Any] = "evaluations"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    created: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    finished: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    plan: str = _text()


class EvaluationItemRow(Table, table=True):
    """How a model did on one item of a suite: ``scores`` by metric, and the texts behind them (JSON both)."""

    __tablename__: ClassVar[Any] = "evaluation_items"
    evaluation_id: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True, nullable=False
        )
    )
    model: str = Field(primary_key=True)
    suite: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    scores: str = _text()
    detail: str | None = _text(nullable=True)

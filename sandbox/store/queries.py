"""Reading what is stored: pages of events and of their tables, single messages. For lists, not for runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from sandbox.events import MessagePosted, Recorded, load
from sandbox.store.database import Database
from sandbox.store.log import EVENTS, SESSIONS
from sandbox.store.tables import CommandRow, InteractionRow, MessageRow, ModelCallRow, RatingRow

Listed = Literal["interactions", "messages", "ratings", "calls"]
_TABLES: dict[str, sa.Table] = {
    "interactions": InteractionRow.__table__,  # type: ignore[attr-defined]
    "messages": MessageRow.__table__,  # type: ignore[attr-defined]
    "ratings": RatingRow.__table__,  # type: ignore[attr-defined]
    "calls": ModelCallRow.__table__,  # type: ignore[attr-defined]
}
_JSON = ("recipients", "distribution")


def head(database: Database, key: str) -> int:
    """The seq of a session's newest event; 0 if there is no such session."""
    with database.reading() as connection:
        found = connection.execute(sa.select(SESSIONS.c.head).where(SESSIONS.c.key == key)).scalar()
    return int(found or 0)


def heads(database: Database, keys: Sequence[str]) -> dict[str, int]:
    """The seq of the newest event of each of some sessions."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(SESSIONS.c.key, SESSIONS.c.head).where(SESSIONS.c.key.in_(keys)))
        return {row.key: row.head for row in rows}


def events(database: Database, key: str, after: int, limit: int) -> list[Recorded]:
    """At most ``limit`` events with a seq above ``after``, in order."""
    query = (
        sa.select(EVENTS.c.seq, EVENTS.c.time, EVENTS.c.payload, SESSIONS.c.epoch)
        .join(SESSIONS, SESSIONS.c.id == EVENTS.c.session_id)
        .where(SESSIONS.c.key == key, EVENTS.c.seq > after)
        .order_by(EVENTS.c.seq)
        .limit(limit)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Recorded(key, row.epoch, row.seq, datetime.fromtimestamp(row.time, UTC), load(row.payload))
        for row in rows
    ]


def page(
    database: Database,
    key: str,
    what: Listed,
    after: int,
    limit: int,
    where: dict[str, object] | None = None,
    *,
    current: bool = False,
) -> tuple[list[dict[str, Any]], int | None]:
    """At most ``limit`` rows after one, and the ``after`` that brings the next; None at the end.

    ``where`` asks for equal values in some columns. Rows are numbered by seq, interactions by their number.
    ``current`` leaves out ratings that were replaced: of one rater's (a person is one, in whichever seat) of
    one message in one dimension, the last counts.
    """
    table = _TABLES[what]
    order = table.c.number if what == "interactions" else table.c.seq
    query = (
        sa.select(table)
        .join(SESSIONS, SESSIONS.c.id == table.c.session_id)
        .where(SESSIONS.c.key == key, order > after)
        .order_by(order)
        .limit(limit + 1)
    )
    if current:
        query = query.where(table.c.seq.in_(_current(key)))
    for column, value in (where or {}).items():
        if value is not None:
            query = query.where(table.c[column] == value)
    with database.reading() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    more = len(rows) > limit
    rows = rows[:limit]
    for row in rows:
        del row["session_id"]
        for column in _JSON:
            if isinstance(row.get(column), str):
                row[column] = json.loads(row[column])
        if what == "messages":
            row["id"] = f"{row['interaction']}.{row['step']}"
    return rows, (rows[-1][order.name] if more else None)


def _current(key: str) -> sa.Select[Any]:
    """The seq of the ratings that count."""
    table = _TABLES["ratings"]
    rater = sa.func.coalesce(table.c.person, table.c.rater)
    return (
        sa.select(sa.func.max(table.c.seq))
        .join(SESSIONS, SESSIONS.c.id == table.c.session_id)
        .where(SESSIONS.c.key == key)
        .group_by(rater, table.c.target, table.c.dimension)
    )


def message(database: Database, key: str, reference: str) -> tuple[MessagePosted, str] | None:
    """The message of that id (``<interaction>.<step>``), and the question it answered, if any."""
    number, _, step = reference.partition(".")
    if not number.isdecimal() or len(number) > 9:
        return None
    table, interactions = _TABLES["messages"], _TABLES["interactions"]
    with database.reading() as connection:
        session = connection.execute(sa.select(SESSIONS.c.id).where(SESSIONS.c.key == key)).scalar()
        row = connection.execute(
            sa.select(table.c.seq).where(
                table.c.session_id == session, table.c.interaction == int(number), table.c.step == step
            )
        ).one_or_none()
        if row is None:
            return None
        payload = connection.execute(
            sa.select(EVENTS.c.payload).where(EVENTS.c.session_id == session, EVENTS.c.seq == row.seq)
        ).scalar_one()
        asked = connection.execute(
            sa.select(interactions.c.kind, interactions.c.question).where(
                interactions.c.session_id == session, interactions.c.number == int(number)
            )
        ).one()
    posted = load(payload)
    assert isinstance(posted, MessagePosted)
    return posted, "" if asked.kind == "chat" else asked.question


def rated_by(database: Database, key: str, person: str, until: int | None = None) -> set[str]:
    """The messages that a person has rated up to an event (the newest, if None), in a seat or outside."""
    table = _TABLES["ratings"]
    query = (
        sa.select(table.c.target)
        .join(SESSIONS, SESSIONS.c.id == table.c.session_id)
        .where(SESSIONS.c.key == key, sa.or_(table.c.rater == person, table.c.person == person))
        .distinct()
    )
    if until is not None:
        query = query.where(table.c.seq <= until)
    with database.reading() as connection:
        return set(connection.execute(query).scalars())


def ratings_of(database: Database, key: str, target: str) -> list[Recorded]:
    """The ratings of one message, as the events they were."""
    table = _TABLES["ratings"]
    query = (
        sa.select(EVENTS.c.seq, EVENTS.c.time, EVENTS.c.payload, SESSIONS.c.epoch)
        .join(table, sa.and_(table.c.session_id == EVENTS.c.session_id, table.c.seq == EVENTS.c.seq))
        .join(SESSIONS, SESSIONS.c.id == EVENTS.c.session_id)
        .where(SESSIONS.c.key == key, table.c.target == target)
        .order_by(EVENTS.c.seq)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Recorded(key, row.epoch, row.seq, datetime.fromtimestamp(row.time, UTC), load(row.payload))
        for row in rows
    ]


def last_actor(database: Database, session: int, kinds: Sequence[str]) -> str | None:
    """Who gave the last command of some kinds that was carried out."""
    table: sa.Table = CommandRow.__table__  # type: ignore[attr-defined]
    query = (
        sa.select(table.c.actor)
        .where(table.c.session_id == session, table.c.kind.in_(kinds), table.c.state != "refused")
        .order_by(table.c.id.desc())
        .limit(1)
    )
    with database.reading() as connection:
        found: str | None = connection.execute(query).scalar()
    return found

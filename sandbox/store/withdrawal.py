"""Takes one person out of a stored session, and marks what was made from their part in it."""

from __future__ import annotations

import json
import secrets
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sandbox.errors import SessionError
from sandbox.events import Event, SeatAdded, SessionCreated, dump
from sandbox.store import evaluations, lineage
from sandbox.store.database import Database
from sandbox.store.log import EVENTS, SESSIONS, Log
from sandbox.store.projection import COLUMNS, project
from sandbox.store.sessions import find, in_use
from sandbox.store.tables import (
    CommandRow,
    ConsentRow,
    InteractionRow,
    InviteRow,
    KeyRow,
    MessageRow,
    ModelCallRow,
    RatingRow,
    SeatRow,
)
from sandbox.withdrawing import alias_for, withdraw


class NoPart(SessionError):
    """The person had no part in the session."""


class Withdrawn(NamedTuple):
    """What was changed: under which pseudonym, how many events; the datasets and adapters that are marked.

    ``evaluations`` are those that looked at the session: measures of people's ratings are deleted from them,
    but their reports were written before.
    """

    session: str
    alias: str
    events: int
    datasets: list[str]
    adapters: list[str]
    evaluations: list[str]


def forget(database: Database, log: Log, reference: str, person: str) -> Withdrawn:
    """Take a person's words, ratings and name out of a session, all at once.

    The session gets a new epoch, so that whoever has a copy reads it anew. Raises ``SessionError`` while it
    is being run, and if the person had no part in it.
    """
    row = find(database, reference)
    assert row.id is not None
    events, changed, alias = _changed(log, row.key, person)
    why = f"a person withdrew what they said and rated in session {row.key}"
    with database.writing() as connection:
        held = connection.execute(
            sa.select(SESSIONS.c.lease_owner, SESSIONS.c.lease_until, SESSIONS.c.head)
            .where(SESSIONS.c.id == row.id)
            .with_for_update()
        ).one_or_none()
        if held is None or held.head != len(events) or in_use(held.lease_owner, held.lease_until):
            raise SessionError(
                f"Session {row.key} is being run. Stop it first (and its server), then try again."
            )
        for place, event in changed.items():
            _replace(connection, row.id, place + 1, event)
        if any(isinstance(event, SeatAdded) and event.seat.name == person for event in events):
            table = SeatRow.__table__  # type: ignore[attr-defined]
            connection.execute(
                sa.update(table)
                .where(table.c.session_id == row.id, table.c.name == person)
                .values(name=alias)
            )
        connection.execute(
            sa.update(SESSIONS).where(SESSIONS.c.id == row.id).values(epoch=secrets.token_hex(4))
        )
        _forget_beside(connection, row.id, row.key, person, alias)
        datasets, adapters = lineage.flag(connection, row.key, person, why)
        measured = evaluations.forget(connection, row.key)
    return Withdrawn(row.key, alias, len(changed), datasets, adapters, measured)


def require_part(log: Log, key: str, person: str) -> None:
    """Raise ``NoPart`` if the person had no part in a session, ``SessionError`` if it is one of its seats."""
    _changed(log, key, person)


def _changed(log: Log, key: str, person: str) -> tuple[list[Event], dict[int, Event], str]:
    """All events of a session, those that change by their place, and the pseudonym."""
    events = [recorded.event for recorded in log.read(key)]
    created = events[0] if events else None
    if isinstance(created, SessionCreated) and created.society.seat(person) is not None:
        raise SessionError(f"'{person}' is a seat of session {key}, not a person.")
    alias = alias_for(events)
    changed = withdraw(events, person, alias)
    if not changed:
        raise NoPart(f"'{person}' had no part in session {key}. Names are told exactly as written.")
    return events, changed, alias


def copies(database: Database, key: str) -> list[str]:
    """The sessions that were forked from one, and from those: each has its own copy of what was said."""
    found: list[str] = []
    with database.reading() as connection:
        waiting = [key]
        while waiting:
            query = sa.select(SESSIONS.c.key).where(SESSIONS.c.parent == waiting.pop())
            more = list(connection.execute(query).scalars())
            found += more
            waiting += more
    return found


def _replace(connection: Connection, session: int, seq: int, event: Event) -> None:
    """Write another event in the place of one, and the rows that follow from it."""
    connection.execute(
        sa.update(EVENTS)
        .where(EVENTS.c.session_id == session, EVENTS.c.seq == seq)
        .values(payload=dump(event))
    )
    for kind, rows in project(session, seq, [event]).inserted.items():
        table: sa.Table = kind.__table__  # type: ignore[attr-defined]
        for values in (dict(zip(COLUMNS[kind], row, strict=True)) for row in rows):
            if kind in (MessageRow, RatingRow, ModelCallRow):
                own = sa.and_(table.c.session_id == session, table.c.seq == seq)
            elif kind is InteractionRow:
                own = sa.and_(table.c.session_id == session, table.c.number == values["number"])
                values.pop("outcome")
            else:
                continue
            connection.execute(sa.update(table).where(own).values(**values))


def _forget_beside(connection: Connection, session: int, key: str, person: str, alias: str) -> None:
    """What stands beside the log: commands with their words, consents, invites and keys."""
    commands: sa.Table = CommandRow.__table__  # type: ignore[attr-defined]
    theirs = json.dumps({"person": person})[:-1] + ","
    connection.execute(
        sa.delete(commands).where(
            commands.c.session_id == session, commands.c.body.startswith(theirs, autoescape=True)
        )
    )
    for kind in (ConsentRow, InviteRow):
        table: sa.Table = kind.__table__  # type: ignore[union-attr]
        connection.execute(
            sa.update(table)
            .where(table.c.session_id == session, table.c.person == person)
            .values(person=alias)
        )
    keys: sa.Table = KeyRow.__table__  # type: ignore[attr-defined]
    connection.execute(sa.delete(keys).where(keys.c.session == key, keys.c.person == person))

"""Takes one person out of a stored session, and marks what was made from their part in it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sandbox.errors import LeaseLost, SessionError
from sandbox.events import Event, SeatAdded, SeatReturned, SessionCreated, dump
from sandbox.names import normal
from sandbox.progress import fold
from sandbox.store import evaluations, lineage
from sandbox.store.database import Database
from sandbox.store.log import EVENTS, SESSIONS, Handle, Log
from sandbox.store.projection import COLUMNS, project
from sandbox.store.sessions import find, lease, release
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
    SocketTicketRow,
)
from sandbox.withdrawing import PSEUDONYM, alias_for, mentions, withdraw


class NoPart(SessionError):
    """The person had no part in the session."""


class Withdrawn(NamedTuple):
    """What was changed: under which pseudonym, how many events; the datasets and adapters that are marked.

    ``mentions`` are the ids of others' messages and ratings that have the name in their words, which stay.
    ``evaluations`` are those that looked at the session: measures of people's ratings are deleted from them,
    but their reports were written before.
    """

    session: str
    alias: str
    events: int
    datasets: list[str]
    adapters: list[str]
    evaluations: list[str]
    mentions: list[str]


class Forgotten(NamedTuple):
    """Where somebody was taken out; ``spared`` are forks to which somebody of that name was invited."""

    done: list[Withdrawn]
    spared: list[str]


def forget(
    database: Database,
    log: Log,
    reference: str,
    person: str,
    *,
    spare_namesakes: bool = False,
    take_over: bool = False,
) -> Forgotten:
    """Take a person's words, ratings and name out of a session and its forks, and out of their seats.

    The forks first: what fails can be tried again. Each gets a new epoch, so that whoever has a copy reads
    it anew. ``spare_namesakes`` leaves out forks that somebody of that name was invited to. Raises
    ``SessionError`` before anything is changed while one of them is being run (by a server only if it is
    not to be taken over), and ``NoPart`` if the person had no part in any.
    """
    key, person = find(database, reference).key, normal(person)
    done: dict[str, Withdrawn] = {}
    seen: set[str] = set()
    spared: list[str] = []
    with ExitStack() as held:
        while waiting := [one for one in (*reversed(copies(database, key)), key) if one not in seen]:
            seen.update(waiting)  # a fork may be made meanwhile
            handles = {}
            for one in waiting:
                if not has_part(database, log, one, person):
                    continue
                if one != key and spare_namesakes and _joined(database, one, person):
                    spared.append(one)
                    continue
                handles[one] = held.enter_context(_held(database, one, take_over))
            for one, handle in handles.items():
                done[one] = _take_out(database, log, handle, person)
    if not done:
        raise _no_part(key, person)
    database.scrub()
    return Forgotten([done[one] for one in sorted(done, key=lambda one: one != key)], spared)


def has_part(database: Database, log: Log, key: str, person: str) -> bool:
    """Whether a person did anything in a session, or only joined it.

    Raises ``SessionError`` for the name of a seat of it.
    """
    person = normal(person)
    if PSEUDONYM.fullmatch(person):
        raise SessionError(f"'{person}' stands for somebody who was taken out already.")
    events = [recorded.event for recorded in log.read(key)]
    created = events[0] if events else None
    if isinstance(created, SessionCreated) and created.society.seat(person) is not None:
        raise SessionError(f"'{person}' is a seat of session {key}, not a person.")
    return bool(withdraw(events, person, "")) or _is_beside(database, key, person)


def _is_beside(database: Database, key: str, person: str) -> bool:
    """Whether a consent, an invitation, a key or a ticket stands under the person's name."""
    number = sa.select(SESSIONS.c.id).where(SESSIONS.c.key == key).scalar_subquery()
    with database.reading() as connection:
        return any(
            connection.execute(sa.select(sa.literal(1)).where(of, table.c.person == person).limit(1)).first()
            for table, of in (
                *((table, table.c.session_id == number) for table in map(_table, (ConsentRow, InviteRow))),
                *((table, table.c.session == key) for table in map(_table, (KeyRow, SocketTicketRow))),
            )
        )


def _table(kind: Any) -> sa.Table:
    table: sa.Table = kind.__table__
    return table


def require_part(database: Database, log: Log, keys: Sequence[str], person: str) -> None:
    """Raise ``NoPart`` if a person did nothing in any of some sessions; as ``has_part``."""
    if not any(has_part(database, log, key, person) for key in keys):
        raise _no_part(keys[0], person)


def _no_part(key: str, person: str) -> NoPart:
    return NoPart(f"'{person}' had no part in session {key}. Write the name as it stands there.")


@contextmanager
def _held(database: Database, key: str, take_over: bool) -> Iterator[Handle]:
    handle = lease(database, key, served=take_over, take_over=take_over)
    try:
        yield handle
    finally:
        release(database, handle)


def _joined(database: Database, key: str, person: str) -> bool:
    """Whether somebody of that name was invited to just this session."""
    invites: sa.Table = InviteRow.__table__  # type: ignore[attr-defined]
    query = (
        sa.select(sa.func.count())
        .select_from(invites.join(SESSIONS, SESSIONS.c.id == invites.c.session_id))
        .where(SESSIONS.c.key == key, invites.c.person == person)
    )
    with database.reading() as connection:
        return bool(connection.execute(query).scalar())


def _take_out(database: Database, log: Log, handle: Handle, person: str) -> Withdrawn:
    """Take a person out of one session, all at once."""
    events = [recorded.event for recorded in log.read(handle.key)]
    sits = [seat for seat, occupant in fold(events).people.items() if occupant.person == person]
    why = f"a person withdrew what they said and rated in session {handle.key}"
    with database.writing() as connection:
        owner = sa.select(SESSIONS.c.lease_owner).where(SESSIONS.c.id == handle.id).with_for_update()
        if connection.execute(owner).scalar() != handle.owner:
            raise LeaseLost(f"Another process has taken session {handle.key} over. Try again.")
        left: list[Event] = [SeatReturned(seat=seat, person=person) for seat in sits]
        if left:
            log.append_within(connection, handle, left)
            events += left
        alias = alias_for(events)
        changed = withdraw(events, person, alias)
        named = mentions([changed.get(place, event) for place, event in enumerate(events)], person)
        for place, event in changed.items():
            _replace(connection, handle.id, place + 1, event)
        if any(isinstance(event, SeatAdded) and event.seat.name == person for event in events):
            table = SeatRow.__table__  # type: ignore[attr-defined]
            connection.execute(
                sa.update(table)
                .where(table.c.session_id == handle.id, table.c.name == person)
                .values(name=alias)
            )
        connection.execute(
            sa.update(SESSIONS).where(SESSIONS.c.id == handle.id).values(epoch=secrets.token_hex(4))
        )
        _forget_beside(connection, handle.id, handle.key, person, alias)
        datasets, adapters = lineage.flag(connection, handle.key, person, alias, why)
        measured = evaluations.forget(connection, handle.key)
    return Withdrawn(handle.key, alias, len(changed), datasets, adapters, measured, named)


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
    invites: sa.Table = InviteRow.__table__  # type: ignore[attr-defined]
    connection.execute(  # else somebody could still join as the pseudonym
        sa.delete(invites).where(
            invites.c.session_id == session, invites.c.person == person, invites.c.used.is_(None)
        )
    )
    for kind in (ConsentRow, InviteRow):
        table: sa.Table = kind.__table__  # type: ignore[union-attr]
        connection.execute(
            sa.update(table)
            .where(table.c.session_id == session, table.c.person == person)
            .values(person=alias)
        )
    for access in map(_table, (KeyRow, SocketTicketRow)):
        connection.execute(sa.delete(access).where(access.c.session == key, access.c.person == person))

"""Sessions as a whole: create, find, lease, fork and delete. Their contents are the log's."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sandbox.errors import LeaseLost, SessionError, SocietyError
from sandbox.events import Event, SessionCreated, SessionForked
from sandbox.society import Society
from sandbox.store import processes
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS, Handle, Log
from sandbox.store.tables import SessionRow
from sandbox.text import is_plain_name, printable, storable

LEASE_SECONDS = 8.0
_HOLDER = (
    sa.select(SESSIONS.c.lease_owner, SESSIONS.c.lease_until)
    .where(SESSIONS.c.id == sa.bindparam("session"))
    .with_for_update()
)
_SERVED = "served-"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def create(database: Database, log: Log, society: Society, *, lease: bool = True) -> Handle:
    """A new session of ``society``, leased to this process unless ``lease`` is off.

    Raises ``SocietyError`` for a name that would look like another.
    """
    if not is_plain_name(society.name):
        raise SocietyError(
            f"The society's name '{printable(society.name)}' holds characters that can't be seen, or nothing "
            "that can. Take them out."
        )
    with database.writing() as connection:
        handle = _insert(connection, society, lease)
        log.append_within(connection, handle, [SessionCreated(society=society)])
        return handle


def find(database: Database, reference: str) -> SessionRow:
    """The session that ``reference`` names: its key, a unique beginning of it, or ``last``.

    Raises ``SessionError`` when none or several match.
    """
    table = SESSIONS
    reference = storable(reference)
    if not reference.strip():
        raise SessionError("Name a session. List them with: sandbox sessions list")
    query = sa.select(table)
    if reference == "last":
        query = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(1)
    else:
        query = query.where(
            sa.or_(table.c.key == reference, table.c.key.startswith(reference, autoescape=True))
        )
    with database.reading() as connection:
        rows = [_row(row) for row in connection.execute(query).mappings()]
    exact = [row for row in rows if row.key == reference]
    if exact or len(rows) == 1:
        return (exact or rows)[0]
    if not rows:
        raise SessionError(f"There is no session '{reference}'. List them with: sandbox sessions list")
    keys = ", ".join(sorted(row.key for row in rows)[:5])
    raise SessionError(f"'{reference}' begins the names of several sessions: {keys}. Write more of it.")


def listing(database: Database, limit: int | None = None) -> list[SessionRow]:
    """The sessions, newest first."""
    query = sa.select(SESSIONS).order_by(SESSIONS.c.created.desc(), SESSIONS.c.id.desc()).limit(limit)
    with database.reading() as connection:
        return [_row(row) for row in connection.execute(query).mappings()]


def lease(database: Database, reference: str, *, served: bool = False, take_over: bool = False) -> Handle:
    """Take the right to write to a session. Raises ``SessionError`` while a living process holds it.

    What is ``served`` is taken over by another server if this process dies; with ``take_over`` from any
    server at once: that one stops, and what it was about is gone on with afterwards.
    """
    row = find(database, reference)
    assert row.id is not None
    owner = _owner(served)
    with database.writing() as connection:
        held = connection.execute(_HOLDER, {"session": row.id}).one_or_none()
        if held is None:
            raise SessionError(f"Session {row.key} has just been deleted.")
        if in_use(held.lease_owner, held.lease_until):
            by_server = f":{_SERVED}" in held.lease_owner
            if not (by_server and served and take_over):
                raise _taken(row.key, held.lease_owner, by_server=by_server and not served)
        connection.execute(
            sa.update(SESSIONS)
            .where(SESSIONS.c.id == row.id)
            .values(lease_owner=owner, lease_until=time.time() + LEASE_SECONDS)
        )
    return Handle(row.id, row.key, row.epoch, owner)


def _taken(key: str, owner: str, *, by_server: bool) -> SessionError:
    if by_server:
        return SessionError(
            f"Session {key} belongs to a running server. Use it there, by sandbox watch or its REST calls; "
            "or stop the server first."
        )
    host, pid, _ = owner.split(":")
    return SessionError(
        f"Session {key} is being run by process {pid} on {host}. Wait for it, or stop it first."
    )


def adoptable(database: Database) -> list[str]:
    """The keys of sessions that a server left running, or that one died over: another may go on with them."""
    query = sa.select(
        SESSIONS.c.key, SESSIONS.c.status, SESSIONS.c.lease_owner, SESSIONS.c.lease_until
    ).where(
        sa.or_(
            sa.and_(SESSIONS.c.status == "running", SESSIONS.c.lease_owner.is_(None)),
            SESSIONS.c.lease_owner.contains(f":{_SERVED}"),
        )
    )
    with database.reading() as connection:
        return [row.key for row in connection.execute(query) if not in_use(row.lease_owner, row.lease_until)]


def renew(database: Database, handle: Handle) -> None:
    """Hold the lease for another while. Raises ``LeaseLost``."""
    with database.writing() as connection:
        result = connection.execute(
            sa.update(SESSIONS)
            .where(SESSIONS.c.id == handle.id, SESSIONS.c.lease_owner == handle.owner)
            .values(lease_until=time.time() + LEASE_SECONDS)
        )
    if result.rowcount == 0:
        raise LeaseLost(f"Another process has taken session {handle.key} over; this one stops.")


def release(database: Database, handle: Handle) -> None:
    """Give the lease back, if it is still ours."""
    with database.writing() as connection:
        connection.execute(
            sa.update(SESSIONS)
            .where(SESSIONS.c.id == handle.id, SESSIONS.c.lease_owner == handle.owner)
            .values(lease_owner=None, lease_until=None)
        )


def in_use(owner: str | None, until: float | None) -> bool:
    """Whether a lease is held by a running process. One of this host that has ended holds none."""
    if not owner or until is None or until < time.time():
        return False
    host, pid, token = owner.split(":")
    if host != socket.gethostname():
        return True
    _, _, since = token.partition("@")
    return processes.is_running(int(pid), float(since) if since else None)


def fork(
    database: Database, log: Log, reference: str, at: int | None = None, seed: int | None = None
) -> Handle:
    """A new session with the events of another up to seq ``at`` (all, if None). Raises ``SessionError``."""
    parent = find(database, reference)
    until = parent.head if at is None else at
    if not 1 <= until <= parent.head:
        raise SessionError(
            f"Session {parent.key} has the events 1 to {parent.head}; it can't be forked at {until}."
        )
    events: list[Event] = [recorded.event for recorded in log.read(parent.key, until=until)]
    epoch = sa.select(SESSIONS.c.epoch).where(SESSIONS.c.id == parent.id).with_for_update()
    with database.writing() as connection:
        if connection.execute(epoch).scalar() == parent.epoch:
            return _forked(connection, log, parent.key, events, seed)
    return fork(database, log, reference, at, seed)  # somebody was taken out of it meanwhile


def _forked(connection: Connection, log: Log, parent: str, events: list[Event], seed: int | None) -> Handle:
    created, at = events[0], len(events)
    assert isinstance(created, SessionCreated)
    handle = _insert(connection, created.society, leased=False, parent=parent, parent_seq=at)
    log.append_within(connection, handle, [*events, SessionForked(parent=parent, at=at, seed=seed)])
    return handle


def delete(database: Database, reference: str) -> SessionRow:
    """Delete a session with all that hangs on it. Raises ``SessionError`` while it is being run."""
    row = find(database, reference)
    with database.writing() as connection:
        held = connection.execute(_HOLDER, {"session": row.id}).one_or_none()
        if held and in_use(held.lease_owner, held.lease_until):
            raise _taken(row.key, held.lease_owner, by_server=f":{_SERVED}" in held.lease_owner)
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.id == row.id))
    return row


def _insert(
    connection: Connection,
    society: Society,
    leased: bool,
    parent: str | None = None,
    parent_seq: int | None = None,
) -> Handle:
    now = datetime.now(UTC)
    owner = _owner() if leased else None
    values = {
        "key": _new_key(society.name),
        "name": society.name,
        "status": "ready",
        "seed": society.seed,
        "round": 0,
        "rounds": society.rounds,
        "head": 0,
        "epoch": secrets.token_hex(4),
        "created": now,
        "updated": now,
        "parent": parent,
        "parent_seq": parent_seq,
        "lease_owner": owner,
        "lease_until": time.time() + LEASE_SECONDS if leased else None,
    }
    result = connection.execute(sa.insert(SESSIONS).values(**values).returning(SESSIONS.c.id))
    return Handle(int(result.scalar_one()), str(values["key"]), str(values["epoch"]), owner)


def _row(values: Any) -> SessionRow:
    row = SessionRow(**values)
    for name in ("created", "updated"):  # SQLite forgets that they are in UTC
        moment: datetime = getattr(row, name)
        setattr(row, name, moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    return row


def _new_key(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24] or "society"
    return f"{words}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"


def _owner(served: bool = False) -> str:
    token = f"{_SERVED if served else ''}{secrets.token_hex(6)}@{processes.began():.2f}"
    return f"{socket.gethostname()}:{os.getpid()}:{token}"

"""Invitations: a single-use ticket makes a person with a key of their own, and their consent is on record."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import sqlalchemy as sa

from sandbox.errors import UserError
from sandbox.names import is_person_name, looks_like
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS
from sandbox.store.tables import ConsentRow, InviteRow
from sandbox.text import storable
from sandbox.withdrawing import PSEUDONYM
from server.auth import KEYS, Unauthorized, digest, insert_key, session_id
from server.wire.views import (
    ConsentView,
    CreateInvite,
    CreateKey,
    InviteRowView,
    InviteView,
    Join,
    Joined,
    NewInvite,
)

_RESERVED = re.compile(rf"key \d+|person|{PSEUDONYM.pattern}")
INVITES: sa.Table = InviteRow.__table__  # type: ignore[attr-defined]
CONSENTS: sa.Table = ConsentRow.__table__  # type: ignore[attr-defined]


def invite(database: Database, session: str, wanted: CreateInvite) -> NewInvite:
    """An invitation to a session. Its name is free, or that of somebody who is invited ``again``.

    Raises ``SessionError`` for a session that there is not, ``UserError`` for a name that can't be.
    """
    if wanted.person is not None:
        _check_person(wanted.person)
    ticket = secrets.token_urlsafe(24)
    now = time.time()
    expires = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    with database.writing() as connection:
        number = session_id(connection, session)
        person = wanted.person
        if person is not None and not wanted.again:
            _check_free(connection, number, session, person)
        elif person is not None:  # as they are written here
            known = _people(connection, session)
            person = person if person in known else looks_like(person, known) or person
        values = {
            "session_id": number,
            "digest": digest(ticket),
            "person": person,
            "seat": wanted.seat,
            "consent_version": storable(wanted.consent_version),
            "consent_text": storable(wanted.consent_text),
            "created": now,
            "expires": expires,
        }
        connection.execute(sa.insert(INVITES).values(**values))
    return NewInvite(ticket=ticket, session=session, person=person, seat=wanted.seat, expires=expires)


def listing(database: Database, session: str) -> list[InviteRowView]:
    """The invitations to a session, the newest first."""
    query = (
        sa.select(INVITES)
        .join(SESSIONS, SESSIONS.c.id == INVITES.c.session_id)
        .where(SESSIONS.c.key == session)
        .order_by(INVITES.c.id.desc())
    )
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [InviteRowView(**{name: row[name] for name in InviteRowView.model_fields}) for row in rows]


def withdraw(database: Database, session: str, number: int) -> None:
    """End an invitation that has not been used. Raises ``UserError`` if there is none."""
    with database.writing() as connection:
        ended = connection.execute(
            sa.delete(INVITES).where(
                INVITES.c.id == number,
                INVITES.c.session_id == session_id(connection, session),
                INVITES.c.used.is_(None),
            )
        )
    if not ended.rowcount:
        raise UserError(f"There is no open invitation {number} to this session. To end a key, revoke it.")


def consents(database: Database, session: str) -> list[ConsentView]:
    """Who agreed to what, the oldest first."""
    query = (
        sa.select(CONSENTS)
        .join(SESSIONS, SESSIONS.c.id == CONSENTS.c.session_id)
        .where(SESSIONS.c.key == session)
        .order_by(CONSENTS.c.id)
    )
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [ConsentView(**{name: row[name] for name in ConsentView.model_fields}) for row in rows]


def people(database: Database, session: str) -> list[str]:
    """Who has joined a session by invitation."""
    with database.reading() as connection:
        return _people(connection, session)


def look_at(database: Database, ticket: str) -> InviteView:
    """What a ticket invites to. Raises ``Unauthorized`` if it is not good."""
    with database.reading() as connection:
        invite, session = _open_invite(connection, ticket)
    return InviteView(
        session=session,
        person=invite["person"],
        seat=invite["seat"],
        consent_version=invite["consent_version"],
        consent_text=invite["consent_text"],
    )


def join(database: Database, wanted: Join) -> Joined:
    """Use a ticket: a key for one person in one session. Raises ``Unauthorized``, ``UserError``."""
    with database.writing() as connection:
        invite, session = _open_invite(connection, wanted.ticket)
        person = invite["person"] or wanted.person
        if person is None:
            raise UserError("Choose a name (a pseudonym) to join under.")
        _check_person(person)
        if invite["consent_text"] and wanted.consent != invite["consent_version"]:
            raise UserError(
                f"To join, agree to the text: send consent '{invite['consent_version']}'. It reads: "
                f"{invite['consent_text']}"
            )
        if invite["person"] is None:
            _check_free(connection, invite["session_id"], session, person)
        now = time.time()
        used = (
            sa.update(INVITES).where(INVITES.c.id == invite["id"], INVITES.c.used.is_(None)).values(used=now)
        )
        if connection.execute(used).rowcount != 1:  # somebody was quicker by a moment
            raise Unauthorized("The invitation is used or unknown. Ask for a new one.")
        key = insert_key(
            connection, CreateKey(name=person, scopes=("watch", "join"), session=session), person
        )
        consent = {
            "session_id": invite["session_id"],
            "person": person,
            "version": invite["consent_version"],
            "text": invite["consent_text"],
            "time": now,
        }
        connection.execute(sa.insert(CONSENTS).values(**consent))
    return Joined(key=key.key, session=session, person=person, seat=invite["seat"])


def _check_person(name: str) -> None:
    if _RESERVED.fullmatch(name.strip().casefold()):
        raise UserError(
            f"'{name}' stands for keys without a person, or for somebody who withdrew. Choose another name."
        )
    if not is_person_name(name):
        raise UserError(
            "A person's name begins with a letter and goes on with letters, digits, spaces and .'_-, "
            "32 characters at most."
        )


def _people(connection: sa.Connection, session: str) -> list[str]:
    query = sa.select(KEYS.c.person).where(KEYS.c.session == session, KEYS.c.person.is_not(None))
    return list(connection.execute(query).scalars())


def _check_free(connection: sa.Connection, number: int, session: str, person: str) -> None:
    """Raise ``UserError`` if somebody has the name or one that looks like it, or is invited by it."""
    invited = sa.select(INVITES.c.person).where(
        INVITES.c.session_id == number,
        INVITES.c.person.is_not(None),
        INVITES.c.used.is_(None),
        sa.or_(INVITES.c.expires.is_(None), INVITES.c.expires > time.time()),
    )
    taken = {*_people(connection, session), *connection.execute(invited).scalars()}
    if other := person if person in taken else looks_like(person, taken):
        raise UserError(
            f"There is a '{other}' here already. Choose another name; to invite the same person once more, "
            "say 'again'."
        )


def _open_invite(connection: sa.Connection, ticket: str) -> tuple[Any, str]:
    query = (
        sa.select(INVITES, SESSIONS.c.key)
        .join(SESSIONS, SESSIONS.c.id == INVITES.c.session_id)
        .where(INVITES.c.digest == digest(ticket))
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None or row["used"] is not None:
        raise Unauthorized("The invitation is used or unknown. Ask for a new one.")
    if row["expires"] is not None and row["expires"] < time.time():
        raise Unauthorized("The invitation is expired. Ask for a new one.")
    return row, str(row["key"])

"""Invitations: a single-use ticket makes a person with a key of their own, and their consent is on record."""

from __future__ import annotations

import secrets
import time
from typing import Any

import sqlalchemy as sa

from sandbox.conversation import is_person_name
from sandbox.errors import UserError
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS
from sandbox.store.tables import ConsentRow, InviteRow
from sandbox.text import storable
from server.auth import KEYS, Unauthorized, digest, insert_key, session_id
from server.wire.views import CreateInvite, CreateKey, InviteView, Join, Joined, NewInvite

INVITES: sa.Table = InviteRow.__table__  # type: ignore[attr-defined]
CONSENTS: sa.Table = ConsentRow.__table__  # type: ignore[attr-defined]


def invite(database: Database, session: str, wanted: CreateInvite) -> NewInvite:
    """An invitation to a session. Raises ``SessionError`` for one that there is not."""
    if wanted.person is not None:
        _check_person(wanted.person)
    ticket = secrets.token_urlsafe(24)
    now = time.time()
    expires = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    with database.writing() as connection:
        values = {
            "session_id": session_id(connection, session),
            "digest": digest(ticket),
            "person": wanted.person,
            "seat": wanted.seat,
            "consent_version": storable(wanted.consent_version),
            "consent_text": storable(wanted.consent_text),
            "created": now,
            "expires": expires,
        }
        connection.execute(sa.insert(INVITES).values(**values))
    return NewInvite(ticket=ticket, session=session, person=wanted.person, seat=wanted.seat, expires=expires)


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
        if person.casefold() in {name.casefold() for name in _people(connection, session)}:
            raise UserError(f"Somebody has joined as '{person}'. Choose another name.")
        key = insert_key(
            connection, CreateKey(name=person, scopes=("watch", "join"), session=session), person
        )
        now = time.time()
        connection.execute(sa.update(INVITES).where(INVITES.c.id == invite["id"]).values(used=now))
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
    if not is_person_name(name):
        raise UserError(
            "A person's name begins with a letter and goes on with letters, digits, spaces and .'_-, "
            "32 characters at most."
        )


def _people(connection: sa.Connection, session: str) -> list[str]:
    query = sa.select(KEYS.c.person).where(KEYS.c.session == session, KEYS.c.person.is_not(None))
    return list(connection.execute(query).scalars())


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

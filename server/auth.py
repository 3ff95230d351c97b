"""Keys, scopes and tickets: who may do what. Only digests of secrets are kept.

Keys are random (256 bits), so that one fast hash is enough. It knows no HTTP; ``server.deps`` reads headers.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from sandbox.errors import SessionError, UserError
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS
from sandbox.store.tables import KeyRow, SocketTicketRow
from sandbox.text import storable
from server.purse import dollars
from server.wire.views import CreateKey, KeyView, NewKey

KEYS: sa.Table = KeyRow.__table__  # type: ignore[attr-defined]
TICKETS: sa.Table = SocketTicketRow.__table__  # type: ignore[attr-defined]
KEY_PREFIX = "sbx_"
TICKET_S = 30.0
_CACHE_S = 2.0
_CACHED = 10_000


class Unauthorized(UserError):
    """No key, or one that is not good (any more)."""


class Forbidden(UserError):
    """The key is good, but not for this."""


class TooMany(UserError):
    """More requests than the key allows; ``retry_after`` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"Too many requests. Try again in {max(retry_after, 1):.0f} s.")
        self.retry_after = max(retry_after, 1.0)


class OverBudget(UserError):
    """The key has spent what it may."""


Secret = tuple[int, float]
"""A key's number, and when its present secret was made."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. ``session`` and ``person`` bind a key to one person in one session; ``key`` None is nobody's.

    ``actor`` is under which name commands are kept, ``made`` when the key's secret was made.
    """

    actor: str
    scopes: frozenset[str]
    key: int | None = None
    session: str | None = None
    person: str | None = None
    per_minute: int | None = None
    budget: float | None = None
    spent: float = 0.0
    made: float = 0.0

    @property
    def secret(self) -> Secret | None:
        """What they were let in by; None if none was needed."""
        return None if self.key is None else (self.key, self.made)

    def may(self, scope: str, session: str | None = None) -> bool:
        """Whether a scope is held, for a session if one is named."""
        fits = self.session is None or session is None or session == self.session
        return fits and (scope in self.scopes or "admin" in self.scopes)

    def check(self, scope: str, session: str | None = None) -> None:
        """Raise ``Forbidden`` unless ``may``."""
        if not self.may(scope, session):
            what = "this session" if scope in self.scopes else f"'{scope}'"
            raise Forbidden(f"This key is not good for {what}. Ask the operator for one that is.")

    def check_looks(self, session: str | None = None) -> None:
        """Raise ``Forbidden`` unless sessions may be looked at: by who watches, takes part or runs them."""
        if not (self.may("join", session) or self.may("run", session)):
            self.check("watch", session)

    def check_everywhere(self, scope: str) -> None:
        """Raise ``Forbidden`` unless a scope is held for the whole server."""
        self.check(scope)
        if self.session is not None:
            raise Forbidden(
                f"This key is good for session {self.session} only. Ask the operator for another."
            )

    def check_budget(self) -> None:
        """Raise ``OverBudget`` if the key has spent what it may."""
        if self.budget is not None and self.spent >= self.budget:
            raise OverBudget(
                f"This key has spent {dollars(self.spent)} of its {dollars(self.budget)}. "
                "Ask the operator for more."
            )


EVERYBODY = Identity("local", frozenset({"admin"}))
"""Whoever asks on loopback, where no keys are needed."""


def digest(secret: str) -> str:
    """What is kept of a key or ticket."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class _Window:
    start: float
    count: int = 0


@dataclass(slots=True)
class _Known:
    identity: Identity
    until: float


@dataclass(slots=True)
class Keys:
    """The keys and socket tickets. ``required`` is whether a request needs one.

    ``per_minute`` bounds the requests of each key (None: no bound), ``tries`` those with a bad secret from
    one address.
    """

    database: Database
    required: bool
    per_minute: int | None
    tries: int = 60
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _windows: dict[str, _Window] = field(default_factory=dict)

    def identify(self, secret: str | None) -> Identity:
        """Whose key it is. Raises ``Unauthorized``. A lookup of the database, now and then.

        Where no key is needed, clients send any word for one. What looks like a key of ours is meant as one.
        """
        if not self.required and not (secret or "").startswith(KEY_PREFIX):
            return EVERYBODY
        return self._known_by(secret)

    def _known_by(self, secret: str | None) -> Identity:
        if not secret or not secret.startswith(KEY_PREFIX):
            raise Unauthorized(
                "A key is needed: send the header Authorization, with Bearer and the key (sbx_…)."
            )
        hashed = digest(secret)
        known = self._known.get(hashed)
        now = time.time()
        if known is None or known.until < now:
            known = _Known(self._look_up(hashed, now), now + _CACHE_S)
            self._known[hashed] = known
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return known.identity

    def renewed(self, identity: Identity) -> Identity:
        """The same key as it is now. Raises ``Unauthorized`` if it is good no more."""
        with self.database.reading() as connection:
            row = (
                connection.execute(
                    sa.select(KEYS).where(KEYS.c.id == identity.key, KEYS.c.created == identity.made)
                )
                .mappings()
                .one_or_none()
            )
        return _identity(row, time.time())

    def ended(self, secrets: set[Secret]) -> set[Secret]:
        """Those of some secrets that are good no more: ended with their key, or replaced."""
        good = sa.and_(
            KEYS.c.revoked.is_(None), sa.or_(KEYS.c.expires.is_(None), KEYS.c.expires >= time.time())
        )
        query = sa.select(KEYS.c.id, KEYS.c.created).where(KEYS.c.id.in_([key for key, _ in secrets]), good)
        with self.database.reading() as connection:
            return secrets - {(row.id, row.created) for row in connection.execute(query)}

    def count(self, identity: Identity, now: float | None = None) -> None:
        """One more request. Raises ``TooMany``."""
        limit = identity.per_minute or self.per_minute
        if limit is None:
            return
        now = time.monotonic() if now is None else now
        if len(self._windows) > _CACHED:
            self._windows = {actor: w for actor, w in self._windows.items() if now - w.start < 60}
        window = self._windows.setdefault(identity.actor, _Window(now))
        if now - window.start >= 60:
            window.start, window.count = now, 0
        if window.count >= limit:
            raise TooMany(60 - (now - window.start))
        window.count += 1

    def count_bad(self, address: str) -> None:
        """One more request with a bad key or ticket from an address. Raises ``TooMany``.

        Good ones are not counted: a whole class may sit behind one address.
        """
        self.count(Identity(f"bad:{address}", frozenset(), per_minute=self.tries))

    def socket_ticket(self, identity: Identity, session: str | None, person: str | None = None) -> str:
        """A ticket for one connection, as one person or none; good once and shortly, in every process."""
        now = time.time()
        ticket = secrets.token_urlsafe(24)
        values = {
            "digest": digest(ticket),
            "key": identity.key,
            "made": identity.made,
            "session": session,
            "person": person,
            "until": now + TICKET_S,
        }
        with self.database.writing() as connection:
            connection.execute(sa.delete(TICKETS).where(TICKETS.c.until < now))
            if (connection.execute(sa.select(sa.func.count()).select_from(TICKETS)).scalar() or 0) >= _CACHED:
                raise TooMany(TICKET_S)
            connection.execute(sa.insert(TICKETS).values(**values))
        return ticket

    def use_ticket(self, ticket: str, session: str) -> Identity:
        """Whose ticket it is; it is good no more. Raises ``Unauthorized`` or ``Forbidden``."""
        with self.database.writing() as connection:
            used = sa.delete(TICKETS).where(TICKETS.c.digest == digest(ticket)).returning(TICKETS)
            found = connection.execute(used).mappings().one_or_none()
        if found is None or found["until"] < time.time():
            raise Unauthorized("The ticket is used, expired or unknown. Get a new one.")
        if found["session"] is not None and found["session"] != session:
            raise Forbidden("The ticket is for another session.")
        return replace(self._holder(found["key"], found["made"]), person=found["person"])

    def _holder(self, key: int | None, made: float) -> Identity:
        """Who got a ticket, as they are now. Raises ``Unauthorized`` if they are let in no more."""
        if key is not None:
            return self.renewed(Identity(f"key:{key}", frozenset(), key=key, made=made))
        if self.required:  # it was given out when no key was needed
            raise Unauthorized("Keys are needed now. Get a new ticket, with one.")
        return EVERYBODY

    def create(self, wanted: CreateKey) -> NewKey:
        """A new key. Raises ``SessionError`` for an unknown session."""
        with self.database.writing() as connection:
            if wanted.session is not None:
                session_id(connection, wanted.session)
            return insert_key(connection, wanted, None)

    def listing(self) -> list[KeyView]:
        """All keys, the newest first."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(KEYS).order_by(KEYS.c.id.desc())).mappings().all()
        return [_view(row) for row in rows]

    def any_usable(self) -> bool:
        """Whether there is a good key, other than those of invited people."""
        now = time.time()
        return any(
            key.person is None and not key.revoked and (key.expires is None or key.expires > now)
            for key in self.listing()
        )

    def revoke(self, reference: str) -> KeyView:
        """End a key, by its number, its prefix or the key itself. Raises ``UserError`` unless it is one."""
        table = KEYS
        clauses = [table.c.prefix == reference[: len(KEY_PREFIX) + 6], table.c.digest == digest(reference)]
        if reference.isdecimal() and len(reference) < 10:
            clauses.append(table.c.id == int(reference))
        with self.database.writing() as connection:
            rows = connection.execute(sa.select(table).where(sa.or_(*clauses))).mappings().all()
            if len(rows) != 1:
                raise UserError("That names no key, or several. List them with: sandbox keys list")
            now = time.time()
            connection.execute(sa.update(table).where(table.c.id == rows[0]["id"]).values(revoked=now))
        self._known.clear()
        return _view({**rows[0], "revoked": now})

    def forget(self, person: str) -> None:
        """A person was taken out of a session: their tickets are no good, and keys are looked up anew."""
        self._known.clear()
        with self.database.writing() as connection:
            connection.execute(sa.delete(TICKETS).where(TICKETS.c.person == person))

    def look_anew(self) -> None:
        """Keys have changed: they are looked up anew."""
        self._known.clear()

    def _look_up(self, hashed: str, now: float) -> Identity:
        with self.database.reading() as connection:
            row = connection.execute(sa.select(KEYS).where(KEYS.c.digest == hashed)).mappings().one_or_none()
        return _identity(row, now)


def _identity(row: Any, now: float) -> Identity:
    if row is None or row["revoked"] is not None:
        raise Unauthorized("The key is unknown or revoked. Ask the operator for another.")
    if row["expires"] is not None and row["expires"] < now:
        raise Unauthorized("The key is expired. Ask the operator for another.")
    return Identity(
        actor=f"key:{row['id']}",
        scopes=frozenset(row["scopes"].split(",")),
        key=row["id"],
        session=row["session"],
        person=row["person"],
        per_minute=row["per_minute"],
        budget=row["budget"],
        spent=row["spent"],
        made=row["created"],
    )


def session_id(connection: sa.Connection, key: str) -> int:
    """The number of a session. Raises ``SessionError``."""
    found = connection.execute(sa.select(SESSIONS.c.id).where(SESSIONS.c.key == key)).scalar()
    if found is None:
        raise SessionError(f"There is no session '{storable(key)}'.")
    return int(found)


def insert_key(connection: sa.Connection, wanted: CreateKey, person: str | None) -> NewKey:
    """Make a key, and return it this once.

    A ``person`` who has one in that session gets another secret for it; the old one is good no more.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    now = time.time()
    secret = {"prefix": key[: len(KEY_PREFIX) + 6], "digest": digest(key), "created": now}
    if person is not None:
        theirs = KEYS.c.session == wanted.session, KEYS.c.person == person
        again = sa.update(KEYS).where(*theirs).values(**secret, revoked=None).returning(KEYS)
        if row := connection.execute(again).mappings().one_or_none():
            return NewKey(**_view(row).model_dump(), key=key)
    values = {
        **secret,
        "name": storable(wanted.name),
        "scopes": ",".join(dict.fromkeys(wanted.scopes)),
        "session": wanted.session,
        "person": person,
        "expires": None if wanted.expires_in_s is None else now + wanted.expires_in_s,
        "per_minute": wanted.per_minute,
        "budget": wanted.budget,
        "spent": 0.0,
    }
    row = connection.execute(sa.insert(KEYS).values(**values).returning(KEYS)).mappings().one()
    return NewKey(**_view(row).model_dump(), key=key)


def _view(row: Any) -> KeyView:
    fields = {name: row[name] for name in KeyView.model_fields if name != "scopes"}
    return KeyView(**fields, scopes=tuple(row["scopes"].split(",")))

"""What people and programs ask of a session, kept until the process that runs it has done it.

A command is written once under (session, actor, ``cid``), however often it is sent. It is marked as done in
the transaction of the first events that follow from it, so that a crash neither loses nor doubles it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from sandbox.errors import LeaseLost, SandboxError, SessionError
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS, Handle
from sandbox.store.tables import CommandRow

_ASKING = ("ask", "say", "judge")
COMMANDS: sa.Table = CommandRow.__table__  # type: ignore[attr-defined]


class Command(NamedTuple):
    """A command as stored. ``result`` is there once ``state`` is no longer ``waiting``."""

    id: int
    actor: str
    kind: str
    body: dict[str, Any]
    state: str
    result: dict[str, Any] | None


@dataclass(slots=True)
class Receipt:
    """Marks a command as done, with the number of the interaction that it began, if it began one.

    ``settled`` is called with that number after the commit, in the event loop, ``failed`` if there will be
    none; ``is_written`` is whether the command has been marked.
    """

    command: int
    settled: Callable[[int | None], None] = lambda _: None
    failed: Callable[[SandboxError], None] = lambda _: None
    is_written: bool = False

    def within(self, connection: Connection, interaction: int | None) -> None:
        """As part of the transaction that records what follows from the command."""
        settle(connection, self.command, "done", {"interaction": interaction})
        self.is_written = True


def each(receipt: Receipt | None) -> tuple[Receipt, ...]:
    """The receipts behind a commit: one or none."""
    return (receipt,) if receipt else ()


class Inbox:
    """The commands of all sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, session: int, key: str, actor: str, cid: str, kind: str, body: dict[str, Any]) -> Command:
        """Keep a command; if it is there already, what became of it.

        Raises ``SessionError`` if its ``cid`` was used for another.
        """
        written = json.dumps(body)
        where = (COMMANDS.c.session_id == session, COMMANDS.c.actor == actor, COMMANDS.c.cid == cid)
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        with self._database.writing() as connection:
            values = {
                "session_id": session,
                "actor": actor,
                "cid": cid,
                "kind": kind,
                "body": written,
                "created": time.time(),
                "state": "waiting",
            }
            number = connection.execute(
                insert(COMMANDS).values(**values).on_conflict_do_nothing().returning(COMMANDS.c.id)
            ).scalar()
            if number is None:  # it was here before, perhaps a moment ago
                known = connection.execute(sa.select(COMMANDS).where(*where)).mappings().one()
                if (known["kind"], known["body"]) != (kind, written):
                    raise SessionError(
                        f"'{cid}' was used for another command. Choose a new id for each, such as a UUID."
                    )
                return _command(known)
            self._database.notify(connection, key)
        return Command(number, actor, kind, body, "waiting", None)

    def find(self, command: int) -> Command | None:
        """One command as it stands; None if its session was deleted."""
        with self._database.reading() as connection:
            row = (
                connection.execute(sa.select(COMMANDS).where(COMMANDS.c.id == command))
                .mappings()
                .one_or_none()
            )
        return _command(row) if row is not None else None

    def waiting(self, session: int) -> list[Command]:
        """What is still to be done in a session, in the order it came."""
        query = (
            sa.select(COMMANDS)
            .where(COMMANDS.c.session_id == session, COMMANDS.c.state == "waiting")
            .order_by(COMMANDS.c.id)
        )
        with self._database.reading() as connection:
            return [_command(row) for row in connection.execute(query).mappings()]

    def settle(self, handle: Handle, command: int, state: str, result: dict[str, Any]) -> None:
        """Write what became of a command, and wake who waits for it.

        Raises ``LeaseLost`` if another process has the session: what was done here went nowhere.
        """
        owner = sa.select(SESSIONS.c.lease_owner).where(SESSIONS.c.id == handle.id).with_for_update()
        with self._database.writing() as connection:
            if connection.execute(owner).scalar() != handle.owner:
                raise LeaseLost(f"Another process has taken session {handle.key} over.")
            settle(connection, command, state, result)
            self._database.notify(connection, handle.key)

    def askers(self, session: int) -> dict[int, str]:
        """By interaction: who asked for it, of those kept here."""
        query = sa.select(COMMANDS.c.actor, COMMANDS.c.result).where(
            COMMANDS.c.session_id == session, COMMANDS.c.state == "done", COMMANDS.c.kind.in_(_ASKING)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        found = ((json.loads(row.result or "{}").get("interaction"), row.actor) for row in rows)
        return {number: actor for number, actor in found if number is not None}

    def sessions_waiting(self) -> list[str]:
        """The keys of the sessions in which something is to be done."""
        query = (
            sa.select(SESSIONS.c.key)
            .join(COMMANDS, COMMANDS.c.session_id == SESSIONS.c.id)
            .where(COMMANDS.c.state == "waiting")
            .distinct()
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def forget(self, before: float) -> None:
        """Delete what was done before a time, in seconds since 1970."""
        done = sa.delete(COMMANDS).where(COMMANDS.c.created < before, COMMANDS.c.state != "waiting")
        with self._database.writing() as connection:
            connection.execute(done)


def settle(connection: Connection, command: int, state: str, result: dict[str, Any]) -> None:
    """Write what became of a command, within the caller's transaction; what is settled stays so."""
    connection.execute(
        sa.update(COMMANDS)
        .where(COMMANDS.c.id == command, COMMANDS.c.state == "waiting")
        .values(state=state, result=json.dumps(result))
    )


def _command(row: Any) -> Command:
    result = json.loads(row["result"]) if row["result"] else None
    return Command(row["id"], row["actor"], row["kind"], json.loads(row["body"]), row["state"], result)

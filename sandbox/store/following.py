"""Waits until a session's log has more than one knows, whichever process wrote it.

PostgreSQL says so itself (``LISTEN``); what it says only wakes. SQLite has nobody to say it: the session's
head, one number, is looked at once a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from sandbox.errors import SessionError, StoreError
from sandbox.store import queries
from sandbox.store.database import CHANNEL, Database

LOOK_S = 1.0
HEARTBEAT_S = 5.0


def heads(database: Database, key: str, after: int, look_s: float = LOOK_S) -> Iterator[int]:
    """The session's head, each time that it has grown beyond ``after``; it goes on until it is given up.

    Raises ``SessionError`` when the session is deleted, ``StoreError`` for what the database says.
    """
    for _ in _woken(database, key, look_s):
        now = queries.head(database, key)
        if not now:
            raise SessionError(f"Session {key} was deleted. List what there is with: sandbox sessions list")
        if now > after:
            after = now
            yield now


def _woken(database: Database, key: str, look_s: float) -> Iterator[None]:
    if database.dialect == "postgresql":
        yield from _told(database, key)
    while True:
        yield
        time.sleep(look_s)


def _told(database: Database, key: str) -> Iterator[None]:
    """When PostgreSQL announces the session, and every few seconds besides."""
    import psycopg

    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            yield
            while True:
                for notice in connection.notifies(timeout=HEARTBEAT_S):
                    if notice.payload == key:
                        yield
                connection.execute("SELECT 1")  # a dead connection shows itself here
                yield
    except psycopg.Error as error:
        raise StoreError(
            f"The database {database.location} can't be reached any more: {type(error).__name__}. "
            "What was committed stands. Try again when it is back."
        ) from error

"""What people agreed to."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from sandbox.store.database import Database
from sandbox.store.log import SESSIONS
from sandbox.store.tables import ConsentRow

_CONSENTS: sa.Table = ConsentRow.__table__  # type: ignore[attr-defined]


def versions_of(database: Database, people: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The versions of the texts that people (session, name) agreed to, each once."""
    wanted = set(people)
    query = (
        sa.select(SESSIONS.c.key, _CONSENTS.c.person, _CONSENTS.c.version)
        .join(SESSIONS, SESSIONS.c.id == _CONSENTS.c.session_id)
        .where(SESSIONS.c.key.in_({session for session, _ in wanted}))
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(sorted({row.version for row in rows if (row.key, row.person) in wanted and row.version}))

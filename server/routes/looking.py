"""Looking at a session: who may, which one is meant, and what of it is hidden from whom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from sandbox.errors import SessionError
from sandbox.progress import Progress, fold
from sandbox.store import sessions
from sandbox.store.tables import SessionRow
from sandbox.text import storable
from server.auth import Identity
from server.blinding import Blinder
from server.deps import Parts, Who, seen_by
from server.errors import NotFound
from server.services import Services


async def found(services: Services, session: str) -> SessionRow:
    """The session of exactly that key. Raises ``NotFound``."""
    try:
        row = await asyncio.to_thread(sessions.find, services.store.database, storable(session))
    except SessionError:
        row = None
    if row is None or row.key != session:
        raise NotFound(f"There is no session '{storable(session)[:80]}'.")
    return row


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Who looks at which session; ``person`` is whom others' ratings may be hidden from."""

    services: Services
    who: Identity
    row: SessionRow
    person: str | None

    @property
    def key(self) -> str:
        """The session's."""
        return self.row.key

    async def blinder(self) -> Blinder | None:
        """What hides others' ratings from a person; None for who sees all."""
        if not self.services.server.blind or self.person is None:
            return None
        blinder = Blinder(self.services.store, self.key, self.person)
        await blinder.load()
        return blinder

    async def progress(self) -> Progress:
        """Where the session stands."""
        log = self.services.store.log
        return await asyncio.to_thread(lambda: fold(recorded.event for recorded in log.read(self.key)))


async def _onlooker(session: str, request: Request, who: Who, services: Parts) -> Onlooker:
    who.check_looks(session)
    row = await found(services, session)
    return Onlooker(services, who, row, seen_by(request, who))


Looks = Annotated[Onlooker, Depends(_onlooker)]

"""Model ids: ``sandbox/[SESSION/]SEAT``, ``sandbox/[SESSION/]society``, and embeddings (``sandbox/hashed``).

Says which there are, and what an id means to whoever asks. It asks no model.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import NamedTuple

from sandbox.embeddings import MINILM_PACKAGE
from sandbox.errors import SessionError
from sandbox.events import SessionCreated
from sandbox.store import queries, sessions
from sandbox.store.tables import SessionRow
from server.auth import Identity
from server.openai.errors import ApiError, no_model
from server.services import Services

PREFIX = "sandbox/"
SOCIETY = "society"
ANSWER = "society:answer"
"""The society without its draft in the stream."""
_LISTED = 20


class Target(NamedTuple):
    """What an id means. ``seat`` is None for a whole society, whose streams may leave the draft out."""

    session: str
    seat: str | None
    with_draft: bool = True


def embeddings() -> tuple[str, ...]:
    """The embeddings there are, by their names in an id."""
    local = all(find_spec(name) for name in (MINILM_PACKAGE, "torch", "transformers"))
    return ("hashed", "minilm") if local else ("hashed",)


async def resolve(services: Services, who: Identity, name: str) -> Target:
    """The session and seat that an id names, for somebody who may ask there.

    Raises ``ApiError`` (404) for what there is not, ``Forbidden`` for another session than the key's.
    """
    parts = name.removeprefix(PREFIX).split("/")
    if not name.startswith(PREFIX) or len(parts) > 2 or not all(parts):
        raise no_model(name, "ids are sandbox/SEAT, sandbox/society, or with the session before the seat.")
    reference = parts[0] if len(parts) == 2 else who.session or services.server.session
    if reference is None:
        raise no_model(
            name, "this server has no session of its own. Write sandbox/SESSION/SEAT; see /v1/models."
        )
    who.check("ask")
    if who.session is not None and reference != who.session:  # nor by a prefix: other names are not theirs
        who.check("ask", reference)
    row = await asyncio.to_thread(_find, services, name, reference)
    who.check("ask", row.key)
    seats = await asyncio.to_thread(_seats, services, row.key)
    if parts[-1] in (SOCIETY, ANSWER):
        return Target(row.key, None, parts[-1] == SOCIETY)
    if parts[-1] not in seats:
        raise no_model(name, f"no such seat answers. Those are: {', '.join(seats[:30])}.")
    return Target(row.key, parts[-1])


async def drafter(services: Services, session: str) -> str | None:
    """The seat that answers first, if any does."""
    return next(iter(await asyncio.to_thread(_seats, services, session)), None)


async def listing(services: Services, who: Identity, *, seats: bool = False) -> list[dict[str, object]]:
    """The models that somebody may use, as the API lists them; all ``seats`` of the server's own session,
    or those that its settings name."""
    return await asyncio.to_thread(_listing, services, who, seats)


async def known(services: Services, who: Identity, name: str) -> dict[str, object]:
    """One model, listed or not. Raises ``ApiError`` (404)."""
    for model in await listing(services, who, seats=True):
        if model["id"] == name:
            return model
    target = await resolve(services, who, name)
    row = await asyncio.to_thread(_find, services, name, target.session)
    return _model(name, int(row.created.timestamp()))


def _listing(services: Services, who: Identity, every: bool) -> list[dict[str, object]]:
    database = services.store.database
    found: dict[str, int] = {}
    reference = who.session or services.server.session
    with suppress(ApiError):  # the server's own session may have been deleted
        row = _find(services, PREFIX + SOCIETY, reference or "")
        created = int(row.created.timestamp())
        patterns = ("*",) if every else services.server.listed_seats
        listed = [
            seat
            for seat in _seats(services, row.key)
            if any(fnmatchcase(seat, pattern) for pattern in patterns)
        ]
        found |= {PREFIX + name: created for name in (SOCIETY, ANSWER, *listed)}
    others = [sessions.find(database, who.session)] if who.session else sessions.listing(database, _LISTED)
    found |= {f"{PREFIX}{row.key}/{SOCIETY}": int(row.created.timestamp()) for row in others}
    for name in embeddings():
        found.setdefault(PREFIX + name, 0)
    return [_model(name, created) for name, created in found.items()]


def _find(services: Services, name: str, reference: str) -> SessionRow:
    try:
        return sessions.find(services.store.database, reference)
    except SessionError as error:
        raise no_model(name, str(error)) from error


def _seats(services: Services, key: str) -> list[str]:
    """The seats that answer. Nothing that happens later changes them."""
    first = queries.events(services.store.database, key, 0, 1)
    created = first[0].event if first else None
    if not isinstance(created, SessionCreated):
        return []
    return [agent.name for agent in created.society.agents if agent.active]


def _model(name: str, created: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": "sandbox"}

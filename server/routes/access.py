"""Keys, invitations, and tickets for sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from sandbox.errors import UserError
from sandbox.names import looks_like
from sandbox.store.database import Database
from server import invitations
from server.auth import TICKET_S, Unauthorized
from server.bodies import Route
from server.deps import Parts, Who, address_of, person_of, seen_by
from server.errors import TOLD
from server.routes.looking import found
from server.services import Services
from server.wire.views import (
    ConsentView,
    CreateInvite,
    CreateKey,
    InviteRowView,
    InviteView,
    Join,
    Joined,
    KeyView,
    Me,
    NewInvite,
    NewKey,
    SocketTicket,
)

router = APIRouter(prefix="/api/v1", tags=["access"], responses=TOLD, route_class=Route)
Found = TypeVar("Found")


class Look(BaseModel):
    """A ticket to be looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ticket: str = Field(min_length=8, max_length=200)


@router.get("/me")
async def me(request: Request, who: Who, services: Parts) -> Me:
    """Whose key this is, and what it is good for."""
    return Me(
        scopes=tuple(sorted(who.scopes)),
        session=who.session,
        person=person_of(request, who),
        budget=who.budget,
        spent=who.spent,
        home=who.session or services.server.session,
    )


@router.get("/keys")
async def list_keys(who: Who, services: Parts) -> list[KeyView]:
    """All keys, by what they begin with."""
    who.check_everywhere("admin")
    return await asyncio.to_thread(services.keys.listing)


@router.post("/keys", status_code=201)
async def create_key(wanted: CreateKey, who: Who, services: Parts) -> NewKey:
    """A new key; it is shown this once."""
    who.check_everywhere("admin")
    return await asyncio.to_thread(services.keys.create, wanted)


@router.delete("/keys/{key}")
async def revoke_key(key: int, who: Who, services: Parts) -> KeyView:
    """End a key. Its sockets close within moments."""
    who.check_everywhere("admin")
    return await asyncio.to_thread(services.keys.revoke, str(key))


@router.post("/sessions/{session}/invites", status_code=201)
async def create_invite(session: str, wanted: CreateInvite, who: Who, services: Parts) -> NewInvite:
    """Invite one person to a session; the ticket is shown this once."""
    who.check("admin", session)
    row = await found(services, session)
    seats = await _seats(services, row.key)
    if wanted.seat is not None and wanted.seat not in seats:
        raise UserError(f"There is no seat '{wanted.seat}' to invite to. The seats are: {', '.join(seats)}.")
    _check_not_seat(wanted.person, seats)
    return await asyncio.to_thread(invitations.invite, services.store.database, row.key, wanted)


@router.get("/sessions/{session}/invites")
async def list_invites(session: str, who: Who, services: Parts) -> list[InviteRowView]:
    """The invitations to a session: open, used, expired."""
    who.check("admin", session)
    row = await found(services, session)
    return await asyncio.to_thread(invitations.listing, services.store.database, row.key)


@router.delete("/sessions/{session}/invites/{invite}", status_code=204)
async def withdraw_invite(
    session: str, invite: Annotated[int, Path(ge=1, lt=2**31)], who: Who, services: Parts
) -> None:
    """Take an invitation back that nobody has used."""
    who.check("admin", session)
    row = await found(services, session)
    await asyncio.to_thread(invitations.withdraw, services.store.database, row.key, invite)


@router.get("/sessions/{session}/consents")
async def list_consents(session: str, who: Who, services: Parts) -> list[ConsentView]:
    """Who agreed to what, and when."""
    who.check("admin", session)
    row = await found(services, session)
    return await asyncio.to_thread(invitations.consents, services.store.database, row.key)


@router.post("/invites/look")
async def look_at_invite(wanted: Look, request: Request, services: Parts) -> InviteView:
    """What a ticket invites to, and what is to be agreed to. Needs no key."""
    return await _tried(request, services, partial(invitations.look_at, ticket=wanted.ticket))


@router.post("/invites/join", status_code=201)
async def join(wanted: Join, request: Request, services: Parts) -> Joined:
    """Use a ticket: a key for one person in one session. Needs no key."""
    invite = await _tried(request, services, partial(invitations.look_at, ticket=wanted.ticket))
    if wanted.person is not None:
        _check_not_seat(wanted.person, await _seats(services, invite.session))
    return await _tried(request, services, partial(invitations.join, wanted=wanted))


@router.post("/tickets", status_code=201)
async def socket_ticket(
    request: Request, who: Who, services: Parts, session: str | None = None
) -> SocketTicket:
    """A ticket for one websocket of a browser, which can't send headers; for the key and the person."""
    who.check_looks(session)
    if session is not None:
        await found(services, session)
    ticket = await asyncio.to_thread(
        services.keys.socket_ticket, who, session or who.session, seen_by(request, who)
    )
    return SocketTicket(ticket=ticket, expires_in_s=TICKET_S)


async def _tried(request: Request, services: Services, use: Callable[[Database], Found]) -> Found:
    """Use an invitation's ticket. A bad one counts against the address it comes from."""
    try:
        return await asyncio.to_thread(use, services.store.database)
    except Unauthorized:
        services.keys.count_bad(address_of(request))
        raise


async def _seats(services: Services, session: str) -> list[str]:
    return [seat.name for seat in (await services.glances.of(session)).seats]


def _check_not_seat(person: str | None, seats: list[str]) -> None:
    if person is not None and (person in seats or looks_like(person, seats)):
        raise UserError(
            f"'{person}' is a seat, or looks like one; a person can't act under its name. Choose another."
        )

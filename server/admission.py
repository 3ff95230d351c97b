"""Who may connect to a session's websocket, and from where in the log; and how to turn somebody away."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from fastapi import WebSocket

from sandbox.errors import UserError
from sandbox.redaction import masked
from server.auth import Identity, TooMany, Unauthorized
from server.deps import address_of, bearer
from server.services import Services
from server.wire import frames as fr


class Since(NamedTuple):
    """The last event a client has: ``since=epoch:seq``."""

    epoch: str
    seq: int


async def admitted(socket: WebSocket, services: Services, session: str) -> tuple[Identity, str | None]:
    """Who connects, and the subprotocol to agree on."""
    if sum(len(channel.listeners) for channel in services.hub.channels()) >= services.server.max_sockets:
        raise TooMany(5)
    offered = socket.scope.get("subprotocols", [])
    protocol = fr.SUBPROTOCOL if fr.SUBPROTOCOL in offered else None
    tickets = [
        text.removeprefix(fr.TICKET_PROTOCOL) for text in offered if text.startswith(fr.TICKET_PROTOCOL)
    ]
    if offered and protocol is None:  # a browser would break off without a word
        raise UserError(f"Offer the subprotocol {fr.SUBPROTOCOL}, and the ticket beside it.")
    try:
        if tickets:
            who = await asyncio.to_thread(services.keys.use_ticket, tickets[0], session)
        else:
            who = await asyncio.to_thread(services.keys.identify, bearer(socket))
    except Unauthorized:
        if tickets or bearer(socket):
            services.keys.count_bad(address_of(socket))
        raise
    services.keys.count(who)
    who.check_looks(session)
    return who, protocol


def since_of(text: str | None) -> Since | None:
    if not text:
        return None
    epoch, _, seq = text.rpartition(":")
    if not epoch or not seq.isdecimal() or len(seq) > 15:
        raise UserError("Write since=EPOCH:SEQ, as in the id of the last event.")
    return Since(epoch, int(seq))


async def turn_away(socket: WebSocket, code: fr.Close, why: str) -> None:
    """Close with a code that a client can read: only an accepted socket has one."""
    offered = socket.scope.get("subprotocols", [])
    chosen = fr.SUBPROTOCOL if fr.SUBPROTOCOL in offered else next(iter(offered), None)
    await socket.accept(subprotocol=chosen)  # a client that offered some wants one of them
    await socket.close(int(code), masked(why).encode()[:120].decode("utf-8", "ignore"))

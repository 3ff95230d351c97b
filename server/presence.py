"""Who is there: told to all a moment after somebody came or left, once for many who come together."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

from server.hub import Channel
from server.wire.frames import Presence, PresenceFrame

_DELAY_S = 0.25


def announce(channel: Channel, epoch: str) -> None:
    """Somebody came or left."""
    if channel.announcing is None:
        channel.announcing = asyncio.get_running_loop().call_later(_DELAY_S, _tell, channel, epoch)


def _tell(channel: Channel, epoch: str) -> None:
    channel.announcing = None
    people = sorted({listener.person for listener in channel.listeners if listener.person})
    watching = sum(listener.person is None for listener in channel.listeners)
    frame = PresenceFrame(
        epoch=epoch,
        id=secrets.token_hex(8),
        ts=datetime.now(UTC),
        session=channel.key,
        data=Presence(people=tuple(people), watching=watching),
    )
    channel.tell(frame.model_dump_json())

"""The frames of the live websocket. Pure: it knows neither sockets nor sessions.

A server's frame is ``{v, type, seq, epoch, id, ts, session, data}``; ``seq`` is null in frames that are not
in the log. A client's frame is ``{v, type, cid, data}``, and is answered by ``ack`` or ``error`` with its
``cid`` as ``ref``. Whoever reads a type that it does not know ignores the frame.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.events import Event, Recorded, dump
from server.wire.commands import Command
from server.wire.snapshot import Snapshot

VERSION = 1
SUBPROTOCOL = "sandbox.v1"
TICKET_PROTOCOL = "ticket."
"""A browser offers ``sandbox.v1`` and ``ticket.<ticket>`` as subprotocols: it can't set headers."""


class Close(IntEnum):
    """Why the server closes a socket. 1001, 1009 and 1011 mean what the websocket standard says."""

    INVALID = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    NOT_FOUND = 4404
    TOO_SLOW = 4408
    CHANGED = 4409
    DELETED = 4410
    TOO_MANY = 4429


CLOSE_CODES: dict[int, str] = {
    1001: "The server shuts down. Connect again, with since.",
    1009: "The frame was over the limit. Send less at once.",
    1011: "The server failed, or pings were not answered. Connect again, with since.",
    Close.INVALID: "The address can't be understood: its since, or its person.",
    Close.UNAUTHORIZED: "No key, or one that is expired or revoked.",
    Close.FORBIDDEN: "The key does not allow it or is for another session, or the page's origin is foreign.",
    Close.NOT_FOUND: "There is no such session.",
    Close.TOO_SLOW: "The client read too slowly. Connect again, with since: nothing is lost.",
    Close.CHANGED: "Somebody's part was taken out of the session. Connect again: it is sent anew.",
    Close.DELETED: "The session was deleted.",
    Close.TOO_MANY: "Too many connections or commands. Wait, and connect again.",
}


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Hello(_Wire):
    """The first frame: what the client needs to know. The server pings every ``heartbeat_s`` seconds."""

    version: int = VERSION
    head: int
    heartbeat_s: float
    max_frame_bytes: int
    max_lag: int
    person: str | None = None
    scopes: tuple[str, ...] = ()
    blind: bool = False


class EventData(_Wire):
    """A fact from the log. ``masked`` says that a rating is hidden until one's own is in."""

    event: Event
    masked: bool = False


class Resync(_Wire):
    """The events since the client's last can't all be sent: begin anew with this snapshot, at its ``seq``."""

    reason: Literal["epoch", "too_old", "ahead"]
    snapshot: Snapshot


class Revealed(_Wire):
    """Ratings of a message that were masked until now."""

    ratings: tuple[Event, ...]


class Delta(_Wire):
    """A piece of a text that is being generated. Not in the log; may be left out when a client is slow."""

    interaction: int
    step: str
    text: str


class Presence(_Wire):
    """Who is connected to this process: people by name, and how many watch without one."""

    people: tuple[str, ...] = ()
    watching: int = 0


class Ack(_Wire):
    """A command was carried out. ``interaction`` is the one it began, or the one it was about."""

    ref: str
    interaction: int | None = None


class Problem(_Wire):
    """A command was not carried out, or a frame could not be read; ``code`` is for programs."""

    ref: str | None = None
    code: str
    message: str


class Gone(_Wire):
    """The session was deleted; the socket closes."""


class _Frame(_Wire):
    v: int = VERSION
    seq: int | None = None
    epoch: str
    id: str
    ts: datetime
    session: str


class HelloFrame(_Frame):
    type: Literal["session.hello"] = "session.hello"
    data: Hello


class SnapshotFrame(_Frame):
    """The state at ``seq``, sent after the hello to a client that names no ``since``."""

    type: Literal["session.snapshot"] = "session.snapshot"
    data: Snapshot


class EventFrame(_Frame):
    type: Literal["event"] = "event"
    data: EventData


class ResyncFrame(_Frame):
    type: Literal["resync.required"] = "resync.required"
    data: Resync


class RevealedFrame(_Frame):
    type: Literal["ratings.revealed"] = "ratings.revealed"
    data: Revealed


class DeltaFrame(_Frame):
    type: Literal["delta"] = "delta"
    data: Delta


class PresenceFrame(_Frame):
    type: Literal["presence"] = "presence"
    data: Presence


class AckFrame(_Frame):
    type: Literal["ack"] = "ack"
    data: Ack


class ErrorFrame(_Frame):
    type: Literal["error"] = "error"
    data: Problem


class GoneFrame(_Frame):
    type: Literal["session.deleted"] = "session.deleted"
    data: Gone = Gone()


ServerFrame = Annotated[
    HelloFrame
    | SnapshotFrame
    | EventFrame
    | ResyncFrame
    | RevealedFrame
    | DeltaFrame
    | PresenceFrame
    | AckFrame
    | ErrorFrame
    | GoneFrame,
    Field(discriminator="type"),
]


class CommandFrame(BaseModel):
    """What a client sends: a command under an id of its own choice, by which repeating it does no harm."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    type: Literal["command"] = "command"
    cid: str = Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")
    data: Command


class PingFrame(BaseModel):
    """Asks whether the server is there; answered by ``ack``. For clients without websocket pings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    type: Literal["ping"] = "ping"
    cid: str = Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")


ClientFrame = Annotated[CommandFrame | PingFrame, Field(discriminator="type")]


def encode_snapshot(session: str, epoch: str, seq: int, snapshot: str) -> str:
    """The frame of a snapshot that is JSON already."""
    return (
        f'{{"v":{VERSION},"type":"session.snapshot","seq":{seq},"epoch":{json.dumps(epoch)},'
        f'"id":"{epoch}:{seq}","ts":"{datetime.now(UTC).isoformat()}","session":{json.dumps(session)},'
        f'"data":{snapshot}}}'
    )


def encode_event(recorded: Recorded, *, masked: bool = False) -> str:
    """An event's frame as JSON; each is encoded once for all who watch."""
    mask = ',"masked":true' if masked else ""
    return (
        f'{{"v":{VERSION},"type":"event","seq":{recorded.seq},"epoch":{json.dumps(recorded.epoch)},'
        f'"id":"{recorded.epoch}:{recorded.seq}","ts":"{recorded.time.isoformat()}",'
        f'"session":{json.dumps(recorded.session)},"data":{{"event":{dump(recorded.event)}{mask}}}}}'
    )

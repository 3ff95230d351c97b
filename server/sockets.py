"""The live websocket: one connection to one session, and what it is sent.

It forgets nothing, and holds up nobody.

Every event is sent in the order of the log, once, from the place that the client names; or the client is
told to begin anew from a snapshot. A client that reads too slowly is closed, and resumes by seq.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Literal

import structlog
from fastapi import APIRouter, WebSocket
from starlette.types import Send
from starlette.websockets import WebSocketDisconnect

from sandbox.errors import SessionError, UserError
from sandbox.store import queries, sessions
from sandbox.store.tables import SessionRow
from sandbox.text import storable
from server.admission import Since, admitted, since_of, turn_away
from server.auth import Forbidden, Identity, TooMany, Unauthorized
from server.blinding import Blinder
from server.deps import seen_by, services_of
from server.hearing import Hearer
from server.hub import Channel, Entry, Listener, tells_ratings
from server.presence import announce
from server.services import Services
from server.stepping import the_rest
from server.telling import Teller
from server.wire import frames as fr
from server.wire.snapshot import Snapshot

log = structlog.get_logger("sandbox.sockets")
router = APIRouter()
_PAGE = 500


_CODES: dict[str, int] = {
    "slow": fr.Close.TOO_SLOW,
    "deleted": fr.Close.DELETED,
    "changed": fr.Close.CHANGED,
    "expired": fr.Close.UNAUTHORIZED,
    "too_large": 1009,
    "failed": 1011,
}
"""The code to close with, by why a listener was closed."""


@router.websocket("/api/v1/sessions/{session}/live")
async def live(socket: WebSocket, session: str, since: str | None = None, person: str | None = None) -> None:
    """Watch a session and act in it. See ``docs/live-protocol.md``."""
    services = services_of(socket)
    try:
        who, protocol = await admitted(socket, services, session)
        row = await asyncio.to_thread(sessions.find, services.store.database, storable(session))
        if row.key != session:
            raise SessionError(f"There is no session '{session}'.")
        name = seen_by(socket, who, person)
        place = since_of(since)
    except Unauthorized as error:
        await turn_away(socket, fr.Close.UNAUTHORIZED, str(error))
        return
    except TooMany as error:
        await turn_away(socket, fr.Close.TOO_MANY, str(error))
        return
    except SessionError as error:
        await turn_away(socket, fr.Close.NOT_FOUND, str(error))
        return
    except Forbidden as error:
        await turn_away(socket, fr.Close.FORBIDDEN, str(error))
        return
    except UserError as error:
        await turn_away(socket, fr.Close.INVALID, str(error))
        return
    await socket.accept(subprotocol=protocol)
    await Connection(socket, services, row, who, name).serve(place)


class Connection:
    """One client. Two tasks: one sends what there is, one takes what comes."""

    _channel: Channel
    _listener: Listener

    def __init__(
        self, socket: WebSocket, services: Services, row: SessionRow, who: Identity, person: str | None
    ) -> None:
        self._socket = socket
        self._services = services
        self._row = row
        self._key = row.key
        self._who = who
        self._person = person
        self._sent = 0
        self._send_raw: Send = socket._send
        self._wake = asyncio.Event()
        self._is_idle = False
        self._greeted = asyncio.Event()
        self._unfinished: Awaitable[None] | None = None
        self._teller = Teller(socket, row, services.redact)
        self._blinder = Blinder(services.store, row.key, person) if services.server.blind and person else None

    async def serve(self, since: Since | None) -> None:
        """Until either side has had enough."""
        if self._blinder:  # as of where the client is, so that what is rated since is revealed
            at = since.seq if since is not None and since.epoch == self._row.epoch else None
            await self._blinder.load(at)
        channel = self._services.runs.channel(self._row)
        listener = channel.join(self._person, self._who.secret, self._deliver)
        self._channel, self._listener = channel, listener
        announce(channel, self._row.epoch)
        log.info("socket_opened", session=self._key, person=self._person)
        sender = asyncio.create_task(self._send_all(since))
        hearer = Hearer(self._socket, self._services, self._teller, self._who, self._person)
        receiver = asyncio.create_task(self._hear(hearer))
        try:
            await asyncio.wait({sender, receiver, listener.ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            channel.leave(listener)
            announce(channel, self._row.epoch)
            tasks = (sender, receiver, *hearer.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(listener.closing, sender)

    async def _hear(self, hearer: Hearer) -> None:
        await self._greeted.wait()  # the hello comes first, whatever was sent before it
        if why := await hearer.hear():
            self._listener.close(why)

    async def _close(self, why: str | None, sender: asyncio.Task[None]) -> None:
        failed = None if sender.cancelled() else sender.exception()
        if isinstance(failed, WebSocketDisconnect | RuntimeError):  # the client has left
            failed = None
        if failed is not None:
            log.error("sending_failed", session=self._key, error=self._services.redact(repr(failed)))
        if why == "deleted":
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                await asyncio.wait_for(self._teller.send(fr.GoneFrame(**self._teller.head())), 1)
        number = int(_CODES.get(why or ("failed" if failed is not None else ""), 1000))
        log.info("socket_closed", session=self._key, person=self._person, code=number)
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # a stalled client takes no farewell
            await asyncio.wait_for(self._socket.close(number, fr.CLOSE_CODES.get(number, "")[:120]), 1)

    async def _send_all(self, since: Since | None) -> None:
        """Greet, then send what there is, whenever sending at once does not do."""
        channel, listener = self._channel, self._listener
        await self._greet(since)
        while not listener.closing:
            if self._unfinished is not None:
                unfinished, self._unfinished = self._unfinished, None
                await unfinished
            entries = channel.take(listener)
            if entries is None:  # it fell behind what is held
                await self._send_stored(channel.head)
                continue
            if entries:
                await self._send_entries(entries)
                continue
            self._wake.clear()
            self._is_idle = True
            await self._wake.wait()
            self._is_idle = False

    async def _send_entries(self, entries: list[Entry]) -> None:
        for entry in entries:
            if self._listener.closing:
                return
            recorded = entry.recorded
            if recorded is None:
                await self._socket.send_text(entry.text)
                continue
            if recorded.seq <= self._sent:
                continue
            if recorded.seq != self._sent + 1:
                await self._send_stored(recorded.seq - 1)
            await self._socket.send_text(entry.text if self._blinder is None else await self._shown(entry))
            self._sent = recorded.seq

    def _deliver(self) -> None:
        """Send at once what can be sent without waiting, and leave the rest to ``_send_all``.

        A task a frame and connection would cost more than the frame.
        """
        if not self._is_idle:
            return
        channel, listener = self._channel, self._listener
        entries = channel.take(listener, 16)
        for place, entry in enumerate(entries or ()):
            recorded = entry.recorded
            if recorded is not None:
                if recorded.seq <= self._sent:
                    continue
                if recorded.seq != self._sent + 1 or self._blinder is not None:
                    listener.order -= len(entries or ()) - place
                    break
                self._sent = recorded.seq
            if not self._send_now(entry.text):
                listener.order -= len(entries or ()) - place - 1
                break
        else:
            if entries is not None and listener.order == channel.end:
                return
        self._is_idle = False
        if entries is None:
            listener.order = -1  # so that the other sees it as well
        self._wake.set()

    def _send_now(self, text: str) -> bool:
        """Begin to send; whether that was all. What is left is finished by ``_send_all``."""
        sending = self._send_raw({"type": "websocket.send", "text": text})
        try:
            waits_for = sending.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return True
        except (OSError, RuntimeError):  # the client has left; the sender's task will find out
            return False
        self._unfinished = the_rest(sending, waits_for)
        return False

    async def _shown(self, entry: Entry) -> str:
        """A rating as this person may see it; what it reveals is sent before it."""
        if not tells_ratings(entry) or self._blinder is None or entry.recorded is None:
            return entry.text
        if self._blinder.hides(entry.recorded.event):
            return self._blinder.frame(entry.recorded)
        if target := self._blinder.reveals(entry.recorded.event):
            ratings = tuple(await self._blinder.revealed(target))
            await self._teller.send(
                fr.RevealedFrame(**self._teller.head(), data=fr.Revealed(ratings=ratings))
            )
        return entry.text

    async def _greet(self, since: Since | None) -> None:
        head = await asyncio.to_thread(queries.head, self._services.store.database, self._key)
        hello = fr.Hello(
            head=head,
            heartbeat_s=self._services.server.heartbeat_s,
            max_frame_bytes=self._services.server.max_frame_bytes,
            max_lag=self._services.server.max_lag,
            person=self._person,
            scopes=tuple(sorted(self._who.scopes)),
            blind=self._blinder is not None,
        )
        await self._teller.send(fr.HelloFrame(**self._teller.head(), data=hello))
        self._greeted.set()
        if since is None and self._blinder is None:
            self._sent, text = await self._services.glances.encoded(self._key)
            await self._socket.send_text(fr.encode_snapshot(self._key, self._row.epoch, self._sent, text))
            return
        if since is None:
            view = await self._snapshot()
            self._sent = view.seq
            await self._teller.send(fr.SnapshotFrame(**self._teller.head(view.seq), data=view))
            return
        reason: Literal["epoch", "too_old", "ahead"] | None = None
        if since.epoch != self._row.epoch:
            reason = "epoch"
        elif since.seq > head:
            reason = "ahead"
        elif head - since.seq > 20 * self._services.server.max_lag:
            reason = "too_old"
        if reason is not None:
            if self._blinder:
                await self._blinder.load()
            view = await self._snapshot()
            self._sent = view.seq
            await self._teller.send(
                fr.ResyncFrame(**self._teller.head(view.seq), data=fr.Resync(reason=reason, snapshot=view))
            )
            return
        self._sent = since.seq
        await self._send_stored(head)

    async def _send_stored(self, until: int) -> None:
        """Send from the log what the channel does not hold."""
        while self._sent < until:
            found = await asyncio.to_thread(
                queries.events, self._services.store.database, self._key, self._sent, _PAGE
            )
            if not found:
                return
            for recorded in found:
                if recorded.seq > until:
                    return
                entry = Entry(fr.encode_event(recorded), recorded)
                await self._socket.send_text(await self._shown(entry))
                self._sent = recorded.seq

    async def _snapshot(self) -> Snapshot:
        view = await self._services.glances.of(self._key)
        return self._blinder.snapshot(view) if self._blinder else view

"""What one connection sends: frames are read, commands begun, and each is answered under its id."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import structlog
from fastapi import WebSocket
from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocketDisconnect

from sandbox.errors import SandboxError, StoreError
from sandbox.text import storable, storable_in
from server.auth import Forbidden, Identity, TooMany, Unauthorized
from server.deps import person_of
from server.errors import away, said
from server.rights import scope_of
from server.services import Services
from server.telling import Teller
from server.wire import frames as fr

log = structlog.get_logger("sandbox.sockets")
CLIENT_FRAME: TypeAdapter[fr.CommandFrame | fr.PingFrame] = TypeAdapter(fr.ClientFrame)
_AT_ONCE = 32
"""Commands of one connection under way at the same time; more wait their turn."""


class Hearer:
    """See the module. ``tasks`` are the commands under way, to be cancelled when the connection ends."""

    def __init__(
        self, socket: WebSocket, services: Services, teller: Teller, who: Identity, person: str | None
    ) -> None:
        self._socket = socket
        self._services = services
        self._teller = teller
        self._who = who
        self._person = person
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._order = asyncio.Lock()
        self.tasks: set[asyncio.Task[None]] = set()

    async def hear(self) -> str | None:
        """Take what comes, until the client leaves, or has to; then why, for its listener."""
        most = self._services.server.max_frame_bytes
        while True:
            try:
                message = await self._socket.receive()
            except RuntimeError:
                return None
            if message["type"] == "websocket.disconnect":
                return None
            text = message.get("text")
            if text is None:
                await self._teller.problem(None, "invalid", "Send text frames with JSON.")
                continue
            if len(text) > most or len(text.encode("utf-8", "replace")) > most:
                await self._teller.problem(
                    None, "too_large", f"A frame may have {most:,} bytes. Send less at once."
                )
                return "too_large"
            try:
                frame = CLIENT_FRAME.validate_json(_whole(text))
            except ValidationError as error:
                await self._teller.problem(_cid_in(text), "invalid", said(error))
                continue
            except RecursionError:
                await self._teller.problem(None, "invalid", "The frame is nested too deeply.")
                continue
            if isinstance(frame, fr.PingFrame):
                await self._teller.send(fr.AckFrame(**self._teller.head(), data=fr.Ack(ref=frame.cid)))
                continue
            await self._slots.acquire()
            task = asyncio.create_task(self._command(frame))
            self.tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._slots.release()

    async def _command(self, frame: fr.CommandFrame) -> None:
        services = self._services
        try:
            who = await self._still()
            services.keys.count(who)
            who.check(scope_of(frame.data), self._teller.key)
            who.check_budget()
            person = self._person or person_of(self._socket, who)
            result = await services.runs.submit(
                self._teller.key, who, person, frame.cid, frame.data, self._order
            )
        except TooMany as error:
            await self._teller.problem(frame.cid, "too_many", str(error))
            return
        except (Unauthorized, Forbidden) as error:
            await self._teller.problem(frame.cid, "forbidden", str(error))
            return
        except StoreError as error:
            await self._teller.problem(frame.cid, "unavailable", away(error))
            return
        except SandboxError as error:
            await self._teller.problem(frame.cid, "refused", services.redact(str(error)))
            return
        except Exception:  # a fault of ours; who waits is told
            log.exception("command_failed", session=self._teller.key, kind=frame.data.do)
            await self._teller.problem(frame.cid, "internal", "The server failed. Its log says more.")
            return
        if result.code is not None:
            await self._teller.problem(frame.cid, result.code, result.message)
            return
        done = fr.Ack(ref=frame.cid, interaction=result.interaction)
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._teller.send(fr.AckFrame(**self._teller.head(), data=done))

    async def _still(self) -> Identity:
        """Who it is now: a key may be revoked or spent while its socket is open."""
        if self._who.key is None:
            return self._who
        return await asyncio.to_thread(self._services.keys.renewed, self._who)


def _whole(text: str) -> str:
    """A frame in which half characters (unpaired surrogates) are U+FFFD; as it is, if it is no JSON."""
    if "\\ud" not in text.lower():
        return text
    try:
        return json.dumps(storable_in(json.loads(text)))
    except ValueError:
        return text


def _cid_in(text: str) -> str | None:
    """The id of a frame that can't be read, as far as it can be found."""
    try:
        cid = json.loads(text).get("cid")
    except (ValueError, AttributeError, RecursionError):
        return None
    return storable(cid)[:64] if isinstance(cid, str) else None

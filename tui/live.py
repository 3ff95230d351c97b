"""The live connection to one session: it reconnects by itself, resumes by seq, and loses no command.

No Textual in it. Frames come in the order of the log, once; in between it says when the server is gone and
when it is back. A command that could not be sent, or was not answered before the connection went, is sent
again under the same id when it is back: the server carries it out once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit, urlunsplit
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from server.wire import commands as do
from server.wire import frames as fr
from tui.api import Refused

FRAME: TypeAdapter[fr.ServerFrame] = TypeAdapter(fr.ServerFrame)
_FIRST_WAIT_S = 0.25
_MOST_WAIT_S = 15.0
_FINAL = frozenset(
    int(code)
    for code in (
        fr.Close.INVALID,
        fr.Close.UNAUTHORIZED,
        fr.Close.FORBIDDEN,
        fr.Close.NOT_FOUND,
        fr.Close.DELETED,
    )
)
"""Codes after which connecting again is no use."""
_PASSING = frozenset({"busy", "unavailable", "too_many"})
"""What a server says that will carry a command out later."""
_AGAIN_S = 2.0
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connected:
    """The server is there (again)."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone; the next try is in ``wait_s`` seconds."""

    why: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is gone for good, and why."""

    code: int
    why: str


Item = fr.ServerFrame | Connected | Lost | Ended


@dataclass(slots=True)
class _Pending:
    text: str
    answer: asyncio.Future[fr.Ack]
    is_sent: bool = False


class Live:
    """See the module. ``items`` is read once, by one task; ``send`` may be called by any."""

    def __init__(
        self, base: str, session: str, headers: dict[str, str] | None = None, person: str | None = None
    ) -> None:
        self._url = _url(base, session)
        self._headers = headers or {}
        self._person = person
        self._since: str | None = None
        self._socket: ClientConnection | None = None
        self._pending: dict[str, _Pending] = {}
        self._again = asyncio.Event()
        self._ended: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the server is there just now."""
        return self._socket is not None

    @property
    def unanswered(self) -> int:
        """Commands that the server has not answered yet."""
        return len(self._pending)

    def close(self) -> None:
        """It is over: what has not been answered is refused."""
        self._give_up("The connection was closed before the server answered.")

    def hurry(self) -> None:
        """Try to connect now, and wait no longer."""
        self._again.set()

    async def items(self) -> AsyncGenerator[Item, None]:
        """What comes, until it is over for good."""
        failures = 0
        while True:
            ended: Ended | None = None
            why = ""
            try:
                async with connect(
                    self._address(),
                    additional_headers=self._headers,
                    subprotocols=[fr.SUBPROTOCOL],  # type: ignore[list-item]
                    max_size=_MAX_BYTES,
                    open_timeout=10,
                    ping_interval=20,
                    ping_timeout=40,
                    compression=None,
                    proxy=None,
                ) as socket:
                    async for item in self._frames(socket):
                        if isinstance(item, fr.HelloFrame):
                            failures = 0
                            yield Connected()
                        yield item
                why = "The server closed the connection."
            except ConnectionClosed as error:
                code = error.rcvd.code if error.rcvd else 1006
                why = (error.rcvd.reason if error.rcvd else "") or "The connection broke."
                if code in _FINAL:
                    ended = Ended(code, why)
            except (InvalidURI, ValueError) as error:
                ended = Ended(0, f"That is no address of a server: {error}.")
            except (OSError, InvalidHandshake, TimeoutError) as error:
                why = f"The server can't be reached: {str(error) or type(error).__name__}."
            finally:
                self._socket = None
                for pending in self._pending.values():
                    pending.is_sent = False
            if ended is not None:
                self._give_up(ended.why)
                yield ended
                return
            failures += 1
            wait = random.uniform(0, min(_FIRST_WAIT_S * 2 ** min(failures, 10), _MOST_WAIT_S))
            yield Lost(why, wait)
            self._again.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), wait)

    async def send(self, command: do.Command) -> fr.Ack:
        """Have a command carried out; returns when it is on record, however long the server is away.

        Raises ``Refused`` if the server will not, or can't be come back to.
        """
        if self._ended is not None:
            raise Refused("gone", self._ended)
        cid = uuid4().hex
        frame = fr.CommandFrame(cid=cid, data=command)
        answer: asyncio.Future[fr.Ack] = asyncio.get_running_loop().create_future()
        pending = self._pending[cid] = _Pending(frame.model_dump_json(exclude_none=True), answer)
        try:
            await self._flush()
            return await answer
        finally:
            self._pending.pop(cid, None)
            del pending

    async def _frames(self, socket: ClientConnection) -> AsyncIterator[fr.ServerFrame]:
        async for text in socket:
            try:
                frame = FRAME.validate_json(text)
            except ValidationError:
                continue  # a type of frame, or of event, that this version does not know
            match frame:
                case fr.HelloFrame():
                    self._socket = socket
                    await self._flush()
                case fr.SnapshotFrame() | fr.ResyncFrame() | fr.EventFrame():
                    self._since = frame.id
                case fr.AckFrame(data=ack):
                    self._settle(ack.ref, ack)
                case fr.ErrorFrame(data=problem) if problem.ref:
                    self._settle(problem.ref, problem)
                case _:
                    pass
            yield frame

    async def _flush(self) -> None:
        """Send what waits. What the connection breaks over waits for the next one."""
        socket = self._socket
        if socket is None:
            return
        for pending in tuple(self._pending.values()):
            if not pending.is_sent:
                pending.is_sent = True
                try:
                    await socket.send(pending.text)
                except ConnectionClosed:
                    pending.is_sent = False
                    return

    def _settle(self, cid: str, result: fr.Ack | fr.Problem) -> None:
        pending = self._pending.get(cid)
        if pending is None:
            return
        if isinstance(result, fr.Problem) and result.code in _PASSING:
            pending.is_sent = False  # it is kept: sent again under its id, it is carried out once
            asyncio.get_running_loop().call_later(_AGAIN_S, self._send_again)
            return
        del self._pending[cid]
        if pending.answer.done():
            return
        if isinstance(result, fr.Ack):
            pending.answer.set_result(result)
        else:
            pending.answer.set_exception(Refused(result.code, result.message))

    def _send_again(self) -> None:
        self._sending = asyncio.ensure_future(self._flush())

    def _give_up(self, why: str) -> None:
        self._ended = why
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(Refused("gone", why))
        self._pending.clear()

    def _address(self) -> str:
        query = {"since": self._since, "person": self._person}
        given = urlencode({name: value for name, value in query.items() if value})
        return f"{self._url}?{given}" if given else self._url


def _url(base: str, session: str) -> str:
    parts = urlsplit(base.rstrip("/"))
    scheme = "wss" if parts.scheme == "https" else "ws"
    path = f"{parts.path}/api/v1/sessions/{quote(session, safe='')}/live"
    return urlunsplit((scheme, parts.netloc, path, "", ""))

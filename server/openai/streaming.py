"""Server-sent events for text on its way, and the end of work that nobody waits for any more.

No ``id:`` lines and no comments: clients of the API know neither. While nothing comes, the format's own
empty event keeps the connection alive. What fails before the first piece is answered with its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandbox.errors import SandboxError
from server.openai.errors import error_response
from server.openai.speaking import Emit, Piece, Speak, Spoken

log = structlog.get_logger("sandbox.openai")
IDLE_S = 10.0
"""For how long a stream may be silent."""
T = TypeVar("T")
Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Format(Protocol):
    """How one endpoint tells a stream; every method returns whole events."""

    def start(self) -> Iterable[str]:
        """Before the first piece."""
        ...

    def piece(self, piece: Piece) -> Iterable[str]:
        """For each piece."""
        ...

    def idle(self) -> Iterable[str]:
        """While nothing comes."""
        ...

    def end(self, spoken: Spoken) -> Iterable[str]:
        """After the last piece."""
        ...

    def failed(self, error: Exception) -> Iterable[str]:
        """When it breaks off."""
        ...


class Streamed(Response):
    """Speaks while it is sent. Who goes away ends it, and the model call with it."""

    media_type = "text/event-stream"

    def __init__(self, speak: Speak, form: Format, idle_s: float | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = list(Headers)
        self._speak = speak
        self._form = form
        self._idle = idle_s or IDLE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        gone = asyncio.create_task(_disconnected(receive))
        sending = asyncio.create_task(self._send(scope, receive, send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except OSError:
            log.info("client_gone", path=scope["path"])
        finally:
            await _end(gone, sending)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        work = asyncio.create_task(_run(self._speak, pieces.put_nowait))
        work.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            next = await self._next(pieces)
            if next is None and (error := _failure(work)):
                await error_response(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _tell(send, self._form.start())
            while next is not None:
                await _tell(send, self._form.idle() if isinstance(next, _Silence) else self._form.piece(next))
                next = await self._next(pieces)
            error = _failure(work)
            await _tell(send, self._form.failed(error) if error else self._form.end(work.result()))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _end(work)

    async def _next(self, pieces: asyncio.Queue[Piece | None]) -> Piece | _Silence | None:
        """The next piece; None at the end."""
        try:
            return await asyncio.wait_for(pieces.get(), self._idle)
        except TimeoutError:
            return _Silence()


class _Silence:
    """Nothing has come for a while."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` while somebody waits for it; it is cancelled when they go. Raises ``ClientGone`` then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await _end(task, gone)


def failure_of(error: BaseException) -> Exception:
    """An error as it is told; what was not made on purpose is logged, as the client is not told of it."""
    if isinstance(error, SandboxError | RequestValidationError | HTTPException):
        return error
    log.error("failed", exc_info=error)
    return RuntimeError("failed")


async def all_or_none(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of works done at once. The first failure ends the others, and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _end(*tasks)


async def _run(speak: Speak, emit: Emit) -> Spoken:
    return await speak(emit)


async def _tell(send: Send, events: Iterable[str]) -> None:
    body = "".join(events).encode("utf-8", "replace")
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _failure(work: asyncio.Task[Spoken]) -> Exception | None:
    if not work.done():
        return None
    error = work.exception()
    return failure_of(error) if error else None


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still goes on, and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # has been raised, or belongs to somebody who is gone

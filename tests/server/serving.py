"""A real server on loopback, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from sandbox.redaction import Redactor
from sandbox.settings import Settings
from server.app import create_app
from server.settings import ServerSettings

QUICK: dict[str, Any] = {"scan_s": 0.2, "delta_interval_s": 0.01, "per_minute": 1_000_000}


def app_in(folder: Path, database: str | None = None, *, keyless: bool = True, **server: Any) -> FastAPI:
    """The application, with all it keeps in a folder."""
    settings = Settings(data_dir=folder, cache_dir=folder / "cache", db=database or str(folder / "server.db"))
    return create_app(settings, ServerSettings(**{**QUICK, **server}), Redactor(), keyless=keyless)


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an application until the end of the block; yields its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_config=None,
        ws="websockets-sansio",
        ws_max_size=256 * 1024,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=3,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def create(client: httpx.Client, **body: Any) -> str:
    """A new session; its key."""
    wanted = {"example": "scripted", "seats": "3x3", "rounds": 2, **body}
    response = client.post("/api/v1/sessions", json=wanted)
    assert response.status_code == 201, response.text
    return str(response.json()["session"])


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What ``condition`` returns, once that is true."""
    for _ in range(int(seconds / 0.02)):
        if found := condition():
            return found
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to be in time")


def status(client: httpx.Client, session: str) -> str:
    """Where a session stands."""
    return str(client.get(f"/api/v1/sessions/{session}").json()["status"])


class Live:
    """A client of the live protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self._passed: deque[dict[str, Any]] = deque()

    async def _receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.connection.recv())
        self.frames.append(frame)
        return frame

    async def next(self, kind: str | None = None, seconds: float = 20) -> dict[str, Any]:
        """The next frame (of a kind)."""
        async with asyncio.timeout(seconds):
            while True:
                frame = self._passed.popleft() if self._passed else await self._receive()
                if kind is None or frame["type"] == kind:
                    return frame

    async def event(self, kind: str, seconds: float = 20) -> dict[str, Any]:
        """The next event of a type."""
        while True:
            frame = await self.next("event", seconds)
            if frame["data"]["event"]["type"] == kind:
                event: dict[str, Any] = frame["data"]["event"]
                return event

    async def command(self, cid: str, **data: Any) -> dict[str, Any]:
        """Send a command; the ack or error that answers it. What comes before it can still be read."""
        await self.connection.send(json.dumps({"v": 1, "type": "command", "cid": cid, "data": data}))
        async with asyncio.timeout(20):
            while True:
                frame = await self._receive()
                if frame["type"] in ("ack", "error") and frame["data"]["ref"] == cid:
                    return frame
                self._passed.append(frame)


def live(base: str, session: str, since: str | None = None, **options: Any) -> Any:
    """Connect to a session; an async context manager of the ``websockets`` connection."""
    query = "&".join(f"{key}={value}" for key, value in {"since": since, **options.pop("query", {})}.items() if value)
    url = f"{base.replace('http', 'ws', 1)}/api/v1/sessions/{session}/live?{query}"
    return connect(url, **options)

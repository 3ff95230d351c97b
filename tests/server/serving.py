"""A real server on loopback, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
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
from server.cli import uvicorn_options
from server.settings import ServerSettings

SERVE = "import sys; from sandbox.cli import main; main(sys.argv[1:])"
FRIEND = "https://friend.example"
"""An origin whose pages may call the server."""
QUICK: dict[str, Any] = {
    "scan_s": 0.2,
    "delta_interval_s": 0.01,
    "per_minute": 1_000_000,
    "tries_per_minute": 1_000_000,
}


def app_in(folder: Path, database: str | None = None, *, keyless: bool = True, **server: Any) -> FastAPI:
    """The application, with all it keeps in a folder."""
    settings = Settings(data_dir=folder, cache_dir=folder / "cache", db=database or str(folder / "server.db"))
    return create_app(settings, ServerSettings(**{**QUICK, **server}), Redactor(), keyless=keyless)


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an application until the end of the block; yields its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    options = {**uvicorn_options(ServerSettings()), "timeout_graceful_shutdown": 3, "lifespan": "on"}
    config = uvicorn.Config(app, **options)
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


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What ``condition`` returns, once that is true."""
    for _ in range(int(seconds / 0.02)):
        if found := condition():
            return found
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to be in time")


def status(client: httpx.Client, session: str) -> str:
    """Where a session stands."""
    return str(client.get(f"/api/v1/sessions/{session}").json()["status"])


class Server:
    """A process of ``sandbox serve``, with its log in a file."""

    def __init__(
        self, database: str, folder: Path, number: int = 1, options: tuple[str, ...] = (), **settings: str
    ) -> None:
        self.log = (folder / f"server-{number}.log").open("w")
        self.port = _free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", SERVE, "serve", "scripted", "--db", database),
                *("--port", str(self.port), *options),
            ],
            env={
                **os.environ,
                "SANDBOX_DATA_DIR": str(folder),
                "SANDBOX_SERVER_PER_MINUTE": "1000000",
                **{f"SANDBOX_SERVER_{name.upper()}": value for name, value in settings.items()},
            },
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.base = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.base, timeout=60)

    def said(self) -> str:
        """What it has written so far."""
        return Path(self.log.name).read_text()

    def ready(self) -> bool:
        assert self.process.poll() is None, Path(self.log.name).read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(90)
        self.client.close()
        self.log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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

    async def next(self, kind: str | None = None, seconds: float = 60) -> dict[str, Any]:
        """The next frame (of a kind)."""
        async with asyncio.timeout(seconds):
            while True:
                frame = self._passed.popleft() if self._passed else await self._receive()
                if kind is None or frame["type"] == kind:
                    return frame

    async def event(self, kind: str, seconds: float = 60) -> dict[str, Any]:
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
    query = "&".join(
        f"{key}={value}" for key, value in {"since": since, **options.pop("query", {})}.items() if value
    )
    url = f"{base.replace('http', 'ws', 1)}/api/v1/sessions/{session}/live?{query}"
    return connect(url, **options)


def said_to(base: str, request: str) -> bytes:
    """The answer to a request sent as it is; its head ends with ``Connection: close``."""
    with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2]))) as raw:
        raw.settimeout(20)
        raw.sendall(f"{request}Connection: close\r\n\r\n".encode())
        return raw.makefile("rb").read()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])

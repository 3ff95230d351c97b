"""The servers that ``benchmarks.fanout`` measures, each in a process of its own: ours, and two bare ones.

Both bare ones send every text that one client sends to all clients, and do nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect


def bare_websockets(port: int) -> None:
    """``websockets`` alone, with its own broadcast."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    clients: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        clients.add(connection)
        try:
            async for text in connection:
                broadcast(clients, text)
        finally:
            clients.discard(connection)

    async def run() -> None:
        async with serve(handle, "127.0.0.1", port, compression=None) as server:
            await server.serve_forever()

    asyncio.run(run())


def bare_fastapi(port: int) -> None:
    """FastAPI alone: a loop over the sockets."""
    app = FastAPI()
    clients: set[WebSocket] = set()

    @app.websocket("/ws")
    async def handle(socket: WebSocket) -> None:
        await socket.accept()
        clients.add(socket)
        try:
            while True:
                text = await socket.receive_text()
                for client in tuple(clients):
                    await client.send_text(text)
        except WebSocketDisconnect:
            pass
        finally:
            clients.discard(socket)

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="error",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )


def ours(port: int, folder: str) -> None:
    """``sandbox serve``, with the log on a SQLite file."""
    from sandbox.settings import Settings
    from server.cli import run_server
    from server.settings import ServerSettings

    settings = Settings(data_dir=Path(folder), cache_dir=Path(folder))
    server = ServerSettings(port=port, keyless=True, per_minute=10_000_000, log_level="error")
    run_server(settings, server)


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "ours":
        ours(port, sys.argv[3])
    else:
        {"websockets": bare_websockets, "fastapi": bare_fastapi}[kind](port)

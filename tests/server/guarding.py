"""A server that needs keys, and its store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from serving import app_in, live, serve
from websockets.exceptions import ConnectionClosed

from sandbox.running import Store
from server import invitations
from server.auth import Keys
from server.wire.views import CreateInvite, CreateKey, NewKey, Scope


class Guarded:
    """A server that needs keys, running."""

    def __init__(self, folder: Path, base: str, keys: Keys) -> None:
        self.path = folder / "server.db"
        self.base = base
        self.keys = keys
        self.admin = self.client(self.key("admin").key)

    def key(self, *scopes: Scope, **more: Any) -> NewKey:
        return self.keys.create(CreateKey(name="test", scopes=scopes, **more))

    def client(self, key: str | None, **headers: str) -> httpx.Client:
        own = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.base, headers={**own, **headers}, timeout=30)

    def live(self, session: str, key: str | None, **options: Any) -> Any:
        own = {"Authorization": f"Bearer {key}"} if key else {}
        return live(self.base, session, additional_headers=own, **options)

    def invited(self, session: str, **wanted: Any) -> str:
        return invitations.invite(self.keys.database, session, CreateInvite(**wanted)).ticket


@contextmanager
def guard(folder: Path, **server: Any) -> Iterator[Guarded]:
    store = Store.open(str(folder / "server.db"))
    try:
        keys = Keys(store.database, required=True, per_minute=1_000_000)
        with serve(app_in(folder, keyless=False, **server)) as base:
            guarded = Guarded(folder, base, keys)
            yield guarded
            guarded.admin.close()
    finally:
        store.close()


async def closed_with(connection: Any, seconds: float = 60) -> int:
    """The code that the server closes a connection with."""
    async with asyncio.timeout(seconds):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return int(closed.rcvd.code)

"""Served societies for the tests of the OpenAI-compatible API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI
from serving import app_in, serve
from support import small_society

from sandbox.running import Store
from sandbox.society import Agent, Society
from sandbox.store import sessions

HELLO = [{"role": "user", "content": "Is it right?"}]


class Served(NamedTuple):
    """A server whose own session is ``session``."""

    url: str
    session: str
    app: FastAPI

    def client(self, key: str = "any", **headers: str) -> httpx.Client:
        """A plain client of it."""
        return httpx.Client(
            base_url=f"{self.url}/v1", headers={"authorization": f"Bearer {key}", **headers}, timeout=30
        )


def society(*models: str, **changes: Any) -> Society:
    """A small society whose first seats speak through ``models``."""
    plain = small_society(**changes)
    agents = tuple(
        Agent(
            **{
                **agent.model_dump(),
                "model": models[agent.place] if agent.place < len(models) else agent.model,
            }
        )
        for agent in plain.agents
    )
    return small_society(**{"agents": agents, **changes})


@contextmanager
def served(folder: Path, *societies: Society, keyless: bool = True, **server: Any) -> Iterator[Served]:
    """A server with sessions of societies; the first is its own."""
    store = Store.open(str(folder / "server.db"))
    keys = [sessions.create(store.database, store.log, one, lease=False).key for one in societies]
    store.close()
    app = app_in(folder, keyless=keyless, session=keys[0], **server)
    with serve(app) as url:
        yield Served(url, keys[0], app)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, which must be nothing but data lines and end as the API says."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in response.text.split("\n\n") if block]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


def text_of(events: list[dict[str, Any]]) -> str:
    """What a chat stream said."""
    return "".join(c["delta"].get("content") or "" for event in events for c in event["choices"])


def ask(client: httpx.Client, model: str = "sandbox/S0", **body: Any) -> httpx.Response:
    """A question to a model, off the record."""
    return client.post("/chat/completions", json={"model": model, "messages": HELLO, **body})


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in an answer, which has OpenAI's shape."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error

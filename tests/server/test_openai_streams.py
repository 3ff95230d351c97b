"""Streams of the OpenAI-compatible API: their form, their end, and clients that go away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai_serving import HELLO, Served, ask, chunks, error_of, served, society, text_of

from sandbox.exchange import Reply, Request
from sandbox.models.scripted import ScriptedModel
from server.openai import streaming


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = society("scripted/steady", "scripted/echo", "scripted/steady?fail=rate_limited&step=answer")
    other = society(name="other")
    with served(tmp_path_factory.mktemp("openai"), one, other) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_a_stream_is_as_clients_expect_it(client: httpx.Client) -> None:
    whole = ask(client, seed=7).json()["choices"][0]["message"]["content"]
    events = chunks(ask(client, seed=7, stream=True))
    assert len({(event["id"], event["created"], event["object"]) for event in events}) == 1
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in event["choices"][0]["delta"] for event in events[1:])
    assert text_of(events) == whole
    finishes = [event["choices"][0]["finish_reason"] for event in events]
    assert finishes[-1] == "stop"
    assert set(finishes[:-1]) == {None}
    assert all("usage" not in event for event in events)


def test_a_stream_ends_with_its_usage_if_asked(client: httpx.Client) -> None:
    events = chunks(ask(client, stream=True, stream_options={"include_usage": True}))
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] > 0
    assert all(event["usage"] is None for event in events[:-1])


def test_a_silent_stream_is_kept_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "IDLE_S", 0.1)
    with served(tmp_path, society("scripted/steady?latency=700")) as server, server.client() as client:
        events = chunks(ask(client, stream=True))
    assert sum(event["choices"][0]["delta"] == {} for event in events[:-1]) >= 3
    assert text_of(events)


def test_a_society_streams_draft_and_revision(client: httpx.Client) -> None:
    whole = ask(client, "sandbox/society").json()["sandbox"]
    events = chunks(ask(client, "sandbox/society", stream=True))
    assert text_of(events) == f"{whole['draft']}\n\n--- revised ---\n\n{whole['revision']}"
    assert events[-1]["sandbox"]["revision"] == whole["revision"]
    stages = [event["sandbox"]["stage"] for event in events[1:-1]]
    assert list(dict.fromkeys(stages)) == ["draft", "rating", "separator", "revision"]
    rated = [event["sandbox"]["rating"] for event in events[1:-1] if event["sandbox"]["stage"] == "rating"]
    assert len(rated) == len(whole["ratings"])
    short = chunks(ask(client, "sandbox/society", stream=True, sandbox={"draft": False}))
    assert text_of(short) == whole["revision"]


@pytest.mark.parametrize("model", ["sandbox/S0", "sandbox/society"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_frees_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, stream: bool
) -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def endless(self: ScriptedModel, request: Request, on_delta: Any = None) -> Reply:
        import asyncio

        began.set()
        if on_delta:
            on_delta("Well, ")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    monkeypatch.setattr(ScriptedModel, "generate", endless)
    with served(tmp_path, society()) as server, server.client() as client:
        body = {"model": model, "messages": HELLO, "stream": stream}
        if stream:
            with client.stream("POST", "/chat/completions", json=body) as response:
                assert response.status_code == 200
                assert "assistant" in next(response.iter_lines())
        else:
            told = json.dumps(body)
            head = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(told)}\r\n\r\n"
            place = ("127.0.0.1", int(server.url.rpartition(":")[2]))
            with socket.create_connection(place) as raw:
                raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}{told}".encode())
                assert began.wait(60), "it is left when the model is at work, however long that takes"
        assert began.is_set()
        assert cancelled.wait(60)


def test_a_stream_that_breaks_off_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaking(self: ScriptedModel, request: Request, on_delta: Any = None) -> Reply:
        if on_delta:
            on_delta("Well, ")
        raise ValueError("a secret of ours")

    monkeypatch.setattr(ScriptedModel, "generate", breaking)
    with served(tmp_path, society()) as server, server.client() as client:
        events = chunks(ask(client, stream=True))
        assert text_of(events[:-1]) == "Well, "
        assert events[-1]["error"]["type"] == "server_error"
        plain = ask(client)
        assert (plain.status_code, error_of(plain)["type"]) == (500, "server_error")
        assert "secret" not in plain.text

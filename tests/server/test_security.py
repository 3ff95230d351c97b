"""What hostile people and requests must not get: others' names, hidden ratings, faults, keys."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Live, Server, app_in, create, live, serve, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandbox.running import Store
from server import invitations
from server.auth import Keys
from server.wire.views import CreateInvite, CreateKey, Join

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def base(friendly: str) -> str:
    return friendly


# People


EXTRA: tuple[dict[str, Any], ...] = (
    {"person": "Bob"},
    {"rater": "A1"},
    {"seat": "A1"},
    {"role": "draft"},
    {"method": "likelihood"},
    {"usage": {"cost": -5}},
    {"rubric": 9},
    {"unparsed": "refusal"},
    {"actor": "key:1"},
    {"scopes": ["admin"]},
    {"score": 7},
)


@pytest.mark.parametrize("extra", EXTRA, ids=lambda extra: next(iter(extra)))
async def test_nobody_says_who_they_are_or_how_it_came_about(
    base: str, client: httpx.Client, extra: dict[str, Any]
) -> None:
    session = create(client, seats="2x2", rounds=0)
    said = client.post(f"/api/v1/sessions/{session}/messages", json={"text": "Hi", "to": ["A1"]}).json()
    message = f"{said['interaction']}.reply.A1"
    wait_for(lambda: len(client.get(f"/api/v1/sessions/{session}/messages").json()["items"]) == 2)
    rating = {"do": "rate", "message": message, "value": 5}
    async with live(base, session, query={"person": "Ann"}) as connection:
        watcher = Live(connection)
        inside = await watcher.command("1", **rating, **extra)
        assert (inside["type"], inside["data"]["code"]) == ("error", "invalid")
        talked = await watcher.command("2", do="say", text="x", to=["A1"], **{**extra, "extra": 1})
        assert talked["data"]["code"] == "invalid"
        frame = {"v": 1, "type": "command", "cid": "3", "data": rating, **extra}
        await connection.send(json.dumps(frame))
        await connection.send(json.dumps({"v": 1, "type": "ping", "cid": "4"}))
        answers = [await watcher.next("ack"), await watcher.next("ack")]
    assert {answer["data"]["ref"] for answer in answers} == {"3", "4"}, "beside the command it is ignored"
    (row,) = client.get(f"/api/v1/sessions/{session}/ratings").json()["items"]
    assert (row["rater"], row["value"], row["method"], row["unparsed"]) == ("Ann", 5, "human", None)
    for path, body in (
        (f"/api/v1/sessions/{session}/ratings", rating),
        ("/api/v1/sessions", {"example": "scripted"}),
    ):
        plain = {name: value for name, value in body.items() if name != "do"}
        assert client.post(path, json={**plain, **extra}).status_code == 422


@pytest.fixture
def people(tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client, httpx.Client, str]]:
    """An operator, Ann and Bob, each with a key of their own, and their session."""
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1_000_000)
    with serve(app_in(tmp_path, keyless=False)) as base:
        admin = keys.create(CreateKey(name="a", scopes=("admin",))).key

        def client_of(key: str) -> httpx.Client:
            return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30)

        with client_of(admin) as operator:
            session = create(operator, seats="2x2", rounds=1)
            own = [
                invitations.join(
                    store.database,
                    Join(
                        ticket=invitations.invite(store.database, session, CreateInvite(person=name)).ticket
                    ),
                ).key
                for name in ("Ann", "Bob")
            ]
            with client_of(own[0]) as ann, client_of(own[1]) as bob:
                yield operator, ann, bob, f"/api/v1/sessions/{session}"
    store.close()


def test_nobody_rates_their_own_or_answers_for_somebody_else(
    people: tuple[httpx.Client, httpx.Client, httpx.Client, str],
) -> None:
    operator, ann, bob, at = people
    said = ann.post(f"{at}/messages", json={"text": "Hello", "to": ["B1"]}).json()["interaction"]
    wait_for(lambda: len(operator.get(f"{at}/messages").json()["items"]) == 2)
    steps = {
        item["seat"]: f"{said}.{item['step']}" for item in operator.get(f"{at}/messages").json()["items"]
    }
    mine = ann.post(f"{at}/ratings", json={"message": steps["Ann"], "value": 7})
    assert (mine.status_code, "yours" in mine.text) == (409, True)
    headers = {"X-Sandbox-Person": "Bob"}
    still = ann.post(f"{at}/ratings", json={"message": steps["Ann"], "value": 7}, headers=headers)
    assert still.status_code == 409, "under no name"
    assert (
        ann.post(f"{at}/ratings", json={"message": steps["B1"], "value": 7}, headers=headers).status_code
        == 201
    )
    rows = operator.get(f"{at}/ratings").json()["items"]
    assert [(row["rater"], row["method"]) for row in rows] == [("Ann", "human")]
    ann.post(f"{at}/seats/A1/take", json={"absent": "wait"}).raise_for_status()
    for path in ("take", "leave"):
        refused = bob.post(f"{at}/seats/A1/{path}", json={}, headers={"X-Sandbox-Person": "Ann"})
        assert refused.status_code == 409, refused.text
    operator.post(f"{at}/start").raise_for_status()
    (turn,) = wait_for(lambda: [t for t in ann.get(f"{at}/turns").json() if t["step"] == "draft"])
    assert turn["seat"] == "A1"
    assert bob.get(f"{at}/turns", headers={"X-Sandbox-Person": "Ann"}).json() == []
    answer = {"interaction": turn["interaction"], "step": turn["step"]}
    for path, body in (("turns", {**answer, "text": "I am Ann"}), ("turns/skip", answer)):
        refused = bob.post(f"{at}/{path}", json=body, headers={"X-Sandbox-Person": "Ann"})
        assert refused.status_code == 409, refused.text
    ann.post(f"{at}/turns", json={**answer, "text": "It is I"}).raise_for_status()
    draft = f"{turn['interaction']}.draft"
    wait_for(lambda: [m for m in operator.get(f"{at}/messages").json()["items"] if m["step"] == "draft"])
    assert ann.post(f"{at}/ratings", json={"message": draft, "value": 7}).status_code == 409, (
        "nor from a seat"
    )
    texts = [m["text"] for m in operator.get(f"{at}/messages", params={"limit": 1000}).json()["items"]]
    assert "I am Ann" not in texts


def test_what_is_hidden_from_a_rater_is_hidden_everywhere(
    people: tuple[httpx.Client, httpx.Client, httpx.Client, str],
) -> None:
    operator, ann, _, at = people
    operator.post(f"{at}/start").raise_for_status()
    wait_for(lambda: operator.get(at).json()["status"] == "finished")
    rows = operator.get(f"{at}/ratings", params={"limit": 1000}).json()["items"]
    target = rows[0]["target"]
    reasons = {row["reason"] for row in rows if row["target"] == target and row["reason"]}
    assert reasons

    def seen() -> list[dict[str, Any]]:
        pages = [ann.get(f"{at}/ratings", params={"target": target}).json()["items"]]
        for event in ann.get(f"{at}/events", params={"limit": 1000}).json()["items"]:
            if event["event"]["type"] == "rating_given" and event["event"]["target"] == target:
                pages.append([event["event"]])
        return [row for page in pages for row in page if row["rater"] != "Ann"]

    assert seen()
    assert {(row["value"], row["raw"], row["reason"]) for row in seen()} == {(None, "", "")}
    assert ann.get(f"{at}/export", params={"what": "ratings"}).status_code == 403
    ann.post(f"{at}/ratings", json={"message": target, "value": 4}).raise_for_status()
    assert {row["reason"] for row in seen()} >= reasons


# Keys


async def test_a_canary_key_is_seen_nowhere(tmp_path: Path) -> None:
    """Used rightly and wrongly, with the fullest log: it comes back in no way and stays nowhere."""
    store = Store.open(str(tmp_path / "server.db"))
    key = Keys(store.database, required=True, per_minute=1).create(CreateKey(name="c", scopes=("admin",))).key
    store.close()
    server = Server(
        str(tmp_path / "server.db"), tmp_path, log_format="json", log_level="debug", command_timeout_s="5"
    )
    told: list[str] = []
    try:
        wait_for(server.ready, 60)
        ticket = await _use(server.base, key, told)
    finally:
        server.end(signal.SIGTERM)
    assert len(told) > 30
    assert '"request"' in server.said()
    assert "sandbox.v1" in server.said(), "handshakes are logged at this level"
    with closing(sqlite3.connect(tmp_path / "server.db")) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [repr(row) for table in tables for row in database.execute(f'SELECT * FROM "{table}"')]
    for secret in (key, ticket):
        assert secret not in server.said()
        assert not [row for row in rows if secret in row]
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file.name
    for text in told:
        assert key not in text
        assert key[:20] not in text, text


async def _use(base: str, key: str, told: list[str]) -> str:
    bearer = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=base, headers=bearer, timeout=30) as client:
        session = create(client, seats="2x2", rounds=1)
        at = f"/api/v1/sessions/{session}"
        chat = {"model": "sandbox/A1", "messages": [{"role": "user", "content": "Hi"}]}
        told += [
            client.post(f"{at}/questions", json={"question": "Why?"}).text,
            client.post("/v1/chat/completions", json=chat).text,
            client.post("/v1/chat/completions", json={**chat, "stream": True}).text,
        ]
        for form in (
            key,
            f"Bearer{key}",
            f"Basic {key}",
            f"Bearer {key}x",
            f"Bearer {key},{key}",
            f"{key} Bearer",
        ):
            for path in ("/api/v1/sessions", "/v1/models", "/metrics", f"/nowhere/{key}"):
                told.append(httpx.get(base + path, headers={"Authorization": form}).text)
        for name in (
            "X-Sandbox-Person",
            "X-Request-Id",
            "Origin",
            "Cookie",
            "Host",
            "Api-Key",
        ):
            told.append(client.post(f"/api/v1/sessions/{session}/pause", headers={name: key}).text)
        for path in (
            f"/api/v1/sessions/{key}",
            f"/v1/models/{key}",
            f"/api/v1/sessions?status={key}",
            f"{at}/{key}",
        ):
            told.append(client.get(path).text)
        for body in ({key: 1}, {"example": key}, {"toml": key}, {"example": "scripted", "model": key}, [key]):
            told.append(client.post("/api/v1/sessions", json=body).text)
        told.append(client.post("/api/v1/sessions", content=key.encode(), headers=JSON).text)
        told.append(client.post("/api/v1/invites/join", json={"ticket": key, "person": "Ann"}).text)
        told.append(client.post("/v1/chat/completions", json={**chat, "model": key}).text)
        told.append(client.put(f"{at}/seats/A1/model", json={"model": f"openai/http://u:{key}@x/v1/m"}).text)
        ticket = str(client.post("/api/v1/tickets").json()["ticket"])
        ways: list[tuple[str, dict[str, Any]]] = [
            (session, {"additional_headers": bearer}),
            (session, {"subprotocols": ["sandbox.v1", f"ticket.{ticket}"]}),
            (session, {"subprotocols": ["sandbox.v1", f"ticket.{key}"]}),
            (session, {"additional_headers": {"Authorization": key}}),
            (session, {"query": {"token": key, "ticket": key}}),
            (session, {"query": {"person": key}, "additional_headers": bearer}),
            (session, {"query": {"since": f"{key}:1"}, "additional_headers": bearer}),
            (session, {"query": {"since": key}, "additional_headers": bearer}),
            (key, {"additional_headers": bearer}),
            (session, {"origin": "http://evil.example", "additional_headers": bearer}),
        ]
        for where, options in ways:
            told.append(await _connected(base, where, key, options))
        for what in ("events", "interactions", "messages", "ratings", "calls", "seats"):
            told.append(client.get(f"{at}/export", params={"what": what}).text)
        told += [client.get(path).text for path in ("/api/v1/keys", "/metrics", "/openapi.json")]
    return ticket


async def _connected(base: str, session: str, key: str, options: dict[str, Any]) -> str:
    """All that a connection is told, whichever way it ends."""
    told: list[str] = []
    frames = (
        {"type": key},
        {"v": 1, "type": "command", "cid": "1", "data": {"do": key}},
        {"v": 1, "type": "command", "cid": "2", "data": {"do": "pause", key: 1}},
        {"v": 1, "type": "command", "cid": "3", "data": {"do": "take", "seat": "A1", "absent": key}},
        {"v": 1, "type": "command", "cid": "4", "data": {"do": "change_model", "seat": "A1", "model": key}},
        {"v": 1, "type": "ping", "cid": "last"},
    )
    try:
        async with asyncio.timeout(20), live(base, session, **options) as connection:
            for frame in frames:
                await connection.send(json.dumps(frame))
            async for text in connection:
                told.append(str(text))
                if json.loads(text)["type"] == "ack":
                    break
    except ConnectionClosed as closed:
        told.append(str(closed.rcvd and closed.rcvd.reason))
    except InvalidStatus as refused:
        told.append(bytes(refused.response.body).decode())
    return "\n".join(told)


@pytest.mark.parametrize("name", ["A1", "a1", "observer", "", "x" * 33, "\x1b[2J", "Ann\u202e", "1st"])
def test_nobody_is_called_like_a_seat_or_like_nobody(client: httpx.Client, name: str) -> None:
    session = create(client)
    response = client.post(
        f"/api/v1/sessions/{session}/messages",
        json={"text": "Hi", "to": ["B1"]},
        headers=[(b"X-Sandbox-Person", name.encode())],
    )
    if name:
        assert response.status_code in (400, 409, 422), response.text
    wait_for(lambda: True)
    said = client.get(f"/api/v1/sessions/{session}/messages").json()["items"]
    assert name not in {row["seat"] for row in said} or not name


@pytest.mark.parametrize(
    "text", ["\ud800", "a\x00b", "\x1b]52;c;aGk=\x07", "\u202eevil", "[@click=app.quit]x[/]", "🧨" * 5000]
)
def test_any_text_is_taken_and_given_back(client: httpx.Client, text: str) -> None:
    session = create(client)
    body = json.dumps({"text": text, "to": ["A1"]}).encode()
    sent = client.post(
        f"/api/v1/sessions/{session}/messages", content=body, headers={"Content-Type": "application/json"}
    )
    assert sent.status_code in (201, 422), sent.text
    if sent.status_code == 201:
        kept = client.get(f"/api/v1/sessions/{session}/messages").json()["items"][0]["text"]
        assert kept == text.replace("\ud800", "\ufffd").replace("\x00", "\ufffd")

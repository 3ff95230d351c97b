"""Keys, scopes, invitations and tickets; and that a key is never to be found anywhere."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Live, Server, app_in, create, live, serve, wait_for
from support import Run
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandbox.running import Store
from server.auth import Keys
from server.wire.views import CreateKey, NewKey, Scope

CALLS: list[tuple[Scope, str, str, dict[str, Any] | None]] = [
    ("watch", "GET", "/api/v1/sessions/{s}/events", None),
    ("watch", "GET", "/api/v1/sessions/{s}/snapshot", None),
    ("join", "POST", "/api/v1/sessions/{s}/messages", {"text": "Hello", "to": ["A1"]}),
    ("join", "POST", "/api/v1/sessions/{s}/seats/A1/take", {}),
    ("join", "GET", "/api/v1/sessions/{s}/turns", None),
    ("ask", "POST", "/api/v1/sessions/{s}/questions", {"question": "Why?", "society": False}),
    ("run", "POST", "/api/v1/sessions/{s}/step", None),
    ("run", "POST", "/api/v1/sessions", {"example": "scripted", "seats": "2x2"}),
    ("run", "PUT", "/api/v1/sessions/{s}/seats/A1/model", {"model": "scripted/kind"}),
    ("run", "GET", "/api/v1/sessions/{s}/export", None),
    ("run", "POST", "/api/v1/sessions/{s}/fork", {}),
    ("admin", "GET", "/api/v1/keys", None),
    ("admin", "POST", "/api/v1/sessions/{s}/invites", {}),
    ("admin", "GET", "/metrics", None),
]
ALSO: dict[str, set[str]] = {"watch": {"join"}}
"""Who takes part may look, too."""


class Guarded:
    """A server that needs keys, and its store."""

    def __init__(self, folder: Path, **server: Any) -> None:
        self.path = folder / "server.db"
        store = Store.open(str(self.path))
        self.keys = Keys(store.database, required=True, per_minute=1_000_000)
        self.app = app_in(folder, keyless=False, **server)

    def key(self, *scopes: Scope, **more: Any) -> NewKey:
        return self.keys.create(CreateKey(name="test", scopes=scopes, **more))


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


@pytest.fixture
def base(guarded: Guarded) -> Iterator[str]:
    with serve(guarded.app) as url:
        yield url


def client_of(base: str, key: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=base, headers=headers, timeout=30)


async def closed_with(connection: ClientConnection) -> int:
    """The code that the server closes a connection with."""
    try:
        while True:
            await connection.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return int(closed.rcvd.code)


@pytest.mark.parametrize("scope", ["watch", "join", "ask", "run", "admin"])
def test_a_scope_allows_what_it_says_and_nothing_else(guarded: Guarded, base: str, scope: Scope) -> None:
    with client_of(base, guarded.key("admin").key) as admin:
        session = create(admin)
    with client_of(base, guarded.key(scope).key) as client:
        for needed, method, path, body in CALLS:
            response = client.request(method, path.format(s=session), json=body)
            allowed = scope in {needed, "admin"} | ALSO.get(needed, set())
            told = f"{scope}: {method} {path}: {response.status_code} {response.text[:200]}"
            assert (response.status_code < 400) == allowed, told
            if not allowed:
                assert response.status_code == 403, told


@pytest.mark.parametrize("key", [None, "sbx_wrong", "other", "sbx_" + "x" * 5000])
async def test_without_a_good_key_nothing_is_to_be_had(guarded: Guarded, base: str, key: str | None) -> None:
    with client_of(base, guarded.key("admin").key) as admin:
        session = create(admin)
    with client_of(base, key) as client:
        for _, method, path, body in CALLS:
            response = client.request(method, path.format(s=session), json=body)
            assert response.status_code == 401, path
        assert client.get("/v1/models").status_code == 401
        assert client.get("/healthz").status_code == 200
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with live(base, session, additional_headers=headers) as connection:
        assert await closed_with(connection) == 4401


async def test_a_key_in_the_url_is_no_key(guarded: Guarded, base: str) -> None:
    key = guarded.key("admin").key
    with client_of(base, key) as admin:
        session = create(admin)
    for name in ("key", "token", "access_token", "authorization", "api_key"):
        assert httpx.get(f"{base}/api/v1/sessions", params={name: key}).status_code == 401
    async with live(base, session, query={"token": key, "ticket": key}) as connection:
        assert await closed_with(connection) == 4401


async def test_an_expired_or_revoked_key_is_good_no_more_and_its_sockets_close(
    guarded: Guarded, base: str
) -> None:
    short = guarded.key("watch", expires_in_s=0.2)
    time.sleep(0.3)
    with client_of(base, short.key) as client:
        assert "expired" in client.get("/api/v1/sessions").json()["error"]["message"]
    key = guarded.key("admin")
    with client_of(base, key.key) as client:
        session = create(client)
        async with live(
            base, session, additional_headers={"Authorization": f"Bearer {key.key}"}
        ) as connection:
            await Live(connection).next("session.snapshot")
            guarded.keys.revoke(str(key.id))
            began = time.monotonic()
            assert await closed_with(connection) == 4401
            assert time.monotonic() - began < 4
        wait_for(lambda: client.get("/api/v1/sessions").status_code == 401, 4)


async def test_a_key_for_one_session_is_good_for_no_other(guarded: Guarded, base: str) -> None:
    with client_of(base, guarded.key("admin").key) as admin:
        mine, other = create(admin), create(admin)
    key = guarded.key("watch", "join", "ask", "run", session=mine).key
    with client_of(base, key) as client:
        assert [row["session"] for row in client.get("/api/v1/sessions").json()] == [mine]
        assert client.get(f"/api/v1/sessions/{mine}").status_code == 200
        assert client.get(f"/api/v1/sessions/{other}").status_code == 403
        assert client.post(f"/api/v1/sessions/{other}/start").status_code == 403
        chat = {"model": f"sandbox/{other}/A1", "messages": [{"role": "user", "content": "Hi"}]}
        assert client.post("/v1/chat/completions", json=chat).status_code in (403, 404)
    async with live(base, other, additional_headers={"Authorization": f"Bearer {key}"}) as connection:
        assert await closed_with(connection) == 4403


def test_a_keys_requests_a_minute_and_budget_hold(guarded: Guarded, base: str) -> None:
    few = guarded.key("watch", per_minute=3).key
    with client_of(base, few) as client:
        codes = [client.get("/api/v1/sessions").status_code for _ in range(5)]
        last = client.get("/api/v1/sessions")
    assert codes == [200, 200, 200, 429, 429]
    assert int(last.headers["retry-after"]) >= 1
    poor = guarded.key("ask", "run", budget=0.5)
    guarded.keys.spend(poor.id, 0.6)
    with client_of(base, poor.key) as client:
        session = create(client)
        assert client.post(f"/api/v1/sessions/{session}/start").status_code == 402


async def test_a_browser_connects_with_a_ticket_once(guarded: Guarded, base: str) -> None:
    key = guarded.key("admin").key
    with client_of(base, key) as client:
        session, other = create(client), create(client)

        def ticket() -> str:
            made = client.post("/api/v1/tickets", params={"session": session})
            return str(made.json()["ticket"])

        one, wrong = ticket(), ticket()
    offered = ["sandbox.v1", f"ticket.{one}"]
    async with live(base, session, subprotocols=offered) as connection:
        assert connection.subprotocol == "sandbox.v1"
        await Live(connection).next("session.snapshot")
    async with live(base, session, subprotocols=offered) as connection:
        assert await closed_with(connection) == 4401
    async with live(base, other, subprotocols=["sandbox.v1", f"ticket.{wrong}"]) as connection:
        assert await closed_with(connection) == 4403


def test_an_invited_person_agrees_and_has_a_key_of_their_own(guarded: Guarded, base: str) -> None:
    with client_of(base, guarded.key("admin").key) as admin, client_of(base, None) as nobody:
        session, other = create(admin), create(admin)
        wanted = {"person": "Ann", "seat": "A1", "consent_version": "v2", "consent_text": "May we keep it?"}
        ticket = admin.post(f"/api/v1/sessions/{session}/invites", json=wanted).json()["ticket"]
        shown = nobody.post("/api/v1/invites/look", json={"ticket": ticket}).json()
        assert (shown["consent_text"], shown["consent_version"]) == ("May we keep it?", "v2")
        for consent in (None, "v1"):
            refused = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": consent})
            assert refused.status_code == 422
            assert "May we keep it?" in refused.json()["error"]["message"]
        joined = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": "v2"}).json()
        assert (joined["person"], joined["seat"], joined["session"]) == ("Ann", "A1", session)
        again = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": "v2"})
        assert again.status_code == 401
        second = admin.post(f"/api/v1/sessions/{session}/invites", json={}).json()["ticket"]
        taken = nobody.post("/api/v1/invites/join", json={"ticket": second, "person": "Ann"})
        assert taken.status_code == 422
        assert "another name" in taken.json()["error"]["message"]
        late = admin.post(f"/api/v1/sessions/{session}/invites", json={"expires_in_s": 0.01}).json()["ticket"]
        time.sleep(0.05)
        assert nobody.post("/api/v1/invites/look", json={"ticket": late}).status_code == 401
    with sqlite3.connect(guarded.path) as database:
        (consent,) = database.execute("SELECT person, version, text, time FROM consents").fetchall()
    database.close()
    assert consent[:3] == ("Ann", "v2", "May we keep it?")
    assert abs(consent[3] - time.time()) < 60
    with client_of(base, joined["key"]) as ann:
        assert ann.get(f"/api/v1/sessions/{other}").status_code == 403
        assert ann.post(f"/api/v1/sessions/{session}/start").status_code == 403
        said = ann.post(
            f"/api/v1/sessions/{session}/messages",
            json={"text": "Hello", "to": ["A1"]},
            headers={"X-Sandbox-Person": "Bob"},
        )
        assert said.status_code == 201
        first = ann.get(f"/api/v1/sessions/{session}/messages").json()["items"][0]
        assert first["seat"] == "Ann", "nobody speaks as somebody else"


async def test_a_key_is_nowhere_to_be_found(tmp_path: Path) -> None:
    """Used in every way, right and wrong: it is in no log, row, file, export, frame or error."""
    guarded = Guarded(tmp_path)
    key = guarded.key("admin").key
    seen: list[str] = []
    server = Server(str(guarded.path), tmp_path, log_format="json", log_level="debug")
    try:
        wait_for(server.ready, 60)
        secrets = [key, *await _use_everywhere(server.base, key, seen)]
    finally:
        server.end(signal.SIGTERM)
    assert server.said().count("request") > 10
    for secret in secrets:
        assert secret not in server.said(), "in the log"
        kept = [
            file.name
            for file in tmp_path.iterdir()
            if file.is_file() and secret.encode() in file.read_bytes()
        ]
        assert not kept, "in a file"
        assert not [text[:200] for text in seen if secret in text], "in an answer"


async def _use_everywhere(base: str, key: str, seen: list[str]) -> list[str]:
    """Uses a key; returns the other secrets that there were."""
    with client_of(base, key) as client:
        session = create(client, rounds=1)
        invited = client.post(f"/api/v1/sessions/{session}/invites", json={}).json()["ticket"]
        personal = httpx.post(f"{base}/api/v1/invites/join", json={"ticket": invited, "person": "Ann"})
        own = str(personal.json()["key"])
        for path, body in (
            (f"/api/v1/sessions/{session}/questions", {"question": "Why?"}),
            (f"/api/v1/sessions/{key}/questions", {"question": "Why?"}),
            ("/api/v1/sessions", {"example": key}),
            ("/api/v1/sessions", {"toml": f"x = {key}"}),
            ("/api/v1/sessions", {key: 1}),
            ("/v1/chat/completions", {"model": "sandbox/A1", "messages": []}),
            ("/v1/chat/completions", {"model": key, "messages": [{"role": "user", "content": "Hi"}]}),
            ("/api/v1/invites/join", {"ticket": key}),
        ):
            seen.append(client.post(path, json=body).text)
        seen.append(client.get(f"/v1/models/{key}").text)
        seen.append(client.get("/v1/models", headers={"Authorization": key}).text)
        seen.append(client.get("/api/v1/sessions", params={"key": key}).text)
        seen.append(client.get("/api/v1/keys").text)
        async with live(base, session, additional_headers={"Authorization": f"Bearer {own}"}) as connection:
            watcher = Live(connection)
            await watcher.command("1", do="say", text="Hello", to=["A1"])
            await connection.send(json.dumps({"type": own}))
            await watcher.next("error")
            seen += [json.dumps(frame) for frame in watcher.frames]
        with pytest.raises(InvalidStatus):
            async with live(base, session, origin="http://evil.example", additional_headers={"Cookie": key}):
                pass
        for what in ("events", "messages", "ratings", "calls", "seats"):
            seen.append(client.get(f"/api/v1/sessions/{session}/export", params={"what": what}).text)
        seen.append(client.get("/metrics").text)
    return [own, str(invited)]


def test_a_server_without_keys_takes_any_and_inviting_somebody_locks_nobody_out(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, client_of(base, "sbx_of-another-server") as client:
        session = create(client)
        ticket = client.post(f"/api/v1/sessions/{session}/invites", json={"person": "Ann"}).json()["ticket"]
        key = client.post("/api/v1/invites/join", json={"ticket": ticket}).json()["key"]
        with client_of(base, key) as ann:
            assert ann.get("/api/v1/me").json()["person"] == "Ann"
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1)
    assert not keys.any_usable()
    keys.create(CreateKey(name="me", scopes=("admin",)))
    assert keys.any_usable()
    store.close()


def test_keys_are_made_listed_and_revoked_by_command(sandbox: Run) -> None:
    code, key, told = sandbox("keys", "create", "mine", "--scope", "watch", "--scope", "ask", "--days", "2")
    assert code == 0, told
    key = key.strip()
    assert key.startswith("sbx_")
    code, listed, _ = sandbox("keys", "list")
    assert key[:10] in listed
    assert key not in listed
    assert "watch,ask" in listed
    code, told, _ = sandbox("keys", "revoke", key[:10])
    assert code == 0
    assert "Revoked" in told
    assert "revoked" in sandbox("keys", "list")[1]
    code, _, told = sandbox("keys", "revoke", "nothing")
    assert code == 2
    assert "sandbox keys list" in told


def test_an_address_that_others_reach_needs_a_key_first(sandbox: Run) -> None:
    code, _, told = sandbox("serve", "scripted", "--host", "0.0.0.0", "--port", "0")
    assert code == 2
    assert "sandbox keys create" in told
    code, _, told = sandbox("serve", "scripted", "--workers", "2")
    assert code == 2
    assert "PostgreSQL" in told
    code, _, told = sandbox("serve", "no-such-society")
    assert code == 2
    assert "no-such-society" in told

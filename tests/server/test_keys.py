"""How keys are kept, sent, counted and ended."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from guarding import Guarded, closed_with, guard
from serving import Live, app_in, create, live, serve, wait_for
from support import Run

from server.purse import Purses

SAY = {"text": "Hello", "to": ["B1"]}


async def test_only_a_digest_of_a_secret_is_kept(guarded: Guarded) -> None:
    made = guarded.key("admin")
    with guarded.client(made.key) as client:
        session = create(client)
        client.post(f"/api/v1/sessions/{session}/messages", json=SAY).raise_for_status()
        invited = guarded.invited(session)
        personal = client.post("/api/v1/invites/join", json={"ticket": invited, "person": "Ann"}).json()
        socket = client.post("/api/v1/tickets", params={"session": session}).json()["ticket"]
        async with live(guarded.base, session, subprotocols=["sandbox.v1", f"ticket.{socket}"]) as connection:
            await Live(connection).next("session.snapshot")
        assert made.key not in client.get("/api/v1/keys").text
    secrets = (made.key, personal["key"], invited, socket)
    rows: list[str] = []
    with closing(sqlite3.connect(guarded.path)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"keys", "invites", "consents", "commands", "events"} <= set(tables)
        for table in tables:
            rows += [repr(row) for row in database.execute(f'SELECT * FROM "{table}"')]
        kept = database.execute("SELECT digest FROM keys WHERE id = ?", (made.id,)).fetchone()[0]
        database.execute("PRAGMA wal_checkpoint")
    assert kept == hashlib.sha256(made.key.encode()).hexdigest()
    files = [file for file in guarded.path.parent.glob("server.db*") if file.is_file()]
    for secret in secrets:
        assert not [row for row in rows if secret in row]
        assert not [file.name for file in files if secret.encode() in file.read_bytes()]
        assert not [row for row in rows if secret[14:] in row], "nor most of it"


@pytest.mark.parametrize("way", ["revoked", "expired"])
async def test_the_sockets_of_a_key_that_ends_close_within_two_seconds(tmp_path: Path, way: str) -> None:
    with guard(tmp_path, scan_s=1.0) as guarded:
        session = create(guarded.admin)
        lasting = guarded.key("watch")
        ends = guarded.key("watch", "run", **({"expires_in_s": 1.5} if way == "expired" else {}))
        async with (
            guarded.live(session, lasting.key) as other,
            guarded.live(session, ends.key) as one,
            guarded.live(session, ends.key) as two,
        ):
            for connection in (other, one, two):
                await Live(connection).next("session.snapshot")
            began = time.monotonic()
            if way == "revoked":
                guarded.admin.delete(f"/api/v1/keys/{ends.id}").raise_for_status()
                answer = await Live(one).command("1", do="pause")
                assert answer["data"]["code"] == "forbidden", "and it is good for nothing till then"
            else:
                assert ends.expires is not None
                began += ends.expires - time.time()
            codes = await asyncio.gather(closed_with(one), closed_with(two))
            assert codes == [4401, 4401]
            assert time.monotonic() - began < 2.5
            assert (await Live(other).command("2", do="pause"))["data"]["code"] == "forbidden"
        async with guarded.live(session, ends.key) as again:
            assert await closed_with(again) == 4401
        with guarded.client(ends.key) as client:
            wait_for(lambda: client.get("/api/v1/me").status_code == 401, 4)


def test_a_keys_requests_a_minute_are_its_own(shared: Guarded) -> None:
    few, many = shared.key("watch", per_minute=3), shared.key("watch")
    with shared.client(few.key) as client, shared.client(many.key) as other:
        answers = [client.get("/api/v1/sessions") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        last = answers[-1]
        assert 1 <= int(last.headers["retry-after"]) <= 60
        assert last.json()["error"]["code"] == "too_many"
        limited = client.get("/v1/models")
        assert limited.status_code == 429
        assert limited.headers["retry-after"]
        assert set(limited.json()) == {"error"}
        assert "message" in limited.json()["error"]
        assert other.get("/api/v1/sessions").status_code == 200


async def test_commands_and_connections_count_as_requests(shared: Guarded) -> None:
    session = create(shared.admin)
    key = shared.key("watch", "run", per_minute=3).key
    async with shared.live(session, key) as connection:
        client = Live(connection)
        answers = [await client.command(str(n), do="pause") for n in range(3)]
    assert [answer["type"] for answer in answers] == ["ack", "ack", "error"]
    assert answers[-1]["data"]["code"] == "too_many"
    async with shared.live(session, key) as connection:
        assert await closed_with(connection) == 4429


async def test_a_key_that_has_spent_its_budget_asks_no_more(shared: Guarded) -> None:
    session = create(shared.admin)
    poor = shared.key("watch", "join", "ask", "run", budget=0.5)
    with shared.client(poor.key) as client:
        question = {"question": "Why?", "society": False}
        assert client.post(f"/api/v1/sessions/{session}/questions", json=question).status_code == 201
        assert await Purses(shared.keys.database).settle(poor.id, None, 0.6) == pytest.approx(-0.1)
        wait_for(lambda: client.get("/api/v1/me").json()["spent"] == pytest.approx(0.6), 5)
        for path, body in (
            (f"/api/v1/sessions/{session}/questions", question),
            (f"/api/v1/sessions/{session}/messages", SAY),
            (f"/api/v1/sessions/{session}/start", {}),
        ):
            refused = client.post(path, json=body)
            assert refused.status_code == 402, refused.text
            assert refused.json()["error"]["code"] == "over_budget"
        for path, model in (("/v1/embeddings", "sandbox/hashed"), ("/v1/responses", f"sandbox/{session}/A1")):
            body = {"input": "Hi"}
            assert client.post(path, json={**body, "model": model}).status_code == 402
        assert client.get(f"/api/v1/sessions/{session}/events").status_code == 200
    async with shared.live(session, poor.key) as connection:
        answer = await Live(connection).command("1", do="start")
    assert answer["type"] == "error"
    assert "$0.50" in answer["data"]["message"]


@pytest.mark.parametrize("name", ["key", "token", "access_token", "api_key", "apikey", "authorization"])
async def test_a_key_in_the_url_or_a_cookie_opens_nothing(shared: Guarded, name: str) -> None:
    session = create(shared.admin)
    key = shared.key("admin").key
    for value in (key, f"Bearer {key}"):
        for path in ("/api/v1/sessions", f"/api/v1/sessions/{session}", "/v1/models", "/metrics"):
            assert httpx.get(shared.base + path, params={name: value}).status_code == 401
            assert httpx.get(shared.base + path, headers={"Cookie": f"{name}={value}"}).status_code == 401
    port = shared.base.rpartition(":")[2]
    assert httpx.get(f"http://sandbox:{key}@127.0.0.1:{port}/api/v1/sessions").status_code == 401
    async with live(shared.base, session, query={name: key}) as connection:
        assert await closed_with(connection) == 4401


@pytest.mark.parametrize("form", ["{0}", "Basic {0}", "Token {0}", "Bearer", "Bearer {0} x", "Bearer  {0}x"])
def test_a_key_comes_as_a_bearer_and_whole(shared: Guarded, form: str) -> None:
    key = shared.key("admin").key
    refused = httpx.get(f"{shared.base}/api/v1/me", headers={"Authorization": form.format(key)})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    told = refused.json()["error"]["message"]
    assert key not in told
    assert "[redacted]" not in told, "nor is the advice itself masked"
    lenient = httpx.get(f"{shared.base}/api/v1/me", headers={"authorization": f"bearer {key}"})
    assert lenient.status_code == 200


async def test_where_no_key_is_needed_any_will_do(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base:
        for given in ({}, {"Authorization": "Bearer sk-anything"}, {"Authorization": "Basic eDp5"}):
            with httpx.Client(base_url=base, headers=given) as client:
                session = create(client)
                assert client.get("/v1/models").status_code == 200
                assert client.get("/api/v1/me").json()["scopes"] == ["admin"]
            async with live(base, session, additional_headers=given) as connection:
                await Live(connection).next("session.snapshot")


def test_keys_by_command(sandbox: Run, tmp_path: Path) -> None:
    assert "no keys" in sandbox("keys", "list")[2]
    code, out, told = sandbox(
        *("keys", "create", "mine", "--scope", "watch", "--scope", "run"),
        *("--days", "1", "--per-minute", "9", "--budget", "0.5"),
    )
    key = out.strip()
    assert (code, key.count("\n")) == (0, 0), told
    assert key not in told
    _, listed, _ = sandbox("keys", "list", "--json")
    assert '"scopes":["watch","run"]' in listed
    assert '"per_minute":9' in listed
    assert '"budget":0.5' in listed
    assert key not in listed
    number = listed.partition('"id":')[2].partition(",")[0]
    code, told, _ = sandbox("keys", "revoke", number)
    assert (code, key in told) == (0, False)
    for wrong in (
        ("keys", "create", "x"),
        ("keys", "create", "x", "--scope", "all"),
        ("keys", "revoke", "9"),
    ):
        assert sandbox(*wrong)[0] == 2, wrong
    assert sandbox("keys", "create", "x", "--scope", "run", "--session", "no-such")[0] == 2


def test_a_port_that_is_taken_is_said_so_before_anything_else(sandbox: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, told = sandbox("serve", "scripted", "--port", str(taken.getsockname()[1]))
    assert (code, out) == (2, "")
    assert "can't listen" in told
    assert "--port" in told
    assert sandbox("sessions", "list", "--json")[1] == "", "nor is anything made"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_address_for_others_is_served_without_a_key(sandbox: Run, host: str) -> None:
    code, _, told = sandbox("serve", "scripted", "--host", host, "--port", "0")
    assert code == 2
    assert "sandbox keys create" in told
    key = sandbox("keys", "create", "gone", "--scope", "admin")[1].strip()
    sandbox("keys", "revoke", key)
    code, _, told = sandbox("serve", "scripted", "--host", host, "--port", "0")
    assert (code, "sandbox keys create" in told) == (2, True), "a revoked key is none"


async def test_a_bad_key_is_no_key_where_none_is_needed(tmp_path: Path) -> None:
    with guard(tmp_path) as guarded:
        revoked = guarded.key("watch")
        guarded.admin.delete(f"/api/v1/keys/{revoked.id}").raise_for_status()
        expired = guarded.key("watch", expires_in_s=0.01)
        good = guarded.key("watch")
        session = create(guarded.admin)
    with serve(app_in(tmp_path)) as base:
        for bad in (revoked.key, expired.key, "sbx_mistyped", "sbx_", good.key[:-1]):
            with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {bad}"}) as client:
                assert client.get("/api/v1/me").status_code == 401, bad
                assert client.delete(f"/api/v1/keys/{good.id}").status_code == 401
                assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
            headers = {"Authorization": f"Bearer {bad}"}
            async with live(base, session, additional_headers=headers) as connection:
                assert await closed_with(connection) == 4401
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {good.key}"}) as client:
            assert client.get("/api/v1/me").json()["scopes"] == ["watch"]
            assert client.delete(f"/api/v1/keys/{good.id}").status_code == 403
        for other in ("sk-anything", "SBX", "none"):
            with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {other}"}) as client:
                assert client.get("/api/v1/me").json()["scopes"] == ["admin"]


def test_who_needs_no_key_meets_no_limit_unless_one_is_set(tmp_path: Path) -> None:
    with serve(app_in(tmp_path, per_minute=None)) as base, httpx.Client(base_url=base) as client:
        assert {client.get("/api/v1/me").status_code for _ in range(650)} == {200}
    with serve(app_in(tmp_path, per_minute=3)) as base, httpx.Client(base_url=base) as client:
        assert [client.get("/api/v1/me").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_keys_have_a_limit_by_default(tmp_path: Path) -> None:
    with guard(tmp_path, per_minute=None) as guarded:
        codes = [guarded.admin.get("/api/v1/me").status_code for _ in range(601)]
    assert (codes[:600], codes[600]) == ([200] * 600, 429)


def test_only_bad_keys_count_against_an_address(tmp_path: Path) -> None:
    with guard(tmp_path, tries_per_minute=5) as guarded, guarded.client("sbx_bad") as bad:
        assert [bad.get("/api/v1/me").status_code for _ in range(7)] == [*[401] * 5, 429, 429]
        assert guarded.admin.get("/api/v1/me").status_code == 200, "a good key is good beside them"
        session = create(guarded.admin)
        ticket = guarded.invited(session, person="Ann")
        joined = bad.post("/api/v1/invites/join", json={"ticket": ticket})
        assert joined.status_code == 201, "and so is a good invitation"


async def test_bad_socket_tickets_count_against_an_address(tmp_path: Path) -> None:
    with guard(tmp_path, tries_per_minute=3) as guarded:
        session = create(guarded.admin)
        codes = []
        for _ in range(5):
            offered = ["sandbox.v1", "ticket.unknown"]
            async with live(guarded.base, session, subprotocols=offered) as connection:
                codes.append(await closed_with(connection))
        assert codes == [4401, 4401, 4401, 4429, 4429]


async def test_a_socket_ticket_is_good_in_every_process_and_once(tmp_path: Path) -> None:
    with guard(tmp_path) as guarded, serve(app_in(tmp_path, keyless=False)) as other:
        session = create(guarded.admin)
        bound = guarded.key("watch", session=session)
        for number, secret in enumerate([bound.key, guarded.key("watch").key] * 3):
            with guarded.client(secret) as client:
                made = client.post("/api/v1/tickets", params={"session": session})
            offered = ["sandbox.v1", f"ticket.{made.json()['ticket']}"]
            first, second = (other, guarded.base) if number % 2 else (guarded.base, other)
            async with live(first, session, subprotocols=offered) as connection:
                await Live(connection).next("session.snapshot")
            async with live(second, session, subprotocols=offered) as connection:
                assert await closed_with(connection) == 4401, "used elsewhere is used"


async def test_a_ticket_ends_with_its_key_and_with_keylessness(tmp_path: Path) -> None:
    with guard(tmp_path) as guarded, serve(app_in(tmp_path)) as keyless:
        session = create(guarded.admin)
        ended = guarded.key("watch")
        with guarded.client(ended.key) as client:
            theirs = client.post("/api/v1/tickets").json()["ticket"]
        guarded.admin.delete(f"/api/v1/keys/{ended.id}").raise_for_status()
        nobodys = httpx.post(f"{keyless}/api/v1/tickets").json()["ticket"]
        for ticket in (theirs, nobodys):
            offered = ["sandbox.v1", f"ticket.{ticket}"]
            async with live(guarded.base, session, subprotocols=offered) as connection:
                assert await closed_with(connection) == 4401


@pytest.mark.parametrize("offered", [["ticket.abc"], ["other.v1"]])
async def test_a_client_that_does_not_offer_the_protocol_is_told(tmp_path: Path, offered: list[str]) -> None:
    with guard(tmp_path) as guarded:
        session = create(guarded.admin)
        async with live(guarded.base, session, subprotocols=offered) as connection:
            assert connection.subprotocol == offered[0], "a browser takes nothing else"
            await connection.wait_closed()
            assert connection.close_code == 4400
            assert "sandbox.v1" in (connection.close_reason or "")

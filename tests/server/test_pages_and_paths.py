"""What foreign pages, host names and paths must not open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import FRIEND, Live, app_in, create, live, said_to, serve, status_of
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandbox.running import Store
from server.auth import Keys
from server.wire.views import CreateKey

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def base(friendly: str) -> str:
    return friendly


# Pages


def origins_of(base: str) -> dict[str, bool]:
    port = base.rpartition(":")[2]
    return {
        base: True,
        FRIEND: True,
        FRIEND + "/": True,
        "http://evil.example": False,
        f"http://evil.example:{port}": False,
        f"http://127.0.0.1.evil.example:{port}": False,
        f"http://127.0.0.1:{port}@evil.example": False,
        f"http://localhost:{port}": False,
        "http://127.0.0.1": False,
        "https://friend.example.evil.example": False,
        "https://friend.example:444": False,
        "http://friend.example": False,
        "null": False,
        "": False,
        "file://": False,
        "http://[": False,
        "http://[::1": False,
        "\xff": False,
    }


async def test_only_the_pages_that_may_open_sockets_and_change_things(
    base: str, client: httpx.Client, logged: Any
) -> None:
    session = create(client)
    for origin, allowed in origins_of(base).items():
        header = [(b"Origin", origin.encode("latin-1"))]
        for method, path, body in (
            ("POST", "/api/v1/sessions", {"example": "scripted", "seats": "2x2"}),
            ("PUT", f"/api/v1/sessions/{session}/seats/A1/model", {"model": "scripted/kind"}),
            ("DELETE", "/api/v1/keys/1", None),
            ("POST", "/v1/embeddings", {"model": "sandbox/hashed", "input": "x"}),
        ):
            response = client.request(method, path, json=body, headers=header)
            assert (response.status_code != 403) == allowed, (origin, method, path, response.text)
            assert response.status_code < 500, (origin, response.text)
        assert (
            "access-control-allow-origin" not in client.get("/api/v1/keys", headers=header).headers or allowed
        )
        if allowed:
            async with live(base, session, origin=origin) as connection:
                await Live(connection).next("session.hello")
        elif origin and origin.isascii():
            with pytest.raises(InvalidStatus) as refused:
                async with live(base, session, origin=origin):
                    pass
            assert refused.value.response.status_code == 403, origin
    assert logged() == []


def test_a_form_of_a_foreign_page_changes_nothing(client: httpx.Client) -> None:
    """A page may send these without being asked first; its origin comes with them."""
    before = len(client.get("/api/v1/sessions").json())
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        sent = client.post(
            "/api/v1/sessions",
            content=b'{"example": "scripted"}',
            headers={"Content-Type": kind, "Origin": "http://evil.example"},
        )
        assert sent.status_code == 403
    assert len(client.get("/api/v1/sessions").json()) == before


def test_a_page_of_an_allowed_origin_may_read_and_send(client: httpx.Client) -> None:
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    allowed = client.options("/api/v1/sessions", headers={"Origin": FRIEND, **asked})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, FRIEND)
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    read = client.get("/api/v1/sessions", headers={"Origin": FRIEND})
    assert read.headers["access-control-allow-origin"] == FRIEND
    for origin in ("http://evil.example", f"{FRIEND}.evil.example", "null"):
        refused = client.options("/api/v1/sessions", headers={"Origin": origin, **asked})
        assert refused.status_code == 400, origin
        for response in (refused, client.get("/api/v1/sessions", headers={"Origin": origin})):
            assert "access-control-allow-origin" not in response.headers, origin


# Names and paths


def test_names_that_are_not_the_servers_are_not_answered(base: str) -> None:
    port = base.rpartition(":")[2]
    names = {
        f"127.0.0.1:{port}": 200,
        "localhost": 200,
        "localhost:1": 200,  # a tunnel's port is another
        "[::1]:8000": 200,
        "evil.example": 403,
        f"evil.example:{port}": 403,
        f"127.0.0.1.evil.example:{port}": 403,
        "localhost.evil.example": 403,
        "localhost:80:80": 403,
        "127.0.0.1/healthz": 403,
        "127.0.0.1@evil.example": 403,
        "evil.example#127.0.0.1": 403,
        "0.0.0.0": 403,
        "127.1": 403,
        "[::ffff:127.0.0.1]": 403,
        "": 403,
    }
    for name, expected in names.items():
        for path in ("/api/v1/sessions", "/healthz", "/v1/models", "/openapi.json"):
            answer = said_to(base, f"GET {path} HTTP/1.1\r\nHost: {name}\r\n")
            assert status_of(answer) == expected, (name, path, answer)
        shake = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22 + "==\r\n"
        opened = said_to(base, f"GET /api/v1/sessions/x/live HTTP/1.1\r\nHost: {name}\r\n{shake}")
        assert status_of(opened) != 101 or expected == 200, (name, opened)
    other = "X-Forwarded-Host: 127.0.0.1\r\nX-Host: 127.0.0.1\r\nForwarded: host=127.0.0.1\r\n"
    assert status_of(said_to(base, f"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n{other}")) == 403


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, str, str, str]]:
    """A server that needs keys: its URL, two sessions, and a key for the first of them only."""
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1_000_000)
    with serve(app_in(tmp_path, keyless=False)) as base:
        admin = keys.create(CreateKey(name="a", scopes=("admin",))).key
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {admin}"}) as client:
            mine, other = create(client), create(client)
        own = keys.create(CreateKey(name="b", scopes=("watch", "run"), session=mine)).key
        yield base, mine, other, own
    store.close()


def test_no_way_to_write_a_path_leads_around_the_keys(two: tuple[str, str, str, str]) -> None:
    base, mine, other, key = two
    host = base.removeprefix("http://")
    paths = [
        f"/api/v1/sessions/{mine}/../{other}/events",
        f"/api/v1/sessions/{mine}%2f..%2f{other}/events",
        f"/api/v1/sessions/{mine}%2F%2E%2E%2F{other}/events",
        f"/api/v1/sessions/{mine}/..%2f{other}/events",
        f"/api/v1/sessions/{mine}%00{other}/events",
        f"/api/v1/sessions/{mine}?session={other}/../{other}/events",
        f"/api/v1/sessions/{mine};{other}/events",
        f"/api/v1/sessions//{other}/events",
        f"//api/v1/sessions/{other}/events",
        f"/api/v1/sessions/{other}/events/",
        f"/API/V1/sessions/{other}/events",
        f"/api/v1/sessions/{other}%20/events",
        f"/api/v1/sessions/{other[:-2]}/events",
        f"/healthz/../api/v1/sessions/{other}/events",
        f"/healthz?/api/v1/sessions/{other}/events",
        "/static-offline-docs/../../../../etc/passwd",
        "/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static-offline-docs/..%5c..%5cetc/passwd",
        "/v1/models/../../api/v1/keys",
        f"/v1/models/sandbox%2f{other}%2fA1",
    ]
    paths += [f"http://{host}{path}" for path in paths] + [f"http://evil.example{path}" for path in paths]
    claims = [
        "",
        "X-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\nX-Forwarded-Prefix: /healthz\r\n",
        "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n",
        "X-HTTP-Method-Override: GET\r\nX-Forwarded-User: admin\r\nX-Sandbox-Person: admin\r\n",
    ]
    for path in paths:
        for claim in claims:
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n{claim}"
            answer = said_to(base, head)
            body = answer.partition(b"\r\n\r\n")[2]
            assert b"session_created" not in body, answer
            assert b"root:" not in body
            assert b'"prefix"' not in body
            bare = status_of(said_to(base, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{claim}"))
            assert bare in (200, 307, 400, 401, 403, 404), (path, bare)
            if bare == 200:
                assert "/healthz?" in path or path.endswith("/healthz"), path
    good = said_to(
        base,
        f"GET /api/v1/sessions/{mine}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n",
    )
    assert b"session_created" in good


async def test_nor_a_socket(two: tuple[str, str, str, str]) -> None:
    base, mine, other, key = two
    for name in (
        f"{mine}%2f..%2f{other}",
        f"{mine}/../{other}",
        f"{other}?session={mine}",
        f"%2e%2e%2f{other}",
    ):
        with pytest.raises((ConnectionClosed, InvalidStatus)) as refused:
            async with live(base, name, additional_headers={"Authorization": f"Bearer {key}"}) as connection:
                await connection.recv()
        if isinstance(refused.value, ConnectionClosed):
            assert refused.value.rcvd is not None
            assert refused.value.rcvd.code in (4403, 4404), name

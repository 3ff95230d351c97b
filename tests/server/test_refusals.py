"""What a hostile page, society, person or request must not get."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Live, app_in, create, live, serve, wait_for
from support import small_society
from websockets.exceptions import InvalidStatus

from sandbox.society import Agent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("refusals")
    with serve(app_in(folder, origins=("https://friend.example",), max_body_bytes=100_000)) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://evil.example", False),
        ("null", False),
        ("http://127.0.0.1:1", False),
        ("https://friend.example", True),
        ("https://friend.example.evil.example", False),
        ("own", True),
    ],
)
async def test_only_pages_of_known_origins_may_act(
    base: str, client: httpx.Client, origin: str, allowed: bool
) -> None:
    session = create(client)
    origin = base if origin == "own" else origin
    posted = client.post("/api/v1/sessions", json={"example": "scripted"}, headers={"Origin": origin})
    assert (posted.status_code == 201) == allowed
    asked = client.post("/v1/chat/completions", json={}, headers={"Origin": origin})
    assert (asked.status_code != 403) == allowed
    if allowed:
        async with live(base, session, origin=origin) as connection:
            await Live(connection).next("session.snapshot")
    else:
        with pytest.raises(InvalidStatus):
            async with live(base, session, origin=origin):
                pass


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::2]"],
)
def test_a_name_that_is_not_the_servers_is_not_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/api/v1/sessions", headers={"Host": host}).status_code in (400, 403)


def test_what_a_client_says_its_path_or_host_is_changes_nothing(tmp_path: Path) -> None:
    with serve(app_in(tmp_path, keyless=False)) as base:
        port = int(base.rpartition(":")[2])
        for request in (
            f"GET http://127.0.0.1:{port}/healthz/../api/v1/keys HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
            f"GET /healthz/../api/v1/keys HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
            f"GET /healthz%2f..%2fapi/v1/keys HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
            f"GET /api/v1/keys HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Original-URL: /healthz\r\n"
            "X-Rewrite-URL: /healthz\r\nX-Forwarded-Prefix: /healthz\r\nX-Forwarded-For: 127.0.0.1\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(f"{request}Connection: close\r\n\r\n".encode())
                answer = raw.makefile("rb").read()
            assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404"), answer


@pytest.mark.parametrize(
    "model",
    [
        "openai/http://169.254.169.254/latest/meta-data/v1/x",
        "openai/http://localhost:22/v1/x",
        "openai/http://127.0.0.1:8000@evil.example/v1/x",
        "local/../../etc",
        "local//etc",
        "local/~/secrets",
        "local/someone/with-remote-code",
        "local/smollm2#../../../etc",
        "local/smollm2#..",
        "local/smollm2#/etc/passwd",
    ],
)
def test_no_request_seats_a_model_that_reaches_what_the_operator_can(
    client: httpx.Client, model: str
) -> None:
    made = client.post("/api/v1/sessions", json={"example": "scripted", "model": model})
    assert made.status_code == 422, made.text
    session = create(client)
    changed = client.put(f"/api/v1/sessions/{session}/seats/A1/model", json={"model": model})
    assert changed.status_code in (409, 422), changed.text
    guest = client.post(f"/api/v1/sessions/{session}/seats", json={"seat": "guest", "model": model})
    assert guest.status_code in (409, 422), guest.text
    society = small_society().model_copy(
        update={"agents": (Agent(name="S0", place=0, model="scripted/kind", rating_model=model),)}
    )
    hidden = client.post("/api/v1/sessions", json={"society": society.model_dump(mode="json")})
    assert hidden.status_code == 422, hidden.text


@pytest.mark.parametrize("embedding", ["local/../../etc", "local//etc/passwd", "litellm/x"])
def test_nor_an_embedding(client: httpx.Client, embedding: str) -> None:
    society = small_society(embedding=embedding).model_dump(mode="json")
    assert client.post("/api/v1/sessions", json={"society": society}).status_code == 422


@pytest.mark.parametrize("source", ["/etc/passwd", "../../secrets.csv", "hf:someone/data", "questions.jsonl"])
@pytest.mark.parametrize("part", ["questions", "memories"])
def test_no_request_has_a_file_read(client: httpx.Client, part: str, source: str) -> None:
    toml = f'name = "x"\n[agents]\nmodel = "scripted/kind"\n[{part}]\nsource = "{source}"\n'
    made = client.post("/api/v1/sessions", json={"toml": toml})
    assert made.status_code == 422
    assert "Put its lines into the text" in made.json()["error"]["message"]
    named = client.post("/api/v1/sessions", json={"example": source})
    assert named.status_code == 422


@pytest.mark.parametrize(
    "extra",
    [
        {"person": "Bob"},
        {"rater": "A1"},
        {"seat": "A1"},
        {"role": "draft"},
        {"method": "likelihood"},
        {"usage": {"cost": -5}},
        {"rubric": 9},
        {"unparsed": "refusal"},
    ],
)
async def test_nobody_sets_who_they_are_or_how_they_rated(
    base: str, client: httpx.Client, extra: dict[str, Any]
) -> None:
    session = create(client)
    said = client.post(f"/api/v1/sessions/{session}/messages", json={"text": "Hi", "to": ["A1"]}).json()
    message = f"{said['interaction']}.reply.A1"
    wait_for(lambda: len(client.get(f"/api/v1/sessions/{session}/messages").json()["items"]) == 2)
    body = {"message": message, "value": 5, **extra}
    assert client.post(f"/api/v1/sessions/{session}/ratings", json=body).status_code == 422
    async with live(base, session) as connection:
        answer = await Live(connection).command("1", do="rate", **body)
    assert answer["data"]["code"] == "invalid"
    assert client.get(f"/api/v1/sessions/{session}/ratings").json()["items"] == []


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


def test_a_body_over_the_limit_is_refused_and_a_packed_one_not_unpacked(client: httpx.Client) -> None:
    big = client.post("/api/v1/sessions", content=b"[" + b"1," * 100_000)
    assert big.status_code == 413
    assert big.json()["error"]["code"] == "too_large"

    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 10_000

    assert client.post("/api/v1/sessions", content=endless()).status_code in (400, 413, 422)
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    packed = client.post("/api/v1/sessions", content=bomb, headers={"Content-Encoding": "gzip"})
    assert packed.status_code in (400, 422)
    deep = client.post("/api/v1/sessions", content=b"[" * 50_000 + b"]" * 50_000)
    assert deep.status_code in (400, 422)
    assert client.get("/healthz").status_code == 200


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

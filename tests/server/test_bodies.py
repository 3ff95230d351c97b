"""Bodies that are too large, packed or wrong are told so, and are no fault."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import create, said_to, status_of

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def base(friendly: str) -> str:
    return friendly


# Bodies and faults


def test_a_body_over_the_limit_is_refused_however_it_comes(base: str, client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 10_000

    for content in (b"[" + b"1," * 100_000, endless()):
        for path in ("/api/v1/sessions", "/v1/embeddings"):
            refused = client.post(path, content=content, headers=JSON)  # type: ignore[arg-type]
            assert refused.status_code == 413, refused.text
            assert "100,000" in refused.json()["error"]["message"]
            content = endless() if not isinstance(content, bytes) else content
    for length in ("99999999999", "-1", "1e3", "0x10", "١٢"):
        head = f"POST /api/v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
        assert status_of(said_to(base, head)) in (400, 413), length
    assert client.get("/healthz").status_code == 200


def test_a_packed_body_is_not_unpacked(client: httpx.Client) -> None:
    bomb = gzip.compress(b'{"example": "scripted"' + b" " * 50_000_000 + b"}")
    assert len(bomb) < 100_000
    small = gzip.compress(b'{"example": "scripted"}')
    for content in (bomb, small):
        began = time.monotonic()
        packed = client.post(
            "/api/v1/sessions", content=content, headers={**JSON, "Content-Encoding": "gzip"}
        )
        assert packed.status_code in (400, 415, 422), packed.text
        assert time.monotonic() - began < 5


def test_a_wrong_request_is_told_so_and_is_no_fault(client: httpx.Client, logged: Any) -> None:
    session = create(client, seats="2x2")
    at = f"/api/v1/sessions/{session}"
    for method, path, body in (
        ("PUT", f"{at}/seats/!!/model", {"model": "scripted/kind"}),
        ("POST", f"{at}/seats/%00/take", {}),
        ("POST", f"{at}/seats/{'x' * 99}/leave", None),
        ("GET", f"{at}/messages?interaction={10**30}", None),
        ("GET", f"{at}/interactions?round={10**30}", None),
        ("GET", f"{at}/ratings?interaction={-(10**30)}", None),
        ("GET", f"{at}/events?after={10**30}", None),
        ("DELETE", f"/api/v1/keys/{10**30}", None),
        ("POST", f"{at}/fork", {"at": 10**30}),
        ("POST", f"{at}/turns", {"interaction": 10**30, "step": "draft"}),
        ("PUT", f"{at}/rubric", {"language": "../../etc"}),
    ):
        response = client.request(method, path, json=body)
        assert response.status_code in (409, 422), (path, response.text)
        assert set(response.json()) == {"error"}
        assert ".db" not in response.text, "nor where anything is kept"
        assert "Traceback" not in response.text
    assert logged() == []


def test_half_a_character_becomes_one_that_can_be_kept(client: httpx.Client) -> None:
    session = create(client, seats="2x2")
    here = f"/api/v1/sessions/{session}"
    for path, body in (
        (f"{here}/messages", '{"text": "half \\ud83d", "to": ["A1"]}'),
        (f"{here}/questions", '{"question": "half \\uDE00?", "seat": "A1", "society": false}'),
        (f"{here}/invites", '{"consent_text": "half \\ud83d", "consent_version": "1"}'),
    ):
        taken = client.post(path, content=body, headers=JSON)
        assert taken.status_code < 300, (path, taken.text)
    kept = client.get(f"{here}/events").text
    assert "half \ufffd" in kept
    whole = client.post(f"{here}/messages", content='{"text": "\\ud83d\\ude00", "to": ["A1"]}', headers=JSON)
    assert whole.status_code < 300
    assert "\U0001f600" in client.get(f"{here}/events").text


@pytest.mark.parametrize("inmost", ["1", '"half \\ud83d"'])
@pytest.mark.parametrize("deep", [101, 600, 900])
def test_what_is_nested_too_deeply_is_refused(
    client: httpx.Client, deep: int, inmost: str, logged: Any
) -> None:
    nested = '{"a":[' * (deep // 2) + inmost + "]}" * (deep // 2)
    for path, body in (
        ("/api/v1/sessions", f'{{"society": {nested}}}'),
        ("/api/v1/invites/join", f'{{"ticket": {nested}}}'),
        ("/v1/chat/completions", f'{{"model": "x", "messages": [], "tools": [{nested}]}}'),
        ("/v1/responses", f'{{"model": "x", "input": [{nested}]}}'),
    ):
        refused = client.post(path, content=body, headers=JSON)
        assert refused.status_code == 422, (path, refused.text)
        assert "100 levels" in refused.json()["error"]["message"]
    assert logged() == []


@pytest.mark.parametrize("unseen", ["\u202e", "\u200b", "\ufeff", "\x1b[2J"])
def test_a_sessions_name_shows_all_of_itself(client: httpx.Client, unseen: str) -> None:
    session = create(client, seats="2x2")
    society = client.get(f"/api/v1/sessions/{session}/events").json()["items"][0]["event"]["society"]
    refused = client.post("/api/v1/sessions", json={"society": {**society, "name": f"vil{unseen}lage"}})
    assert refused.status_code == 422, refused.text
    assert unseen not in refused.text
    for name in ("Bücher 村", "\U0001f469\u200d\U0001f680", "می\u200cخواهم"):
        taken = client.post("/api/v1/sessions", json={"society": {**society, "name": name}})
        assert taken.status_code == 201, name


def test_a_headers_own_name_is_no_secret(client: httpx.Client) -> None:
    session = create(client, seats="2x2")
    long = {"Idempotency-Key": "x" * 200}
    refused = client.post(f"/api/v1/sessions/{session}/pause", headers=long)
    assert refused.status_code == 422
    assert "[redacted]" not in refused.text
    assert "idempotency-key" in refused.text.lower()
    leaked = client.post("/api/v1/sessions", json={"sk-abcdefgh12345678": 1, "example": "scripted"})
    assert "abcdefgh" not in leaked.text

"""A key is used in every way, right and wrong; then it is looked for everywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest
from serving import Live, Server, create, live, wait_for
from websockets.exceptions import InvalidStatus

from sandbox.running import Store
from server.auth import Keys
from server.wire.views import CreateKey


async def test_a_key_is_nowhere_to_be_found(tmp_path: Path) -> None:
    """Used in every way, right and wrong: it is in no log, row, file, export, frame or error."""
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1)
    key = keys.create(CreateKey(name="canary", scopes=("admin",))).key
    store.close()
    seen: list[str] = []
    server = Server(str(tmp_path / "server.db"), tmp_path, log_format="json", log_level="debug")
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
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
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

"""Ten thousand frames of nonsense, and frames over the limit: nothing falls over."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import string
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from serving import Live, Server, create, live, wait_for
from websockets.exceptions import ConnectionClosed

FRAMES = 10_000
COMMANDS: list[dict[str, Any]] = [
    {"do": "say", "text": "Hello", "to": ["A1"]},
    {"do": "rate", "message": "1.draft", "value": 5},
    {"do": "answer", "interaction": 1, "step": "draft", "text": "x"},
    {"do": "take", "seat": "A1", "absent": "abstain", "patience_s": 1},
    {"do": "leave", "seat": "A1"},
    {"do": "react", "message": "1.draft", "reaction": "+1"},
    {"do": "add_seat", "seat": "guest"},
    {"do": "change_model", "seat": "A1", "model": "scripted/kind"},
    {"do": "change_rubric", "rubric": {"peer": "alignment"}},
    {"do": "judge", "message": "1.draft", "seat": "A1"},
]
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    "",
    "\ud800",
    "\x00",
    "x" * 5000,
    [],
    {},
    [[[[]]]],
    {"do": "say"},
    "NaN",
)


def nonsense(rng: random.Random) -> str | bytes:
    """A frame that is wrong in one of many ways, or right by chance."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return "".join(rng.choices(string.printable, k=rng.randrange(300)))
    if kind == 2:
        return rng.choice(("[", '{"a":')) * rng.randrange(1, 50_000)
    if kind == 3:
        return json.dumps(rng.choice(ODD))
    command = dict(rng.choice(COMMANDS))
    frame: dict[str, Any] = {"v": 1, "type": "command", "cid": str(rng.randrange(1000)), "data": command}
    place = rng.choice((frame, command))
    for _ in range(rng.randrange(3)):
        place[rng.choice([*place, "more"])] = rng.choice(ODD)
    if kind == 4 and place:
        del place[rng.choice(list(place))]
    text = json.dumps(frame)
    if kind == 5:
        cut = rng.randrange(len(text))
        text = text[:cut] + rng.choice(string.printable) + text[cut + rng.randrange(3) :]
    return text


@pytest.mark.timeout(240)
async def test_ten_thousand_frames_of_nonsense_harm_nobody(base: str) -> None:
    with httpx.Client(base_url=base, timeout=60) as client:
        session = create(client, rounds=0)
        other = create(client, rounds=10, model="scripted/steady?latency=20")
        client.post(f"/api/v1/sessions/{other}/start").raise_for_status()

        async def vandal(seed: int) -> int:
            rng = random.Random(seed)
            sent = 0
            async with live(base, session, max_size=None) as connection:
                reading = asyncio.create_task(_drain(connection))
                for _ in range(FRAMES // 5):
                    await connection.send(nonsense(rng))
                    sent += 1
                await connection.send(json.dumps({"v": 1, "type": "ping", "cid": "still-there"}))
                async with asyncio.timeout(120):
                    await reading
            return sent

        async def _drain(connection: Any) -> None:
            async for text in connection:
                frame = json.loads(text)
                if frame["type"] == "ack" and frame["data"]["ref"] == "still-there":
                    return

        async with live(base, other) as watching:
            watcher = Live(watching)
            sent = await asyncio.gather(*(vandal(seed) for seed in range(5)))
            assert sum(sent) == FRAMES
            await watcher.event("run_finished", 120)
        seqs = [frame["seq"] for frame in watcher.frames if frame["type"] == "event"]
        assert seqs == list(range(seqs[0], seqs[-1] + 1))
        view = client.get(f"/api/v1/sessions/{session}/snapshot")
        assert view.status_code == 200
        assert client.get("/healthz").status_code == 200


async def test_a_frame_over_the_limit_is_told_and_costs_nothing(tmp_path: Path) -> None:
    server = Server(str(tmp_path / "server.db"), tmp_path)
    try:
        wait_for(server.ready, 60)
        session = create(server.client)
        base, process = server.base, psutil.Process(server.process.pid)
        before = process.memory_info().rss
        async with live(base, session) as connection:
            await connection.send("x" * 300_000)
            watcher = Live(connection)
            assert (await watcher.next("error"))["data"]["code"] == "too_large"
            with pytest.raises(ConnectionClosed) as closed:
                await watcher.next("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        for _ in range(20):
            async with live(base, session) as connection:
                with pytest.raises((ConnectionClosed, ConnectionError)):
                    await connection.send("x" * 20_000_000)  # far over it: cut off
                    await Live(connection).next("never")
        assert process.memory_info().rss - before < 40e6
        async with live(base, session, compression="deflate") as connection:
            assert not connection.protocol.extensions, "what is not unpacked can't be a bomb"
        async with live(base, session) as connection:
            await connection.send(iter(["x" * 100_000] * 5))
            told = await Live(connection).next("error")
            assert told["data"]["code"] == "too_large", "in fragments, too"
    finally:
        server.end(signal.SIGTERM)


def test_nonsense_on_the_wire_is_not_answered_with_a_fall(base: str) -> None:
    port = int(base.rpartition(":")[2])
    rng = random.Random(5)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(
                rng.choice((b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n", b"", b"\x00\xff"))
                + rng.randbytes(400)
            )
    assert httpx.get(f"{base}/healthz").status_code == 200

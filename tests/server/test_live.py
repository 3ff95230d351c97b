"""The live websocket: nothing missing, nothing twice, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Live, app_in, create, live, serve, status, wait_for
from websockets.exceptions import ConnectionClosed

from sandbox.events import load
from server.wire.snapshot import Snapshot


def all_events(client: httpx.Client, session: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = client.get(f"/api/v1/sessions/{session}/events", params={"after": after, "limit": 1000}).json()
        items += page["items"]
        after = page["next"]
    return items


async def test_a_client_is_greeted_and_shown_where_things_stand(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session) as connection:
        watcher = Live(connection)
        hello, shown = await watcher.next(), await watcher.next()
    assert hello["type"] == "session.hello"
    assert hello["data"]["version"] == 1
    assert hello["data"]["heartbeat_s"] > 0
    assert shown["type"] == "session.snapshot"
    assert shown["seq"] == hello["data"]["head"] == 1
    fresh = client.get(f"/api/v1/sessions/{session}/snapshot").json()
    assert Snapshot.model_validate(shown["data"]) == Snapshot.model_validate(fresh)


async def test_every_event_comes_once_in_order_and_as_it_is_stored(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session) as connection:
        watcher = Live(connection)
        assert (await watcher.command("1", do="start"))["type"] == "ack"
        await watcher.event("run_finished")
    frames = [frame for frame in watcher.frames if frame["type"] == "event"]
    stored = all_events(client, session)
    assert [frame["seq"] for frame in frames] == list(range(2, len(stored) + 1))
    for frame, item in zip(frames, stored[1:], strict=True):
        assert frame["id"] == f"{item['epoch']}:{item['seq']}"
        sent = frame["data"]["event"]
        assert {key: item["event"][key] for key in sent}.keys() == sent.keys()
        assert load(json.dumps(sent)) == load(json.dumps(item["event"]))
        assert frame["ts"] == item["time"]


async def test_text_comes_in_pieces_while_it_is_generated(base: str, client: httpx.Client) -> None:
    session = create(client, rounds=1)
    async with live(base, session) as connection:
        watcher = Live(connection)
        await watcher.command("1", do="start")
        await watcher.event("run_finished")
    deltas = [frame for frame in watcher.frames if frame["type"] == "delta"]
    assert deltas
    assert all(frame["seq"] is None for frame in deltas)
    texts = {
        (event["interaction"], event["step"]): event["text"]
        for frame in watcher.frames
        if frame["type"] == "event" and (event := frame["data"]["event"])["type"] == "message_posted"
    }
    said: dict[tuple[int, str], str] = {}
    for frame in deltas:
        key = (frame["data"]["interaction"], frame["data"]["step"])
        said[key] = said.get(key, "") + frame["data"]["text"]
    assert all(texts[key] == text for key, text in said.items())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("latency", [0, 30])
async def test_pieces_come_before_the_message_that_they_make_up(
    base: str, client: httpx.Client, latency: int
) -> None:
    session = create(client, seats="2x2", rounds=1, model=f"scripted/steady?latency={latency}")
    async with live(base, session) as connection:
        watcher = Live(connection)
        await watcher.next("session.snapshot")
        client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        posted: set[tuple[int, str]] = set()
        pieces: dict[tuple[int, str], str] = {}
        while True:
            frame = await watcher.next()
            if frame["type"] == "delta":
                key = (frame["data"]["interaction"], frame["data"]["step"])
                assert key not in posted
                pieces[key] = pieces.get(key, "") + frame["data"]["text"]
            elif frame["type"] == "event":
                event = frame["data"]["event"]
                if event["type"] == "message_posted":
                    key = (event["interaction"], event["step"])
                    posted.add(key)
                    assert pieces[key].strip() == event["text"]
                elif event["type"] == "run_finished":
                    return


async def test_five_hundred_disconnects_leave_no_gap(base: str, client: httpx.Client) -> None:
    """Clients that leave at any moment, politely or not, and come back with the last seq they have."""
    session = create(client, rounds=40, model="scripted/steady?latency=20")
    client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    rng = random.Random(7)
    resyncs = 0

    async def visitor(times: int) -> int:
        nonlocal resyncs
        since, seen = None, 0
        for _ in range(times):
            async with live(base, session, since) as connection:
                stay = rng.uniform(0, 0.15)
                try:
                    async with asyncio.timeout(stay):
                        while True:
                            frame = json.loads(await connection.recv())
                            if frame["type"] in ("session.snapshot", "resync.required"):
                                resyncs += since is not None
                                seen = frame["seq"]
                            elif frame["type"] == "event":
                                assert frame["seq"] == seen + 1, "a gap, or an event twice"
                                seen = frame["seq"]
                            if seen:
                                since = f"{frame['epoch']}:{seen}"
                except TimeoutError:
                    pass
                if rng.random() < 0.5:
                    connection.transport.abort()
        return seen

    await asyncio.gather(*(visitor(50) for _ in range(10)))
    head = client.get(f"/api/v1/sessions/{session}").json()["events"]
    assert head > 200
    assert resyncs == 0
    assert status(client, session) in ("running", "finished")
    client.post(f"/api/v1/sessions/{session}/stop").raise_for_status()


@pytest.mark.parametrize(
    ("since", "reason"),
    [("deadbeef:3", "epoch"), ("{epoch}:99999", "ahead")],
)
async def test_who_can_not_go_on_begins_anew(
    base: str, client: httpx.Client, since: str, reason: str
) -> None:
    session = create(client)
    epoch = client.get(f"/api/v1/sessions/{session}").json()["epoch"]
    async with live(base, session, since.format(epoch=epoch)) as connection:
        watcher = Live(connection)
        again = await watcher.next("resync.required")
        assert again["data"]["reason"] == reason
        assert again["data"]["snapshot"]["seq"] == again["seq"] == 1
        await watcher.command("1", do="say", text="Hello", to=["A1"])
        assert (await watcher.next("event"))["seq"] == 2


async def test_who_was_away_too_long_begins_anew(tmp_path: Path) -> None:
    with serve(app_in(tmp_path, max_lag=10)) as base, httpx.Client(base_url=base, timeout=30) as client:
        session = create(client, rounds=4)
        client.post(f"/api/v1/sessions/{session}/start")
        wait_for(lambda: status(client, session) == "finished")
        view = client.get(f"/api/v1/sessions/{session}").json()
        async with live(base, session, f"{view['epoch']}:1") as connection:
            again = await Live(connection).next("resync.required")
        assert again["data"]["reason"] == "too_old"
        assert again["seq"] == view["events"]


async def test_a_client_that_reads_too_slowly_is_closed_and_resumes(tmp_path: Path) -> None:
    with (
        serve(app_in(tmp_path, max_lag=50, slow_s=0.3)) as base,
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        session = create(client, rounds=60, model="scripted/steady?latency=2")
        port = int(base.rpartition(":")[2])
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(
            f"GET /api/v1/sessions/{session}/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        async with live(base, session) as connection:
            quick = Live(connection)
            await quick.command("1", do="start")
            await quick.event("run_finished", 60)
        frames = [frame["seq"] for frame in quick.frames if frame["type"] == "event"]
        assert frames == list(range(2, frames[-1] + 1)), "others are not held up"
        dropped = wait_for(lambda: "sandbox_sockets_dropped_total 1.0" in client.get("/metrics").text)
        assert dropped
        raw.close()


async def test_a_command_sent_twice_is_carried_out_once_also_after_a_reconnect(
    base: str, client: httpx.Client
) -> None:
    session = create(client)
    async with live(base, session) as connection:
        first = await Live(connection).command("same", do="say", text="Hello", to=["A1"])
    async with live(base, session) as connection:
        watcher = Live(connection)
        again = await watcher.command("same", do="say", text="Hello", to=["A1"])
        other = await watcher.command("other", do="say", text="Hello", to=["A1"])
    assert first["data"] == again["data"]
    assert other["data"]["interaction"] != first["data"]["interaction"]
    said = client.get(f"/api/v1/sessions/{session}/messages").json()["items"]
    assert len([message for message in said if message["step"] == "message"]) == 2


async def test_an_id_is_good_for_one_command(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session) as one, live(base, session) as two:
        first = await Live(one).command("1", do="say", text="Hello", to=["A1"])
        other = await Live(two).command("1", do="say", text="Something else", to=["A1"])
    assert first["type"] == "ack"
    assert other["type"] == "error", "not passed over in silence"
    assert "UUID" in other["data"]["message"]


async def test_a_run_goes_on_when_who_started_it_leaves(base: str, client: httpx.Client) -> None:
    session = create(client, rounds=2, model="scripted/steady?latency=20")
    async with live(base, session) as connection:
        await Live(connection).command("1", do="start")
    wait_for(lambda: status(client, session) == "finished")


async def test_who_is_there_is_told(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session) as one, live(base, session, query={"person": "Ann"}):
        watcher = Live(one)
        while (shown := await watcher.next("presence"))["data"]["people"] != ["Ann"]:
            pass
        assert shown["data"]["watching"] == 1
    async with live(base, session) as one:
        while (shown := await Live(one).next("presence"))["data"]["people"]:
            pass


async def test_frames_that_can_not_be_read_are_answered_and_the_connection_stays(
    base: str, client: httpx.Client
) -> None:
    session = create(client)
    async with live(base, session) as connection:
        watcher = Live(connection)
        for text in ("", "{", "[]", '{"type": "dance", "cid": "x"}', "null", '"x"', "[" * 10_000):
            await connection.send(text)
            assert (await watcher.next("error"))["data"]["code"] == "invalid"
        await connection.send(b"\x00\x01")
        assert (await watcher.next("error"))["data"]["code"] == "invalid"
        await connection.send(json.dumps({"v": 1, "type": "command", "cid": "mine", "data": {"do": "dance"}}))
        assert (await watcher.next("error"))["data"]["ref"] == "mine"
        await connection.send(json.dumps({"v": 1, "type": "ping", "cid": "p"}))
        assert (await watcher.next("ack"))["data"]["ref"] == "p"


async def test_a_session_that_is_deleted_ends_its_connections(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session) as connection:
        watcher = Live(connection)
        await watcher.next("session.snapshot")
        assert client.delete(f"/api/v1/sessions/{session}").status_code == 204
        assert (await watcher.next("session.deleted"))["session"] == session
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await watcher.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4410


@pytest.mark.parametrize("since", ["nonsense", "abc:", ":x", "abc:-1", "abc:1.5", "abc:" + "9" * 20])
async def test_a_place_that_can_not_be_understood_is_said_so(
    base: str, client: httpx.Client, since: str
) -> None:
    async with live(base, create(client), since) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, "EPOCH:SEQ" in closed.value.rcvd.reason) == (4400, True)


async def test_the_hello_comes_before_any_answer(base: str, client: httpx.Client) -> None:
    session = create(client)
    for _ in range(20):
        async with live(base, session) as connection:
            await connection.send(json.dumps({"v": 1, "type": "ping", "cid": "early"}))
            kinds = [json.loads(await connection.recv())["type"] for _ in range(3)]
        assert kinds[0] == "session.hello"
        assert "ack" in kinds


@pytest.mark.parametrize("name", ["nobody", "x" * 300, "..", "%00", "%F0%9F%92%A9"])
async def test_a_session_that_there_is_not_is_said_so(base: str, name: str) -> None:
    async with live(base, name) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404

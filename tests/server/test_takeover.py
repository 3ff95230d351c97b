"""Several processes on one PostgreSQL: one owns a run, and when it dies another goes on with it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Live, Server, app_in, create, live, serve, status, wait_for
from support import run_session

from sandbox import events as ev
from sandbox.blueprint import read_society
from sandbox.running import Store
from sandbox.societyfile import Overrides
from sandbox.store import sessions

KILLS = 20


def told(events: list[ev.Event], rounds: int) -> list[str]:
    """What happened in the first rounds, in an order and form that timing does not change."""
    last = max(
        event.first + event.count
        for event in events
        if isinstance(event, ev.RoundStarted) and event.round <= rounds
    )
    kept = []
    for event in events:
        if getattr(event, "interaction", last) < last:
            body = json.loads(ev.dump(event))
            body.pop("usage", None)
            kept.append(json.dumps(body, sort_keys=True))
    return sorted(kept)


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_when_the_owner_is_killed_another_takes_over_and_nothing_is_lost_or_doubled(
    postgres_url: str, tmp_path: Path
) -> None:
    store = Store.open(postgres_url)
    society = read_society(
        "scripted", Overrides(seats="3x3", rounds=10_000, model="scripted/steady?latency=100")
    )
    session = sessions.create(store.database, store.log, society, lease=False).key
    started = 0
    took: list[float] = []

    def begin() -> Server:
        nonlocal started
        started += 1
        server = Server(postgres_url, tmp_path, started)
        wait_for(server.ready, 60)
        return server

    def row() -> Any:
        return sessions.find(store.database, session)

    servers = [begin(), begin()]
    try:
        servers[0].client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        for kill in range(KILLS):
            owner = int(row().lease_owner.split(":")[1])
            victim = next(server for server in servers if server.process.pid == owner)
            servers.remove(victim)
            time.sleep(0.05 * (kill % 5))
            head = row().head
            victim.end(signal.SIGKILL)
            died = time.monotonic()
            wait_for(lambda owner=owner: f":{owner}:" not in (row().lease_owner or f":{owner}:"), 12)
            wait_for(lambda head=head: row().head > head + 1, 12)
            took.append(time.monotonic() - died)
            servers.append(begin())
        servers[-1].client.post(f"/api/v1/sessions/{session}/stop").raise_for_status()
    finally:
        for server in servers:
            server.end(signal.SIGTERM)
    assert max(took) < 10, took
    recorded = list(store.log.read(session))
    assert [r.seq for r in recorded] == list(range(1, len(recorded) + 1))
    events = [r.event for r in recorded]
    steps = Counter((e.interaction, e.step) for e in events if isinstance(e, ev.Step))
    assert max(steps.values()) == 1
    rounds = max(event.round for event in events if isinstance(event, ev.RoundFinished))
    assert rounds > 10
    undisturbed = run_session(store, society.model_copy(update={"rounds": rounds}), lambda _: _quick())
    assert told(events, rounds) == told(undisturbed, rounds)
    assert sum(event.type == "run_paused" for event in events) == 1
    store.close()


def _quick() -> Any:
    from support import scripted

    return scripted("scripted/steady")


@pytest.fixture
def pair(postgres_url: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two servers of one process on one database: as good as two hosts to each other."""
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(serve(app_in(tmp_path / name, postgres_url, command_timeout_s=10)))
            for name in ("one", "two")
        )  # type: ignore[misc]


@pytest.mark.postgres
async def test_whoever_is_asked_the_owner_does_it_and_all_see_it(pair: tuple[str, str]) -> None:
    one, two = (httpx.Client(base_url=base, timeout=30) for base in pair)
    with one, two:
        session = create(one, model="scripted/steady?latency=20")
        one.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        async with live(pair[1], session) as connection:
            watcher = Live(connection)
            shown = await watcher.next("session.snapshot")
            ack = await watcher.command("1", do="say", text="Hello from afar", to=["A1"])
            assert ack["type"] == "ack", ack
            again = await watcher.command("1", do="say", text="Hello from afar", to=["A1"])
            assert again["data"]["interaction"] == ack["data"]["interaction"]
            await watcher.event("run_finished")
        seqs = [frame["seq"] for frame in watcher.frames if frame["type"] == "event"]
        assert seqs == list(range(shown["seq"] + 1, seqs[-1] + 1))
        paused = two.post(f"/api/v1/sessions/{session}/pause")
        assert paused.status_code == 200, paused.text


@pytest.mark.postgres
def test_a_server_that_shuts_down_leaves_its_runs_to_others(postgres_url: str, tmp_path: Path) -> None:
    with (
        serve(app_in(tmp_path / "two", postgres_url)) as second,
        httpx.Client(base_url=second, timeout=30) as two,
    ):
        with serve(app_in(tmp_path / "one", postgres_url)) as first, httpx.Client(base_url=first) as one:
            session = create(one, rounds=6, model="scripted/steady?latency=50")
            one.post(f"/api/v1/sessions/{session}/start").raise_for_status()
            wait_for(lambda: two.get(f"/api/v1/sessions/{session}").json()["events"] > 30)
        wait_for(lambda: status(two, session) == "finished")
        items = two.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
        kinds = [item["event"]["type"] for item in items]
        assert "run_paused" not in kinds


@pytest.mark.postgres
async def test_two_workers_behind_one_address_are_one_server(postgres_url: str, tmp_path: Path) -> None:
    server = Server(postgres_url, tmp_path, options=("--workers", "2"), scan_s="0.2")
    try:
        wait_for(server.ready, 90)
        session = create(server.client, rounds=3, model="scripted/steady?latency=20")
        async with live(server.base, session) as one, live(server.base, session) as two:
            first, second = Live(one), Live(two)
            assert (await first.command("start", do="start"))["type"] == "ack"
            assert (await second.command("say", do="say", text="Hello", to=["A1"]))["type"] == "ack"
            for watcher in (first, second):
                await watcher.event("run_finished", 60)
        told = []
        for watcher in (first, second):
            told.append([frame["seq"] for frame in watcher.frames if frame["type"] == "event"])
            assert told[-1] == list(range(told[-1][0], told[-1][-1] + 1))
        for _ in range(20):  # whichever worker answers
            with httpx.Client(base_url=server.base) as client:
                assert status(client, session) == "finished"
    finally:
        server.end(signal.SIGTERM)
    assert "Traceback" not in server.said()


async def test_after_a_restart_running_sessions_go_on_and_paused_ones_do_not(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        running = create(client, rounds=6, model="scripted/steady?latency=50")
        paused = create(client, rounds=6, model="scripted/steady?latency=50")
        for session in (running, paused):
            client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        client.post(f"/api/v1/sessions/{paused}/pause").raise_for_status()
        wait_for(lambda: client.get(f"/api/v1/sessions/{running}").json()["events"] > 30)
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        wait_for(lambda: status(client, running) == "finished")
        assert status(client, paused) == "paused"
        client.post(f"/api/v1/sessions/{paused}/resume").raise_for_status()
        wait_for(lambda: status(client, paused) == "finished")
    await asyncio.sleep(0)


async def test_a_server_that_takes_nothing_over_spends_nothing_unasked(tmp_path: Path) -> None:
    """What was left running is paused when it is opened, and what runs is paused when the server ends."""
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        home, other = (create(client, rounds=50, model="scripted/steady?latency=50") for _ in range(2))
        for session in (home, other):
            client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
            wait_for(lambda session=session: client.get(f"/api/v1/sessions/{session}").json()["events"] > 20)
    store = Store.open(str(tmp_path / "server.db"))
    heads = {row.key: row.head for row in sessions.listing(store.database)}
    store.close()
    with (
        serve(app_in(tmp_path, session=home, take_over=False)) as base,
        httpx.Client(base_url=base) as client,
    ):
        wait_for(lambda: status(client, home) == "paused")
        asked = client.post(f"/api/v1/sessions/{other}/questions", json={"question": "Why?", "seat": "A1"})
        assert asked.status_code == 201, asked.text
        wait_for(lambda: status(client, other) == "paused")
        rounds = client.get(f"/api/v1/sessions/{home}/events", params={"after": heads[home]}).json()["items"]
        assert [row["event"]["type"] for row in rounds] == ["run_paused"]
        client.post(f"/api/v1/sessions/{home}/start").raise_for_status()
        wait_for(lambda: client.get(f"/api/v1/sessions/{home}").json()["events"] > heads[home] + 20)
    store = Store.open(str(tmp_path / "server.db"))
    assert {row.key: row.status for row in sessions.listing(store.database)} == {
        home: "paused",
        other: "paused",
    }
    store.close()
    await asyncio.sleep(0)

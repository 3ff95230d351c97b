"""Commands that meet: sent twice, at once, by two processes, by who goes away; and leases that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support import events_of, small_society

from sandbox import events as ev
from sandbox.errors import LeaseLost, StoreError
from sandbox.redaction import Redactor
from sandbox.settings import Settings
from sandbox.store import sessions
from sandbox.store.inbox import Inbox
from sandbox.store.log import SESSIONS
from server.auth import EVERYBODY
from server.run import Run
from server.runs import Result
from server.services import Services, assemble
from server.settings import ServerSettings
from server.wire import commands as do


@asynccontextmanager
async def serving(url: str, folder: Path, **settings: Any) -> AsyncIterator[Services]:
    """A server's parts, without its web side."""
    chosen = Settings(data_dir=folder, cache_dir=folder / "cache", db=url)
    services = assemble(chosen, ServerSettings(**{"scan_s": 0.1, **settings}), Redactor(), keyless=True)
    await services.open()
    try:
        yield services
    finally:
        await services.close()


def made(services: Services, **society: Any) -> str:
    store = services.store
    return sessions.create(store.database, store.log, small_society(**society), lease=False).key


def sends(services: Services, key: str, person: str = "Ann") -> Callable[[do.Command], Awaitable[Result]]:
    async def send(command: do.Command, cid: str | None = None) -> Result:
        return await services.runs.submit(key, EVERYBODY, person, cid or uuid4().hex, command)

    return send


def of(services: Services, key: str, kind: type[Any]) -> list[Any]:
    return [event for event in events_of(services.store, key) if isinstance(event, kind)]


async def test_a_command_is_carried_out_once_whoever_else_finds_it_in_the_inbox(
    database_url: str, tmp_path: Path
) -> None:
    async with serving(database_url, tmp_path) as services:
        key = made(services, rounds=0)
        send = sends(services, key)
        said = await send(do.Say(text="Hello", to=("S0",)))
        going = True

        async def look_and_look() -> None:
            while going:
                services.runs.wake(key)
                await asyncio.sleep(0.002)

        looking = asyncio.create_task(look_and_look())
        signs = [f"+{number}" for number in range(150)]
        target = f"{said.interaction}.message"
        for start in range(0, len(signs), 15):
            results = await asyncio.gather(
                *(send(do.React(message=target, reaction=sign)) for sign in signs[start : start + 15])
            )
            assert all(result.code is None for result in results)
        going = False
        await looking
        assert sorted(r.reaction for r in of(services, key, ev.ReactionGiven)) == sorted(signs)


async def test_the_same_command_sent_many_times_at_once_is_one(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url, tmp_path) as services:
        key = made(services, rounds=0)
        said = await sends(services, key)(do.Say(text="Hello", to=("S0",)))
        command = do.React(message=f"{said.interaction}.message", reaction="+1")
        results = await asyncio.gather(
            *(services.runs.submit(key, EVERYBODY, "Ann", "one", command) for _ in range(30))
        )
        assert {result.code for result in results} == {None}
        assert len(of(services, key, ev.ReactionGiven)) == 1


async def test_what_another_process_left_in_the_inbox_is_carried_out_soon(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(database_url, tmp_path) as services:
        key = made(services, rounds=0)
        await sends(services, key)(do.Take(seat="S0"))  # it is open here now
        row = sessions.find(services.store.database, key)
        elsewhere = Inbox(services.store.database)
        monkeypatch.setattr(services.store.database, "notify", lambda *_: None)  # as if it had been lost
        command = do.Say(text="Hello", to=("S1",)).model_dump(mode="json")
        body = {"person": "Bob", "command": command}
        assert row.id is not None
        left = await asyncio.to_thread(elsewhere.put, row.id, key, "key:9", "x", "say", body)
        async with asyncio.timeout(10):
            while (found := elsewhere.find(left.id)) and found.state == "waiting":
                await asyncio.sleep(0.05)
        assert found is not None
        assert found.state == "done"


async def test_what_one_client_sends_at_once_is_done_in_its_order(tmp_path: Path) -> None:
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=1000, model="scripted/steady?latency=20")
        send = sends(services, key)
        await send(do.Start())
        order = asyncio.Lock()
        for _ in range(10):
            paused, started = await asyncio.gather(
                *(
                    services.runs.submit(key, EVERYBODY, "Ann", uuid4().hex, c, order)
                    for c in (do.Pause(), do.Start())
                )
            )
            assert (paused.code, started.code) == (None, None)
            assert services.runs.here[key].is_running, "it was started after it was paused"


async def test_of_two_who_take_a_seat_at_once_one_has_it(tmp_path: Path) -> None:
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=0)
        take = do.Take(seat="S0")
        results = await asyncio.gather(
            *(sends(services, key, person)(take) for person in ("Ann", "Bob", "Carl"))
        )
        assert sorted(result.code or "" for result in results) == ["", "refused", "refused"]
        assert len(of(services, key, ev.SeatTaken)) == 1


async def test_who_goes_away_while_a_session_is_opened_leaves_it_open_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.open

    async def slow(run: Run) -> None:
        await asyncio.sleep(0.3)
        await whole(run)

    monkeypatch.setattr(Run, "open", slow)
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=0)
        send = sends(services, key)
        first = asyncio.create_task(send(do.Take(seat="S0")))
        await asyncio.sleep(0.1)
        first.cancel()
        async with asyncio.timeout(5):
            result = await send(do.Take(seat="S1"))
        assert result.code is None


async def test_a_session_that_can_not_be_opened_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.open
    fails = True

    async def failing(run: Run) -> None:
        await whole(run)
        if fails:
            raise StoreError("The database is away.")

    monkeypatch.setattr(Run, "open", failing)
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=0)
        with pytest.raises(StoreError):
            await sends(services, key)(do.Take(seat="S0"))
        fails = False
        async with asyncio.timeout(5):
            assert (await sends(services, key)(do.Take(seat="S1"))).code is None


async def test_a_process_that_lost_its_lease_says_so_and_does_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LEASE_SECONDS", 0.4)
    async with serving(str(tmp_path / "s.db"), tmp_path, scan_s=3600) as services:
        key = made(services, rounds=0)
        send = sends(services, key)
        await send(do.Take(seat="S0"))
        run = services.runs.here[key]
        ours = sa.update(SESSIONS).where(SESSIONS.c.key == key)
        thief = ours.values(lease_owner="far:1:x", lease_until=9e12)
        with services.store.database.writing() as connection:
            connection.execute(thief)
        with pytest.raises(LeaseLost):
            services.runs._parts.inbox.settle(run.handle, 1, "done", {})
        async with asyncio.timeout(5):
            while not run.is_lost:
                await asyncio.sleep(0.05)
        with services.store.database.writing() as connection:
            connection.execute(ours.values(lease_owner=None, lease_until=None))
        assert (await send(do.Leave(seat="S0"))).code is None, "and it can be had back"
        assert services.runs.here[key] is not run


async def test_a_database_that_is_away_for_a_moment_loses_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=0)
        send = sends(services, key)
        await send(do.Take(seat="S0"))
        people = services.runs.here[key].engine.people
        take = people.take

        async def away(*_: Any, **__: Any) -> None:
            raise StoreError("The database host db.internal does not answer.")

        monkeypatch.setattr(people, "take", away)
        result = await services.runs.submit(key, EVERYBODY, "Ann", "mine", do.Take(seat="S1"))
        assert result.code == "unavailable"
        assert "db.internal" not in result.message
        monkeypatch.setattr(people, "take", take)
        async with asyncio.timeout(5):
            while len(of(services, key, ev.SeatTaken)) < 2:
                await asyncio.sleep(0.05)
        again = await services.runs.submit(key, EVERYBODY, "Ann", "mine", do.Take(seat="S1"))
        assert again.code is None
        assert len(of(services, key, ev.SeatTaken)) == 2


async def test_a_fault_of_ours_is_told_once_and_not_met_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=0)
        send = sends(services, key)
        await send(do.Take(seat="S0"))
        calls = []

        async def broken(*_: Any, **__: Any) -> None:
            calls.append(1)
            raise ZeroDivisionError

        monkeypatch.setattr(services.runs.here[key].engine.people, "take", broken)
        result = await send(do.Take(seat="S1"))
        assert result.code == "internal"
        await asyncio.sleep(0.5)
        assert len(calls) == 1


@pytest.mark.parametrize("command", [do.Step(), do.Start(rounds=1), do.Start(rounds=0), do.Start()])
async def test_a_finished_session_says_so(tmp_path: Path, command: do.Command) -> None:
    async with serving(str(tmp_path / "s.db"), tmp_path) as services:
        key = made(services, rounds=1)
        send = sends(services, key)
        await send(do.Start())
        async with asyncio.timeout(20):
            while services.runs.here[key].engine.progress.status != "finished":
                await asyncio.sleep(0.02)
        result = await send(command)
        assert result.code == "refused"
        assert "rounds: 2" in result.message


async def test_a_step_that_a_process_dies_in_is_one_step(tmp_path: Path) -> None:
    url = str(tmp_path / "s.db")
    async with serving(url, tmp_path) as services:
        key = made(services, rounds=5, model="scripted/steady?latency=100")
        assert (await sends(services, key)(do.Step())).code is None
        await asyncio.sleep(0.2)  # in its midst
    async with serving(url, tmp_path) as services, asyncio.timeout(20):
        while not of(services, key, ev.RunPaused):
            await asyncio.sleep(0.05)
        assert len(of(services, key, ev.RoundFinished)) == 1
        assert len(of(services, key, ev.RoundStarted)) == 1
        await asyncio.sleep(0.3)
        assert len(of(services, key, ev.RoundStarted)) == 1


async def test_a_budget_given_at_the_start_outlives_the_process(tmp_path: Path) -> None:
    url = str(tmp_path / "s.db")
    async with serving(url, tmp_path, budget=100.0) as services:
        key = made(services, rounds=1)
        await sends(services, key)(do.Start(budget=0.25))
        ledger = services.runs.here[key].engine.ledger
        assert ledger is not None
        assert ledger.cap == 0.25
    async with serving(url, tmp_path, budget=100.0) as services:
        await sends(services, key)(do.Take(seat="S0"))
        ledger = services.runs.here[key].engine.ledger
        assert ledger is not None
        assert ledger.cap == 0.25
        await sends(services, key)(do.Start(rounds=2, budget=1000))
        assert ledger.cap == 100.0, "nobody goes beyond the server's own"

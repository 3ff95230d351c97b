"""People in seats when a run is paused, dies or goes on, and when a seat changes hands meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest
from people_support import in_session, of, waits
from support import engine_for, events_of, small_society

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.running import Store
from sandbox.store import sessions
from sandbox.store.inbox import Receipt


def test_who_is_away_while_the_run_is_paused_loses_no_time(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=1))

    async def first() -> None:
        engine = engine_for(store, handle)
        await engine.people.take("S0", "Ann", "abstain", 0.3)
        running = asyncio.create_task(engine.run())
        await waits(engine)
        running.cancel()
        await asyncio.wait([running])

    async def second() -> None:
        engine = engine_for(store, handle)
        running = asyncio.create_task(engine.run())
        async with asyncio.timeout(5):
            while (engine.people.waiting()[0].deadline or 0) < time.time() + 0.1:
                await asyncio.sleep(0.005)
        for turn in engine.people.waiting():
            if turn.scale:
                engine.people.answer(turn.interaction, turn.step, "Ann", value=5)
            else:
                engine.people.answer(turn.interaction, turn.step, "Ann", text="Here I am.")
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(first())
    time.sleep(0.5)
    asyncio.run(second())
    assert not of(events_of(store, handle.key), ev.TurnFailed)


def test_a_seat_that_changes_hands_while_paused_asks_who_sits_there_now(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    async def first() -> None:
        engine = engine_for(store, handle)
        await engine.people.take("S0", "Ann", "wait")
        asked = asyncio.create_task(engine.ask("Is it right?", "S0", society=False))
        await waits(engine)
        asked.cancel()
        await asyncio.wait([asked])

    async def second() -> None:
        engine = engine_for(store, handle)
        await engine.people.give_back("S0", "Ann")
        assert engine.people.waiting() == []
        await engine.people.take("S0", "Bob", "wait")
        finishing = asyncio.create_task(engine.finish_loose_ends())
        (turn,) = await waits(engine)
        assert turn.person == "Bob"
        engine.people.answer(turn.interaction, turn.step, "Bob", text="It is.")
        await finishing

    asyncio.run(first())
    asyncio.run(second())
    (answer,) = of(events_of(store, handle.key), ev.MessagePosted)
    assert (answer.person, answer.text) == ("Bob", "It is.")


def test_who_leaves_while_being_asked_is_not_waited_for(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        for _ in range(20):
            await engine.people.take("S0", "Ann", "wait")
            async with asyncio.timeout(10):
                await asyncio.gather(
                    engine.ask("Is it right?", "S0", society=False), engine.people.give_back("S0", "Ann")
                )

    events, _ = in_session(sqlite_store, work)
    assert len(of(events, ev.MessagePosted)) == 20


def test_one_person_keeps_nobody_else_waiting_after_a_restart(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    async def first() -> None:
        engine = engine_for(store, handle)
        await engine.people.take("S0", "Ann", "wait")
        await engine.people.take("S1", "Bob", "wait")
        asked = [asyncio.create_task(engine.ask("?", seat, society=False)) for seat in ("S0", "S1")]
        await waits(engine, 2)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)

    async def second() -> None:
        engine = engine_for(store, handle)
        finishing = asyncio.create_task(engine.finish_loose_ends())
        bobs = next(turn for turn in await waits(engine, 2) if turn.person == "Bob")
        await engine.people.until_asked(bobs.interaction, bobs.step, 5)
        engine.people.answer(bobs.interaction, bobs.step, "Bob", text="Mine.")
        async with asyncio.timeout(5):
            while len(engine.people.waiting()) > 1:
                await asyncio.sleep(0.01)
        finishing.cancel()
        await asyncio.wait([finishing])

    asyncio.run(first())
    asyncio.run(second())
    (answer,) = of(events_of(store, handle.key), ev.MessagePosted)
    assert answer.person == "Bob"


def test_an_answer_is_acknowledged_when_it_is_on_record_and_refused_if_the_run_stops_before(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(engine: Engine) -> list[str]:
        told: list[str] = []
        await engine.people.take("S0", "Ann", "wait")
        receipt = Receipt(1, lambda _: told.append("settled"), lambda error: told.append(str(error)))
        asked = asyncio.create_task(engine.ask("Is it right?", "S0", society=False))
        (turn,) = await waits(engine)
        engine.people.answer(turn.interaction, turn.step, "Ann", text="It is.", receipt=receipt)
        assert told == []
        await asked
        assert told == ["settled"]
        receipt = Receipt(2, lambda _: told.append("settled"), lambda error: told.append(str(error)))
        asked = asyncio.create_task(engine.ask("And now?", "S0", society=False))
        (turn,) = await waits(engine)
        engine.people.answer(turn.interaction, turn.step, "Ann", text="It was.", receipt=receipt)
        asked.cancel()
        await asyncio.wait([asked])
        return told

    events, told = in_session(sqlite_store, work)
    assert [message.text for message in of(events, ev.MessagePosted)] == ["It is."]
    assert len(told) == 2
    assert "again" in told[1] or "keep it" in told[1]

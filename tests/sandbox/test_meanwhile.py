"""What changes and is asked while a session runs: models, norms, talk, questions off the record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from people_support import in_session, of, waits
from support import engine_for, events_of, scripted, small_society

from sandbox import events as ev
from sandbox.embeddings import HashedEmbedder
from sandbox.engine import Engine
from sandbox.errors import (
    BudgetExhausted,
    EmptyReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    RateLimited,
    SessionError,
    SocietyError,
)
from sandbox.exchange import Reply, Request
from sandbox.models.base import OnDelta
from sandbox.progress import Progress, fold
from sandbox.records import assemble
from sandbox.redaction import Redactor
from sandbox.rubric import Criterion, Rubric
from sandbox.running import Store, spendable
from sandbox.society import Limits
from sandbox.store import sessions


def test_a_seat_speaks_through_another_model_from_its_next_request_on(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.ask("One?", "S1", society=False)
        await engine.amendments.change_model("S1", "scripted/echo")
        await engine.ask("Two?", "S1", society=False)
        with pytest.raises(SocietyError):
            await engine.amendments.change_model("S1", "scripted/nobody")
        with pytest.raises(SessionError, match="no seat"):
            await engine.amendments.change_model("S9", "scripted/kind")
        await engine.ask("Three?", "S1", society=False)

    events, _ = in_session(sqlite_store, work)
    models = [message.usage.model for message in of(events, ev.MessagePosted) if message.usage]
    assert models == ["scripted/steady", "scripted/echo", "scripted/echo"]
    (changed,) = of(events, ev.SeatChanged)
    assert (changed.model, changed.before) == ("scripted/echo", "scripted/steady")


def test_changes_of_a_model_are_rolled_back_one_by_one(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        change, back = engine.amendments.change_model, engine.amendments.roll_back_model
        with pytest.raises(SessionError, match="nothing to roll back"):
            await back("S1")
        await change("S1", "scripted/echo")
        await change("S1", "scripted/kind")
        await back("S1")
        await back("S1")
        with pytest.raises(SessionError, match="nothing to roll back"):
            await back("S1")
        await change("S1", "scripted/harsh")
        await back("S1")

    events, _ = in_session(sqlite_store, work)
    seated = [changed.model.removeprefix("scripted/") for changed in of(events, ev.SeatChanged)]
    assert seated == ["echo", "kind", "echo", "steady", "harsh", "steady"]
    assert fold(events).models_before == {"S1": []}


@pytest.mark.parametrize(
    ("error", "seated"), [(RateLimited, True), (EmptyReply, True), (ModelRefused, False)]
)
def test_a_model_is_tried_before_it_is_seated(
    sqlite_store: Store, error: type[ModelError], seated: bool
) -> None:
    class Failing:
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            raise error("Not now.")

    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    def models(spec: str) -> Any:
        return Failing() if spec.startswith("litellm/") else scripted(spec)

    async def run() -> None:
        engine = engine_for(store, handle, models)
        with nullcontext() if seated else pytest.raises(error):
            await engine.amendments.change_model("S1", "litellm/openai/gpt-4o-mini")

    asyncio.run(run())
    assert len(of(events_of(store, handle.key), ev.SeatChanged)) == seated


def test_a_local_model_that_can_not_be_loaded_is_not_seated(sqlite_store: Store) -> None:
    class Missing:
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            raise ModelUnavailable("There is no such adapter.")

    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    def models(spec: str) -> Any:
        return Missing() if spec.startswith("local/") else scripted(spec)

    async def run() -> None:
        engine = engine_for(store, handle, models)
        with pytest.raises(ModelUnavailable):
            await engine.amendments.change_model("S1", "local/smollm2#nothing")
        await engine.ask("Still there?", "S1", society=False)

    asyncio.run(run())
    assert not of(events_of(store, handle.key), ev.SeatChanged)
    assert of(events_of(store, handle.key), ev.MessagePosted)


def test_new_norms_hold_from_then_on_and_what_has_begun_ends_under_the_old(sqlite_store: Store) -> None:
    wit = Criterion(name="wit", question="How witty is it?", worst="dull", best="sharp")
    norms = Rubric(criteria=(wit,), peer="wit")

    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann", "wait")
        old = asyncio.create_task(engine.ask("Old?", "S1", society=True))
        (turn,) = await waits(engine)
        await engine.amendments.change_rubric(norms)
        engine.people.answer(turn.interaction, turn.step, "Ann", value=4)
        await old
        await engine.people.give_back("S0", "Ann")
        await engine.ask("New?", "S1", society=True)
        with pytest.raises(SocietyError, match="no prompts in language 'xx'"):
            await engine.amendments.change_rubric(norms.model_copy(update={"language": "xx"}))

    events, _ = in_session(sqlite_store, work)
    old, new = assemble(events)
    assert {(r.rubric, r.dimension) for r in old.ratings} == {(1, "alignment"), (1, "engagement")}
    assert {(r.rubric, r.dimension) for r in new.ratings} == {(2, "wit")}
    assert [event.rubric.version for event in of(events, ev.RubricChanged)] == [2]


def test_questions_off_the_record_leave_no_trace_and_disturb_nobody(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> list[ev.Event]:
        await engine.people.take("S0", "Ann", "wait")
        aside = await engine.aside()
        pieces: list[str] = []
        told = await aside.deliberate("S1", "Is it right?", on_delta=lambda step, _: pieces.append(step))
        assert set(pieces) == {"draft", "revision"}
        return told

    events, told = in_session(sqlite_store, work)
    assert [event.type for event in events] == ["session_created", "seat_taken"]
    assert told[-1] == ev.InteractionFinished(interaction=0, outcome="revised")
    assert all(rating.usage for rating in of(told, ev.RatingGiven))
    assert not of(told, ev.TurnAwaited)


def test_talk_and_questions_beside_a_running_round_get_numbers_of_their_own(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=4, size=(3, 3)))

    class Slow:
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            await asyncio.sleep(0.002)
            return await scripted("scripted/steady").generate(request, on_delta)

    async def run() -> None:
        engine = engine_for(store, handle, lambda _: Slow())
        running = asyncio.create_task(engine.run())
        beside = [
            asyncio.create_task(
                engine.say(f"Message {n}", ["S1"]) if n % 2 else engine.ask(f"Q{n}", "S2", society=True)
            )
            for n in range(12)
        ]
        numbers = await asyncio.gather(*beside)
        assert len(set(numbers)) == 12
        await running

    asyncio.run(run())
    events = events_of(store, handle.key)
    started = [event.interaction for event in of(events, ev.InteractionStarted)]
    assert len(started) == len(set(started)) == 4 * 9 + 12
    assert {record.outcome for record in assemble(events)} <= {"revised", "answered"}
    assert events[-1].type in ("run_finished", "interaction_finished")


def test_a_run_does_not_wait_for_who_is_asked_outside_its_rounds(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=2))

    async def left_open() -> None:
        engine = engine_for(store, handle)
        await engine.people.take("S1", "Ann", "wait")
        said = asyncio.create_task(engine.say("Are you there?", ["S1"], "Bob"))
        await waits(engine)
        said.cancel()
        await asyncio.wait([said])

    async def run() -> None:
        engine = engine_for(store, handle)
        running = asyncio.create_task(engine.run())
        loose = asyncio.create_task(engine.finish_loose_ends())
        async with asyncio.timeout(20):
            while engine.progress.rounds_done < 2:
                for turn in engine.people.waiting("Ann"):
                    if turn.purpose != "chat" and turn.interaction not in done:
                        done.add(turn.interaction)
                        await engine.people.until_asked(turn.interaction, turn.step, 5)
                        engine.people.skip(turn.interaction, turn.step, "Ann")
                await asyncio.sleep(0.001)
            await running
        (turn,) = engine.people.waiting("Ann")
        engine.people.answer(turn.interaction, turn.step, "Ann", text="I am.")
        await loose

    done: set[int] = set()
    asyncio.run(left_open())
    asyncio.run(run())
    events = events_of(store, handle.key)
    assert [m.text for m in of(events, ev.MessagePosted) if m.person] == ["I am."]
    assert not fold(events).open


def test_loose_ends_that_two_look_for_at_once_are_finished_once(sqlite_store: Store) -> None:
    class Slow(HashedEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Any]:
            await asyncio.sleep(0.05)
            return await super().embed(texts)

    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=1))

    async def first() -> None:
        engine = engine_for(store, handle, lambda _: scripted("scripted/steady?latency=200"))
        asked = asyncio.create_task(engine.ask("Is it right?", "S0", society=True))
        while not engine.progress.open:
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait([asked])

    async def second() -> None:
        progress = fold(events_of(store, handle.key))
        engine = Engine(store.log, handle, progress, scripted, Slow(), Redactor())
        await asyncio.gather(engine.run(), engine.finish_loose_ends())

    asyncio.run(first())
    asyncio.run(second())
    events = events_of(store, handle.key)
    assert fold(events).status == "finished"
    steps = [(event.interaction, event.step) for event in events if isinstance(event, ev.Step)]
    assert len(steps) == len(set(steps))


def test_without_money_a_question_ends_failed_and_nothing_stays_open(sqlite_store: Store) -> None:
    class Poor:
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            raise BudgetExhausted("The budget is spent.")

    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    async def run() -> None:
        engine = engine_for(store, handle, lambda _: Poor())
        for _ in range(3):
            await engine.ask("Is it right?", "S1", society=True)
        assert engine.progress.open == {}
        await engine.amendments.change_rubric(Rubric())

    asyncio.run(run())
    events = events_of(store, handle.key)
    assert {failure.error for failure in of(events, ev.TurnFailed)} == {"budget"}
    assert [over.outcome for over in of(events, ev.InteractionFinished)] == ["failed"] * 3


def test_a_seat_does_not_judge_what_it_wrote(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        written: Any = None

        def listener(recorded: ev.Recorded) -> None:
            nonlocal written
            written = recorded.event if isinstance(recorded.event, ev.MessagePosted) else written

        engine.watch(listener)
        number = await engine.ask("Is it right?", "S1", society=False)
        with pytest.raises(SessionError, match="their own"):
            await engine.judge(written, "Is it right?", "S1", "alignment")
        assert await engine.judge(written, "Is it right?", "S2", "alignment") > number

    in_session(sqlite_store, work)


def test_what_a_session_may_cost_is_the_least_of_what_was_said() -> None:
    def progress(limit: float | None, newest: float | None) -> Progress:
        society = small_society(limits=Limits(budget=limit))
        return Progress(society=society, seed=0, budget=newest)

    assert spendable(progress(None, None), None, None) is None
    assert spendable(progress(0.5, None), None, 100.0) == 0.5
    assert spendable(progress(0.5, 2.0), None, 100.0) == 2.0
    assert spendable(progress(0.5, 2.0), 3.0, 1.0) == 1.0
    assert spendable(progress(None, None), None, 1.0) == 1.0

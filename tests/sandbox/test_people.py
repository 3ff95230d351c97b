"""People in seats: what waits for them, what they answer, and what happens when they don't."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from people_support import in_session, of, waits
from support import engine_for, events_of, small_society

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.errors import SessionError
from sandbox.progress import fold
from sandbox.records import assemble
from sandbox.running import Store
from sandbox.society import Human
from sandbox.store import sessions


def test_a_person_answers_and_revises_as_the_centre(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S1", "Ann")
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        (draft,) = await waits(engine)
        assert (draft.purpose, draft.question, draft.scale) == ("draft", "Is it right?", None)
        engine.people.answer(draft.interaction, draft.step, "Ann", text="It is.")
        while (revision := (await waits(engine))[0]).step == "draft":
            await asyncio.sleep(0.001)
        assert revision.text == "It is."
        assert revision.mean is not None
        assert revision.reasons
        engine.people.answer(revision.interaction, revision.step, "Ann", text="It may be.")
        await asked

    events, _ = in_session(sqlite_store, work)
    (record,) = assemble(events)
    assert record.draft is not None
    assert record.revision is not None
    assert (record.draft.text, record.draft.person, record.draft.usage) == ("It is.", "Ann", None)
    assert record.revision.text == "It may be."
    assert record.outcome == "revised"
    assert record.calls() == 2 + 4, "two peers and two observers' ratings of both, nothing for the person"


def test_a_person_rates_as_peer_and_their_rating_counts(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann")
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        (turn,) = await waits(engine)
        assert (turn.purpose, turn.step, turn.target, turn.dimension) == (
            "rate",
            "rate.S0",
            f"{turn.interaction}.draft",
            "alignment",
        )
        assert turn.author == "", "who wrote it is not told"
        assert turn.deadline is not None
        with pytest.raises(SessionError, match="from 1 to 7"):
            engine.people.answer(turn.interaction, turn.step, "Ann", value=8)
        with pytest.raises(SessionError, match="from 1 to 7"):
            engine.people.answer(turn.interaction, turn.step, "Ann", text="good")
        with pytest.raises(SessionError, match="Nothing of the kind"):
            engine.people.answer(turn.interaction, turn.step, "Bob", value=5)
        engine.people.answer(turn.interaction, turn.step, "Ann", value=5, text="Kind.")
        with pytest.raises(SessionError, match="being recorded"):
            engine.people.answer(turn.interaction, turn.step, "Ann", value=6)
        await asked
        with pytest.raises(SessionError, match="Nothing of the kind"):
            engine.people.answer(turn.interaction, turn.step, "Ann", value=6)

    events, _ = in_session(sqlite_store, work)
    (given,) = [rating for rating in of(events, ev.RatingGiven) if rating.person]
    assert (given.rater, given.person, given.value, given.reason) == ("S0", "Ann", 5, "Kind.")
    assert (given.method, given.usage) == ("human", None)


@pytest.mark.parametrize("pass_by", ["skip", "deadline"])
def test_who_abstains_leaves_a_gap_and_no_number(sqlite_store: Store, pass_by: str) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann", "abstain", 60 if pass_by == "skip" else 0.05)
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        (turn,) = await waits(engine)
        if pass_by == "skip":
            engine.people.skip(turn.interaction, turn.step, "Ann")
        await asked

    events, _ = in_session(sqlite_store, work)
    (failed,) = of(events, ev.TurnFailed)
    assert (failed.error, failed.person, failed.usage) == ("abstained", "Ann", None)
    (record,) = assemble(events)
    assert record.outcome == "revised"
    assert "S0" not in {rating.rater for rating in record.peer_ratings()}


def test_the_model_stands_in_for_who_is_away(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann", "stand_in", 0.05)
        await engine.ask("Is it right?", "S1", society=True)

    events, _ = in_session(sqlite_store, work)
    (rating,) = [rating for rating in of(events, ev.RatingGiven) if rating.rater == "S0"]
    assert rating.person is None
    assert rating.usage is not None


def test_who_is_to_be_waited_for_is_waited_for_while_others_go_on(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann", "wait", 0.01)
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        (turn,) = await waits(engine)
        assert turn.deadline is None
        await asyncio.sleep(0.05)
        assert not asked.done()
        await engine.ask("Another?", "S2", society=False)
        engine.people.answer(turn.interaction, turn.step, "Ann", value=2)
        await asked

    events, _ = in_session(sqlite_store, work)
    assert {record.outcome for record in assemble(events)} == {"revised", "answered"}


def test_a_seat_handed_back_is_its_models_again_and_what_waited_too(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S0", "Ann", "wait")
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        await waits(engine)
        with pytest.raises(SessionError, match="does not sit"):
            await engine.people.give_back("S0", "Bob")
        await engine.people.give_back("S0", "Ann")
        await asked

    events, _ = in_session(sqlite_store, work)
    (rating,) = [rating for rating in of(events, ev.RatingGiven) if rating.rater == "S0"]
    assert rating.usage is not None
    assert not fold(events).people


def test_what_waits_outlives_a_crash_and_is_answered_a_day_later(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))

    async def first() -> ev.TurnAwaited:
        engine = engine_for(store, handle)
        await engine.people.take("S0", "Ann", "wait")
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        (turn,) = await waits(engine)
        asked.cancel()
        await asyncio.wait([asked])
        return turn

    async def later(turn: ev.TurnAwaited) -> None:
        engine = engine_for(store, handle)
        assert engine.people.waiting("Ann") == [turn]
        with pytest.raises(SessionError, match="paused"):
            engine.people.answer(turn.interaction, turn.step, "Ann", value=3)
        going_on = asyncio.create_task(engine.finish_loose_ends())
        async with asyncio.timeout(10):
            while True:
                try:
                    engine.people.answer(turn.interaction, turn.step, "Ann", value=3)
                except SessionError:
                    await asyncio.sleep(0.001)
                    continue
                break
        await going_on

    asyncio.run(later(asyncio.run(first())))
    events = events_of(store, handle.key)
    assert len(of(events, ev.TurnAwaited)) == 1, "it is announced once"
    (record,) = assemble(events)
    assert record.outcome == "revised"
    assert [r.value for r in record.ratings if r.person] == [3]
    steps = [(e.interaction, e.step) for e in events if isinstance(e, ev.Step)]
    assert len(steps) == len(set(steps))


def test_a_guest_peer_and_a_guest_observer_take_part_while_they_are_there(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.add_seat(Human(name="guest", role="peer"))
        await engine.people.add_seat(Human(name="juror", role="observer"))
        await engine.ask("Before?", "S1", society=True)
        await engine.people.take("guest", "Ann")
        await engine.people.take("juror", "Bob")
        asked = asyncio.create_task(engine.ask("Now?", "S1", society=True))
        answered = set()
        while not asked.done():
            for turn in engine.people.waiting():
                if (turn.interaction, turn.step) not in answered:
                    answered.add((turn.interaction, turn.step))
                    engine.people.answer(turn.interaction, turn.step, turn.person, value=6)
            await asyncio.sleep(0.001)
        await asked

    events, _ = in_session(sqlite_store, work)
    before, now = assemble(events)
    assert not [rating for rating in before.ratings if rating.person]
    by_person = sorted((r.person, r.target.partition(".")[2], r.dimension) for r in now.ratings if r.person)
    assert by_person == [
        ("Ann", "draft", "alignment"),
        ("Bob", "draft", "alignment"),
        ("Bob", "draft", "engagement"),
        ("Bob", "revision", "alignment"),
        ("Bob", "revision", "engagement"),
    ]
    assert now.outcome == "revised"


def test_several_people_and_one_person_in_several_seats(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        for seat, person in (("S0", "Ann"), ("S2", "Ann"), ("S3", "Bob")):
            await engine.people.take(seat, person)
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=True))
        for turn in await waits(engine, 2):
            engine.people.answer(turn.interaction, turn.step, turn.person, value=4)
        await asked
        assert len(engine.people.waiting("Ann")) == 0

    events, _ = in_session(sqlite_store, work)
    assert sorted(r.person for r in of(events, ev.RatingGiven) if r.person) == ["Ann", "Bob"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.take("nobody", "Ann"), "no seat 'nobody'"),
        (lambda p: p.take("S0", "S1"), "is a seat"),
        (lambda p: p.take("S0", "\x1b[31m"), "name begins with a letter"),
        (lambda p: p.take("guest", "Ann", "stand_in"), "No model can stand in"),
        (lambda p: p.take("S3", "Bob"), "Somebody sits at 'S3'"),
        (lambda p: p.add_seat(Human(name="S0")), "a seat 'S0' already"),
        (lambda p: p.add_seat(Human(name="all")), "reserved"),
        (lambda p: p.react("1.draft", "Ann", "x" * 17), "16 characters"),
    ],
)
def test_what_can_not_be_is_refused(sqlite_store: Store, call: Any, message: str) -> None:
    async def work(engine: Engine) -> int:
        await engine.people.add_seat(Human(name="guest"))
        await engine.people.take("S3", "Ann")
        with pytest.raises(SessionError, match=message):
            await call(engine.people)
        return len(engine.progress.people)

    events, people = in_session(sqlite_store, work)
    assert people == 1
    assert len(events) == 3


def test_nobody_rates_what_they_wrote(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.people.take("S1", "Ann")
        asked = asyncio.create_task(engine.ask("Is it right?", "S1", society=False))
        (turn,) = await waits(engine)
        engine.people.answer(turn.interaction, turn.step, "Ann", text="It is.")
        number = await asked
        with pytest.raises(SessionError, match="yours"):
            await engine.vote(f"{number}.answer", "alignment", 7, rater="Ann")
        said = await engine.say("Hello", ["S0"], "Ann")
        with pytest.raises(SessionError, match="yours"):
            await engine.vote(f"{said}.message", "alignment", 7, rater="Ann")
        await engine.vote(f"{number}.answer", "alignment", 2, rater="Bob")
        await engine.vote(f"{number}.answer", "alignment", 3, rater="Bob")

    events, _ = in_session(sqlite_store, work)
    votes = of(events, ev.RatingGiven)
    assert [vote.value for vote in votes] == [2, 3], "a vote is changed, and its history kept"


def test_people_do_not_follow_into_a_fork(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=0))
    asyncio.run(engine_for(store, handle).people.take("S0", "Ann"))
    fork = sessions.fork(store.database, store.log, handle.key)
    assert fold(events_of(store, handle.key)).people
    assert not fold(events_of(store, fork.key)).people

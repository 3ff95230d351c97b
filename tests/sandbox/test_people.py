"""People in seats: what waits for them, what they answer, and what happens when they don't."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from support import engine_for, events_of, scripted, small_society

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.errors import ModelUnavailable, SessionError, SocietyError
from sandbox.exchange import Reply, Request
from sandbox.models.base import OnDelta
from sandbox.progress import fold
from sandbox.records import assemble
from sandbox.rubric import Criterion, Rubric
from sandbox.running import Store
from sandbox.society import Human
from sandbox.store import sessions

T = TypeVar("T")


def in_session(
    store: Store, work: Callable[[Engine], Awaitable[Any]], **changes: object
) -> tuple[list[ev.Event], Any]:
    """Does some work with an engine; returns the events and what the work brought."""
    handle = sessions.create(store.database, store.log, small_society(rounds=0, **changes))

    async def run() -> Any:
        return await work(engine_for(store, handle))

    result = asyncio.run(run())
    return events_of(store, handle.key), result


async def waits(engine: Engine, count: int = 1) -> list[ev.TurnAwaited]:
    """What waits, once so much does."""
    async with asyncio.timeout(10):
        while len(engine.people.waiting()) < count:
            await asyncio.sleep(0.001)
    return engine.people.waiting()


def of(events: list[ev.Event], kind: type[T]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]


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


def test_a_seat_speaks_through_another_model_from_its_next_request_on(sqlite_store: Store) -> None:
    async def work(engine: Engine) -> None:
        await engine.ask("One?", "S1", society=False)
        await engine.change_model("S1", "scripted/echo")
        await engine.ask("Two?", "S1", society=False)
        with pytest.raises(SocietyError):
            await engine.change_model("S1", "scripted/nobody")
        with pytest.raises(SessionError, match="no seat"):
            await engine.change_model("S9", "scripted/kind")
        await engine.ask("Three?", "S1", society=False)

    events, _ = in_session(sqlite_store, work)
    models = [message.usage.model for message in of(events, ev.MessagePosted) if message.usage]
    assert models == ["scripted/steady", "scripted/echo", "scripted/echo"]
    (changed,) = of(events, ev.SeatChanged)
    assert (changed.model, changed.before) == ("scripted/echo", "scripted/steady")


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
            await engine.change_model("S1", "local/smollm2#nothing")
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
        await engine.change_rubric(norms)
        engine.people.answer(turn.interaction, turn.step, "Ann", value=4)
        await old
        await engine.people.give_back("S0", "Ann")
        await engine.ask("New?", "S1", society=True)
        with pytest.raises(SocietyError, match="no prompts in language 'xx'"):
            await engine.change_rubric(norms.model_copy(update={"language": "xx"}))

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

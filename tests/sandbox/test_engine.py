"""The engine: rounds, questions, talk, ratings, failures, and going on after a stop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support import canonical, engine_for, events_of, run_session, scripted, small_society

from sandbox import events as ev
from sandbox.errors import BudgetExhausted, ModelUnavailable, SessionError
from sandbox.exchange import Reply, Request
from sandbox.models.base import OnDelta
from sandbox.records import assemble
from sandbox.running import Store
from sandbox.society import Limits, Rules
from sandbox.store import sessions
from sandbox.store.log import Handle


class Counting:
    """A scripted model that notes what it is asked, and can be made to misbehave."""

    def __init__(self, spec: str = "scripted/steady") -> None:
        self.asked: Counter[tuple[int, str]] = Counter()
        self._model = scripted(spec)

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        self.asked[(request.seed, request.step)] += 1
        return await self._model.generate(request, on_delta)


def resumed(store: Store, key: str, models=scripted, **options) -> list[ev.Event]:  # type: ignore[no-untyped-def]
    handle = sessions.lease(store.database, key)
    asyncio.run(engine_for(store, handle, models).run(**options))
    sessions.release(store.database, handle)
    return events_of(store, key)


def test_two_runs_of_a_society_are_the_same(sqlite_store: Store) -> None:
    assert canonical(run_session(sqlite_store, small_society())) == canonical(
        run_session(sqlite_store, small_society())
    )


def test_another_seed_is_another_run(sqlite_store: Store) -> None:
    one = canonical(run_session(sqlite_store, small_society()))
    assert canonical(run_session(sqlite_store, small_society(seed=4))) != one


def test_how_fast_seats_answer_changes_nothing(sqlite_store: Store) -> None:
    class Jittery(Counting):
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            await asyncio.sleep((request.seed % 7) / 2000)
            return await super().generate(request, on_delta)

    jittery = Jittery()
    quick = canonical(run_session(sqlite_store, small_society()))
    assert canonical(run_session(sqlite_store, small_society(), lambda _: jittery)) == quick


def test_every_seat_is_asked_one_question_a_round(sqlite_store: Store) -> None:
    events = run_session(sqlite_store, small_society())
    asked = Counter((e.round, e.seat) for e in events if isinstance(e, ev.InteractionStarted))
    assert set(asked) == {(number, f"S{seat}") for number in (1, 2) for seat in range(4)}
    assert set(asked.values()) == {1}


def test_every_question_can_be_put_to_every_seat(sqlite_store: Store) -> None:
    rules = Rules(per_seat=0, prior_memories=0)
    events = run_session(sqlite_store, small_society(rules=rules, rounds=1))
    asked = {(e.seat, e.question) for e in events if isinstance(e, ev.InteractionStarted)}
    assert len(asked) == 4 * 5


def test_what_was_revised_is_recalled_in_the_next_round(sqlite_store: Store) -> None:
    questions = small_society().questions[:1]
    society = small_society(questions=questions, rules=Rules(prior_memories=0))
    events = run_session(sqlite_store, society)
    drafts = [e for e in events if isinstance(e, ev.MessagePosted) and e.role == "draft"]
    assert [draft.recalled for draft in drafts[:4]] == [None] * 4
    assert [draft.recalled for draft in drafts[4:]] == [questions[0].text] * 4


def test_a_run_cut_at_any_event_goes_on_to_the_same_end(sqlite_store: Store) -> None:
    store = sqlite_store
    whole = run_session(store, small_society())
    parent = sessions.listing(store.database)[0].key
    for at in range(1, len(whole)):
        handle = _cut(store, parent, at)
        counting = Counting()
        events = resumed(store, handle.key, lambda _, c=counting: c)
        assert canonical(events) == canonical(whole), f"cut at {at}"
        steps = sum(isinstance(e, ev.MessagePosted | ev.RatingGiven | ev.TurnFailed) for e in whole[:at])
        total = sum(isinstance(e, ev.MessagePosted | ev.RatingGiven | ev.TurnFailed) for e in whole)
        assert sum(counting.asked.values()) == total - steps, "nothing on record is paid for twice"


def _cut(store: Store, key: str, at: int) -> Handle:
    """A session whose log ends at an event, as after a crash: a fork without its mark."""
    events = events_of(store, key)[:at]
    created = events[0]
    assert isinstance(created, ev.SessionCreated)
    handle = sessions.create(store.database, store.log, created.society)
    if events[1:]:
        store.log.append_now(handle, events[1:])
    sessions.release(store.database, handle)
    return handle


def test_failed_turns_are_recorded_and_the_round_finishes(sqlite_store: Store) -> None:
    society = small_society(model="scripted/steady?fail=unavailable&rate=0.3")
    events = run_session(sqlite_store, society)
    failed = [e for e in events if isinstance(e, ev.TurnFailed)]
    assert failed
    assert all(e.error == "unavailable" for e in failed)
    assert events[-1] == ev.RunFinished()
    for record in assemble(events):
        assert record.outcome is not None
        assert not {f.step for f in record.failures} & {r.step for r in record.ratings}


def test_a_mumbling_society_has_no_ratings_at_all(sqlite_store: Store) -> None:
    records = assemble(run_session(sqlite_store, small_society(model="scripted/mumbling")))
    assert all(rating.value is None and rating.raw for record in records for rating in record.ratings)
    assert {record.peers_mean() for record in records} == {None}


def test_stopping_keeps_what_is_done_and_resuming_completes_it(sqlite_store: Store) -> None:
    store = sqlite_store
    expected = canonical(run_session(store, small_society()))
    handle = sessions.create(store.database, store.log, small_society())

    async def stop_soon() -> None:
        task = asyncio.create_task(
            engine_for(store, handle, lambda _: scripted("scripted/steady?latency=20")).run()
        )
        await asyncio.sleep(0.07)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop_soon())
    stopped = events_of(store, handle.key)
    assert stopped[-1] == ev.RunPaused(reason="stopped")
    assert sessions.find(store.database, handle.key).status == "paused"
    sessions.release(store.database, handle)
    events = resumed(store, handle.key)
    assert events[: len(stopped)] == stopped
    kept = [e for e in events if not isinstance(e, ev.RunPaused | ev.RunResumed)]
    # The model's name and latency are on record, and the first part had another latency.
    assert [e.type for e in kept].count("rating_given") == [
        "rating_given" in line for line in expected
    ].count(True)
    assert sessions.find(store.database, handle.key).status == "finished"


def test_a_finished_session_takes_more_rounds_only_when_asked(sqlite_store: Store) -> None:
    store = sqlite_store
    run_session(store, small_society())
    key = sessions.listing(store.database)[0].key
    handle = sessions.lease(store.database, key)
    with pytest.raises(SessionError, match="is finished"):
        asyncio.run(engine_for(store, handle).run())
    asyncio.run(engine_for(store, handle).run(rounds=3))
    events = events_of(store, key)
    assert [e.round for e in events if isinstance(e, ev.RoundFinished)] == [1, 2, 3]


def test_an_exhausted_budget_pauses_the_run(sqlite_store: Store) -> None:
    class Dear(Counting):
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            if sum(self.asked.values()) >= 5:
                raise BudgetExhausted("The next call may cost $1.00.")
            return await super().generate(request, on_delta)

    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(limits=Limits(in_flight=1)))
    dear = Dear()
    with pytest.raises(BudgetExhausted):
        asyncio.run(engine_for(store, handle, lambda _: dear).run())
    events = events_of(store, handle.key)
    assert events[-1] == ev.RunPaused(reason="budget", detail="The next call may cost $1.00.")
    assert not [e for e in events if isinstance(e, ev.TurnFailed)]
    sessions.release(store.database, handle)
    assert canonical(
        [e for e in resumed(store, handle.key) if not isinstance(e, ev.RunPaused | ev.RunResumed)]
    ) == canonical(run_session(store, small_society(limits=Limits(in_flight=1))))


def test_a_fault_in_the_program_pauses_the_run_and_is_raised(sqlite_store: Store) -> None:
    class Broken(Counting):
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            raise ZeroDivisionError("a bug")

    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society())
    broken = Broken()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(engine_for(sqlite_store, handle, lambda _: broken).run())
    assert events_of(sqlite_store, handle.key)[-1] == ev.RunPaused(reason="error", detail="a bug")


def test_one_question_gets_a_draft_ratings_and_a_revision(sqlite_store: Store) -> None:
    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society(rounds=0))
    engine = engine_for(sqlite_store, handle)
    number = asyncio.run(engine.ask("Is it right?", "S1", society=True))
    (record,) = assemble(events_of(sqlite_store, handle.key))
    assert (record.interaction, record.kind, record.outcome) == (number, "deliberation", "revised")
    assert record.peer_ratings()
    assert record.observed("revision", "engagement") is not None


def test_one_question_to_a_seat_gets_its_answer_only(sqlite_store: Store) -> None:
    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society(rounds=0))
    asyncio.run(engine_for(sqlite_store, handle).ask("Is it right?", "S1", society=False))
    (record,) = assemble(events_of(sqlite_store, handle.key))
    assert [message.role for message in record.messages] == ["answer"]
    assert record.ratings == []


def test_who_is_addressed_answers_and_remembers_the_exchange(sqlite_store: Store) -> None:
    prompts: list[Request] = []

    class Noting(Counting):
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            prompts.append(request)
            return await super().generate(request, on_delta)

    noting = Noting()
    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society(rounds=0))

    async def talk() -> None:
        engine = engine_for(sqlite_store, handle, lambda _: noting)
        await engine.say("Good morning!", ["S0", "S2"])
        await engine.say("And you?", ["S2"], author="S1")

    asyncio.run(talk())
    first, second = assemble(events_of(sqlite_store, handle.key))
    assert [(m.seat, m.to) for m in first.messages] == [
        ("person", ("S0", "S2")), ("S0", ("person",)), ("S2", ("person",)),
    ]  # fmt: skip
    assert [(m.seat, m.to) for m in second.messages] == [("S1", ("S2",)), ("S2", ("S1",))]
    said = [message.content for message in prompts[-1].messages]
    assert any("Good morning!" in content for content in said)
    assert said[2] == first.messages[2].text


def test_any_message_can_be_rated_by_a_seat_and_by_a_person(sqlite_store: Store) -> None:
    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society(rounds=0))

    async def rate() -> None:
        engine = engine_for(sqlite_store, handle)
        await engine.say("Good morning!", ["S0"])
        reply = next(
            e
            for e in events_of(sqlite_store, handle.key)
            if isinstance(e, ev.MessagePosted) and e.seat == "S0"
        )
        await engine.judge(reply, "", "S3", "engagement")
        await engine.vote(reply.message, "alignment", 6, "well said")

    asyncio.run(rate())
    ratings = [e for e in events_of(sqlite_store, handle.key) if isinstance(e, ev.RatingGiven)]
    assert [(r.rater, r.target, r.dimension, r.method) for r in ratings] == [
        ("S3", "1.reply.S0", "engagement", "text"),
        ("person", "1.reply.S0", "alignment", "human"),
    ]
    assert (ratings[1].value, ratings[1].reason) == (6, "well said")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.ask("x", "nobody", society=False), "no seat 'nobody'"),
        (lambda e: e.say("x", ["nobody"]), "no seat 'nobody'"),
        (lambda e: e.vote("1.draft", "alignment", 8), "from 1 to 7"),
        (lambda e: e.vote("1.draft", "beauty", 5), "no dimension 'beauty'"),
        (lambda e: e.vote("1.draft", "alignment", 5, rater="S1"), "'S1' is a seat"),
    ],
)
def test_what_can_not_be_is_refused_with_the_remedy(sqlite_store: Store, call, message: str) -> None:  # type: ignore[no-untyped-def]
    handle = sessions.create(sqlite_store.database, sqlite_store.log, small_society(rounds=0))
    with pytest.raises(SessionError, match=message):
        asyncio.run(call(engine_for(sqlite_store, handle)))
    assert len(events_of(sqlite_store, handle.key)) == 1


def test_a_question_cut_short_is_finished_before_the_next_round(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society())
    asyncio.run(engine_for(store, handle).ask("Is it right?", "S1", society=True))
    whole = events_of(store, handle.key)
    cut = _cut(store, handle.key, 4)
    events = resumed(store, cut.key)
    asked = [e for e in events if getattr(e, "interaction", None) == 1]
    assert canonical(asked) == canonical([e for e in whole if getattr(e, "interaction", None) == 1])
    assert events[-1] == ev.RunFinished()


def test_secrets_in_errors_are_masked_before_they_are_recorded(sqlite_store: Store) -> None:
    class Leaking(Counting):
        async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
            raise ModelUnavailable("GET https://x/y?key=CANARY-3141592653 failed")

    leaking = Leaking()
    events = run_session(sqlite_store, small_society(), lambda _: leaking)
    assert any(isinstance(e, ev.TurnFailed) for e in events)
    assert "CANARY" not in "".join(map(ev.dump, events))

"""What is folded and assembled from events: where a session stands, and its interactions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import drive, run_session, small_society

from sandbox import events as ev
from sandbox.deliberation import Plan, deliberate
from sandbox.exchange import Failure, Outcome, Reply, Request, Usage
from sandbox.progress import fold
from sandbox.records import InteractionRecord, assemble, mean
from sandbox.running import Store


@pytest.mark.parametrize(
    "events", [[], [ev.RunFinished()], [ev.RunFinished(), ev.SessionCreated(society=small_society())]]
)
def test_a_log_that_does_not_begin_with_its_session_is_refused(events: list[ev.Event]) -> None:
    with pytest.raises(ValueError, match="first event must be session_created"):
        fold(events)


@pytest.fixture
def log(sqlite_store: Store) -> list[ev.Event]:
    return run_session(sqlite_store, small_society(model="scripted/steady?fail=timeout&rate=0.2"))


def test_every_beginning_of_a_log_can_be_gone_on_from(log: list[ev.Event]) -> None:
    whole = fold(log)
    assert (whole.status, whole.rounds_done, whole.open, whole.open_round) == ("finished", 2, {}, None)
    failed = sum(isinstance(event, ev.TurnFailed) for event in log)
    assert failed
    for cut in range(1, len(log)):
        progress = fold(log[:cut])
        begun = {e.interaction for e in log[:cut] if isinstance(e, ev.InteractionStarted)}
        over = {e.interaction for e in log[:cut] if isinstance(e, ev.InteractionFinished)}
        assert progress.open.keys() == begun - over
        assert progress.rounds_done == sum(isinstance(e, ev.RoundFinished) for e in log[:cut])
        for event in log[cut:]:
            progress.apply(event)
        assert progress == whole


def test_every_beginning_of_a_log_has_its_records(log: list[ev.Event]) -> None:
    for cut in range(len(log) + 1):
        records = {record.interaction: record for record in assemble(log[:cut])}
        assert list(records) == sorted(
            e.interaction for e in log[:cut] if isinstance(e, ev.InteractionStarted)
        )
        ends = {e.interaction: e.outcome for e in log[:cut] if isinstance(e, ev.InteractionFinished)}
        assert all(record.outcome == ends.get(number) for number, record in records.items())
        steps = sum(isinstance(e, ev.Step) for e in log[:cut])
        assert sum(record.calls() for record in records.values()) == steps


def record_of(answer: Callable[[Request], Outcome]) -> InteractionRecord:
    society = small_society()
    centre, *peers = society.agents
    plan = Plan(1, "Why?", centre, tuple(peers), society.observers)
    (record,) = assemble(drive(deliberate(plan), answer, choose=lambda waiting: len(waiting) - 1))
    return record


def test_what_is_unparsed_or_failed_never_enters_a_mean() -> None:
    def answer(request: Request) -> Outcome:
        match request.step:
            case "rate.S1":
                return Reply("I can't say.")
            case "rate.S2":
                return Reply("Rating: 2", usage=Usage(prompt_tokens=5, completion_tokens=2, cost=0.5))
            case "rate.S3":
                return Failure("timeout", "late")
        return Reply("Rating: 6" if request.scale else "Words.", usage=Usage(prompt_tokens=1, cost=0.25))

    record = record_of(answer)
    assert record.peers_mean() == 2.0
    assert [rating.rater for rating in record.peer_ratings()] == ["S1", "S2"]
    assert record.unparsed() == 1
    assert [failure.step for failure in record.failures] == ["rate.S3"]
    assert record.observed("draft", "alignment") == record.observed("revision", "engagement") == 6.0
    assert record.observed("draft", "wit") is None
    others = 2 + 4  # draft and revision, and two dimensions of each
    assert (record.calls(), record.tokens(), record.cost()) == (
        others + 3,
        (others + 5, 2),
        others * 0.25 + 0.5,
    )


def test_a_failed_draft_leaves_a_record_without_one() -> None:
    record = record_of(lambda request: Failure("refused", "no"))
    assert (record.draft, record.revision, record.outcome) == (None, None, "failed")
    assert (record.peers_mean(), record.observed("draft", "alignment"), record.ratings) == (None, None, [])


def test_the_mean_of_nothing_is_nothing() -> None:
    assert mean([]) is None
    assert mean([None, None]) is None
    assert mean([None, 0.0, 3.0]) == 1.5


def test_a_rating_given_later_belongs_to_the_message_and_costs_once() -> None:
    usage = Usage(prompt_tokens=3, cost=0.5)
    answered = ev.MessagePosted(
        interaction=1, step="answer", seat="S0", role="answer", text="So.", usage=usage
    )
    later = ev.RatingGiven(
        interaction=2, step="rating", rater="S1", target="1.answer", dimension="alignment", usage=usage
    )
    first, second = assemble(
        [
            ev.InteractionStarted(interaction=1, kind="answer", seat="S0", question="Why?"),
            answered,
            ev.InteractionStarted(interaction=2, kind="rating", seat="S1"),
            later,
        ]
    )
    assert first.draft == answered
    assert first.ratings == second.ratings == [later]
    assert (first.cost(), first.calls(), first.unparsed()) == (0.5, 1, 0)
    assert (second.cost(), second.calls(), second.unparsed()) == (0.5, 1, 1)

"""Whatever a person is called, taking them out changes nothing of anybody else's."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import run_session, small_society

from sandbox import events as ev
from sandbox.names import is_person_name
from sandbox.progress import fold
from sandbox.running import Store
from sandbox.society import Human
from sandbox.store import sessions, withdrawal
from sandbox.store.tables import ConsentRow, SocketTicketRow
from sandbox.withdrawing import mentions, withdraw

NAMES = st.from_regex(r"[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ0-9 .'_-]{0,31}", fullmatch=True).filter(is_person_name)
OTHERS = [
    ev.InteractionStarted(
        interaction=1, round=1, seat="S0", question="Why?", peers=("S1",), observers=("O",)
    ),
    ev.MessagePosted(interaction=1, step="draft", seat="S0", role="draft", text="A draft."),
    ev.RatingGiven(
        interaction=1,
        step="rate.S1",
        rater="S1",
        target="1.draft",
        dimension="alignment",
        value=3,
        reason="so",
    ),
    ev.RatingGiven(
        interaction=1,
        step="observe.O.draft.alignment",
        rater="O",
        target="1.draft",
        dimension="alignment",
        value=4,
    ),
    ev.MessagePosted(interaction=1, step="revision", seat="S0", role="revision", text="A revision."),
    ev.RatingGiven(
        interaction=1,
        step="observe.O.revision.alignment",
        rater="O",
        target="1.revision",
        dimension="alignment",
    ),
    ev.MessagePosted(interaction=2, step="reply.S1", seat="S1", role="answer", text="Yes."),
    ev.RatingGiven(
        interaction=3,
        step="judge.Q.alignment",
        rater="Q",
        target="2.reply.S1",
        dimension="alignment",
        value=2,
        method="human",
        person="Q",
    ),
    ev.ReactionGiven(target="1.draft", person="Q", reaction="+"),
]


def of(name: str) -> list[ev.Event]:
    """All that one person may do, under one name."""
    return [
        ev.SeatTaken(seat="S2", person=name),
        ev.InteractionStarted(interaction=4, kind="rating", seat=name),
        ev.RatingGiven(
            interaction=4,
            step=f"judge.{name}.alignment",
            rater=name,
            target="1.draft",
            dimension="alignment",
            value=6,
            reason="mine",
            method="human",
            person=name,
        ),
        ev.RatingGiven(
            interaction=1,
            step=f"rate.{name}",
            rater=name,
            target="1.draft",
            dimension="alignment",
            person=name,
        ),
        ev.RatingGiven(
            interaction=1,
            step=f"observe.{name}.draft.alignment",
            rater=name,
            target="1.draft",
            dimension="alignment",
            person=name,
        ),
        ev.TurnFailed(
            interaction=1, step=f"observe.{name}.revision.engagement", seat=name, error="abstained"
        ),
        ev.MessagePosted(
            interaction=5, step=f"reply.{name}", seat=name, role="answer", text="hm", person=name
        ),
        ev.RatingGiven(
            interaction=6,
            step="judge.S1.alignment",
            rater="S1",
            target=f"5.reply.{name}",
            dimension="alignment",
        ),
        ev.ReactionGiven(target="1.draft", person=name, reaction="!"),
        ev.SeatReturned(seat="S2", person=name),
    ]


@given(NAMES)
@example("J. Doe")
@example("draft")
@example("revision")
@example("alignment")
@example("rate")
@example("observe")
@example("judge")
@example("reply")
@example("a.draft.alignment")
@example("S1.alignment")
def test_any_name_is_taken_out_and_nothing_else_changes(name: str) -> None:
    if name in ("Q", "S0", "S1", "S2", "O"):
        return
    events = [*OTHERS, *of(name)]
    changed = withdraw(events, name, "withdrawn-1")
    assert all(place >= len(OTHERS) for place in changed), "what others did is as it was"
    after = [changed.get(place, event) for place, event in enumerate(events)][len(OTHERS) :]
    told = [event.model_dump(mode="json") for event in after]
    blank = [event.model_dump(mode="json") for event in of("withdrawn-1")]
    for one, expected in zip(told, blank, strict=True):
        for field in ("seat", "rater", "person", "step", "target"):
            assert one.get(field) == expected.get(field)


def test_a_rating_of_a_renamed_message_still_points_at_it() -> None:
    events = of("J. Doe")
    changed = withdraw(events, "J. Doe", "withdrawn-1")
    after = [changed.get(place, event) for place, event in enumerate(events)]
    messages = {event.message for event in after if isinstance(event, ev.MessagePosted)}
    targets = {e.target for e in after if isinstance(e, ev.RatingGiven) and e.target.startswith("5.")}
    assert targets == messages == {"5.reply.withdrawn-1"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "exact.db"))


def test_mentions_in_others_words_are_listed_and_stay(store: Store) -> None:
    run_session(store, small_society(rounds=1))
    row = sessions.find(store.database, "last")
    handle = sessions.lease(store.database, row.key)
    free = fold([recorded.event for recorded in store.log.read(row.key)]).next_interaction
    rated = [event.model_copy(update={"interaction": free}) for event in of("J. Doe")[1:3]]
    said = ev.InteractionStarted(interaction=free + 1, kind="chat", seat="Eve", question="Is J. DOE right?")
    told = {"reply.S0": "No, j. doe is wrong.", "reply.S1": "J. Doeson is."}
    replies = [
        ev.MessagePosted(interaction=free + 1, step=step, seat=step[-2:], role="message", text=text)
        for step, text in told.items()
    ]
    store.log.append_now(handle, [ev.SeatAdded(seat=Human(name="Guest", place=9)), *rated, said, *replies])
    sessions.release(store.database, handle)
    (done,) = withdrawal.forget(store.database, store.log, row.key, "J. Doe").done
    assert done.mentions == [str(free + 1), f"{free + 1}.reply.S0"]
    texts = [getattr(recorded.event, "text", "") for recorded in store.log.read(row.key)]
    assert set(told.values()) <= set(texts)


@pytest.mark.parametrize(
    ("words", "found"),
    [("Ann", True), ("ann's", True), ("Anna", False), ("Joann", False), ("(Ann)", True), ("\u00c1nn", False)],
)
def test_a_mention_is_the_whole_name(words: str, found: bool) -> None:
    event = ev.MessagePosted(interaction=1, step="draft", seat="S0", role="draft", text=f"So {words} said.")
    assert mentions([event], "Ann") == (["1.draft"] if found else [])


def test_who_joined_and_did_nothing_can_be_taken_out(store: Store) -> None:
    run_session(store, small_society(rounds=1))
    row = sessions.find(store.database, "last")
    assert row.id is not None
    consents, tickets = ConsentRow.__table__, SocketTicketRow.__table__  # type: ignore[attr-defined]
    now = time.time()
    with store.database.writing() as connection:
        connection.execute(
            consents.insert().values(session_id=row.id, person="J. Doe", version="1", text="", time=now)
        )
        connection.execute(
            tickets.insert().values(digest="d", made=now, session=row.key, person="J. Doe", until=now + 60)
        )
    withdrawal.require_part(store.database, store.log, [row.key], "J. Doe")
    withdrawal.forget(store.database, store.log, row.key, "J. Doe")
    with store.database.reading() as connection:
        left = [
            dict(one._mapping) for table in (consents, tickets) for one in connection.execute(table.select())
        ]
    assert "J. Doe" not in json.dumps(left, default=str)
    with pytest.raises(withdrawal.NoPart):
        withdrawal.require_part(store.database, store.log, [row.key], "J. Doe")
    with pytest.raises(withdrawal.NoPart):
        withdrawal.forget(store.database, store.log, row.key, "Nobody")


def test_a_dotted_name_leaves_no_trace_in_the_tables(store: Store) -> None:
    run_session(store, small_society(rounds=1))
    row = sessions.find(store.database, "last")
    assert row.id is not None
    handle = sessions.lease(store.database, row.key)
    free = fold([recorded.event for recorded in store.log.read(row.key)]).next_interaction
    rated = [event.model_copy(update={"interaction": free}) for event in of("J. Doe")[1:3]]
    store.log.append_now(handle, [ev.SeatAdded(seat=Human(name="Guest", place=9)), *rated])
    sessions.release(store.database, handle)
    withdrawal.forget(store.database, store.log, row.key, "J. Doe")
    with store.database.reading() as connection:
        for table in reversed(ConsentRow.metadata.sorted_tables):
            rows = [dict(one._mapping) for one in connection.execute(table.select())]
            assert "J. Doe" not in json.dumps(rows, default=str), table.name

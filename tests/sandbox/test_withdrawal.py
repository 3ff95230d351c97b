"""A person takes back what they said and rated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support import Run, engine_for, events_of, run_session, scripted, small_society

from sandbox import events as ev
from sandbox.errors import SessionError, UserError
from sandbox.progress import fold
from sandbox.running import Store
from sandbox.society import Human
from sandbox.store import lineage, queries, sessions, withdrawal
from sandbox.store.tables import METADATA

SECRET = "my very own words"


def session_with_ann(store: Store) -> str:
    """A session in which Ann sat as a guest, wrote, rated in a seat and outside, and reacted."""
    run_session(store, small_society(rounds=1))
    row = sessions.find(store.database, "last")
    assert row.id is not None
    handle = sessions.lease(store.database, row.key)
    number = fold(events_of(store, row.key)).next_interaction
    store.log.append_now(
        handle,
        [
            ev.SeatAdded(seat=Human(name="Ann", place=9)),
            ev.SeatTaken(seat="Ann", person="Ann"),
            ev.InteractionStarted(interaction=number, kind="chat", seat="Ann", question=SECRET),
            ev.MessagePosted(
                interaction=number,
                step="say",
                seat="Ann",
                role="message",
                text=SECRET,
                to=("S0",),
                person="Ann",
            ),
            ev.InteractionFinished(interaction=number, outcome="answered"),
            ev.InteractionStarted(interaction=number + 1, question="Why?", seat="S0", peers=("Ann", "S1")),
            ev.MessagePosted(interaction=number + 1, step="draft", seat="S0", role="draft", text="Because."),
            ev.RatingGiven(
                interaction=number + 1,
                step="rate.Ann",
                rater="Ann",
                target=f"{number + 1}.draft",
                dimension="alignment",
                value=2,
                reason=SECRET,
                raw=SECRET,
                method="human",
                person="Ann",
            ),
            ev.TurnAwaited(
                interaction=number + 1,
                step="revision",
                seat="S0",
                person="Bob",
                purpose="revise",
                reasons=(SECRET, "Fine."),
            ),
            ev.InteractionFinished(interaction=number + 1, outcome="unrevised"),
            ev.InteractionStarted(interaction=number + 2, kind="rating", seat="Ann"),
            ev.RatingGiven(
                interaction=number + 2,
                step="judge.Ann.alignment",
                rater="Ann",
                target="1.draft",
                dimension="alignment",
                value=1,
                reason=SECRET,
                method="human",
                person="Ann",
            ),
            ev.InteractionFinished(interaction=number + 2, outcome="answered"),
            ev.ReactionGiven(target="1.draft", person="Ann", reaction="+1"),
        ],
    )
    sessions.release(store.database, handle)
    return row.key


def everything(store: Store) -> str:
    """All that the database holds, as one text."""
    with store.database.reading() as connection:
        return "\n".join(
            str(row) for table in METADATA.sorted_tables for row in connection.execute(sa.select(table))
        )


def test_nothing_of_a_person_stays_and_the_rest_stands(store: Store) -> None:
    key = session_with_ann(store)
    before = sessions.find(store.database, key)
    told = events_of(store, key)
    (done,) = withdrawal.forget(store.database, store.log, key, "Ann").done
    text = everything(store)
    assert SECRET not in text
    assert "Ann" not in text
    assert "Fine." in text
    after = events_of(store, key)
    assert after[len(told) :] == [ev.SeatReturned(seat="withdrawn-1", person="withdrawn-1")]
    same = [a == b for a, b in zip(after, told, strict=False)]
    assert same.count(False) == done.events - 1 == 10
    row = sessions.find(store.database, key)
    assert row.epoch != before.epoch
    assert row.head == before.head + 1
    fold(after)  # it can still be gone on with


def test_a_withdrawn_rating_is_no_rating(store: Store) -> None:
    key = session_with_ann(store)
    withdrawal.forget(store.database, store.log, key, "Ann")
    rows, _ = queries.page(store.database, key, "ratings", 0, 1000, {"unparsed": "withdrawn"})
    assert [(row["value"], row["rater"], row["person"]) for row in rows] == [
        (None, "withdrawn-1", "withdrawn-1")
    ] * 2
    assert [row["step"] for row in rows] == ["rate.withdrawn-1", "judge.withdrawn-1.alignment"]


def test_what_was_made_from_it_is_marked(store: Store) -> None:
    key = session_with_ann(store)
    sources = [lineage.Source(key), lineage.Source(key, "Ann")]
    lineage.add_dataset(store.database, "with", "/x", "d1", "{}", sources)
    lineage.add_dataset(store.database, "without", "/y", "d2", "{}", sources[:1])
    lineage.add_adapter(store.database, "first", "local/m", "/a", "{}", "d1")
    lineage.add_adapter(store.database, "second", "local/m", "/b", "{}", "d2")
    (done,) = withdrawal.forget(store.database, store.log, key, "Ann").done
    assert (done.datasets, done.adapters) == (["with"], ["first"])
    flagged = {row.name: row.flagged for row in lineage.adapters(store.database)}
    assert flagged["second"] is None
    assert key in (flagged["first"] or "")
    lineage.add_adapter(store.database, "third", "local/m", "/c", "{}", "d1")  # trained on it afterwards
    third = lineage.adapter(store.database, "third")
    assert third is not None
    assert third.flagged


def test_what_saw_a_dataset_that_is_gone_is_marked_too(store: Store) -> None:
    key = session_with_ann(store)
    lineage.add_dataset(store.database, "with", "/x", "d1", "{}", [lineage.Source(key, "Ann")])
    lineage.add_adapter(store.database, "first", "local/m", "/a", "{}", "d1")
    lineage.forget_dataset(store.database, "with")
    (done,) = withdrawal.forget(store.database, store.log, key, "Ann").done
    assert done.adapters == ["first"]
    lineage.add_dataset(store.database, "again", "/x", "d1", "{}", [])  # the same rows, kept elsewhere
    again = lineage.dataset(store.database, "again")
    assert again is not None
    assert again.flagged


def test_a_dataset_that_was_read_before_is_not_put_on_record(store: Store) -> None:
    key = session_with_ann(store)
    epochs = {key: sessions.find(store.database, key).epoch}
    withdrawal.forget(store.database, store.log, key, "Ann")
    with pytest.raises(UserError, match="again"):
        lineage.add_dataset(store.database, "late", "/x", "d1", "{}", [lineage.Source(key, "Ann")], epochs)
    assert lineage.datasets(store.database) == []


def test_a_seat_is_no_person_and_others_words_stay(store: Store) -> None:
    key = session_with_ann(store)
    with pytest.raises(SessionError, match="is a seat"):
        withdrawal.forget(store.database, store.log, key, "S0")
    texts = [e.text for e in events_of(store, key) if isinstance(e, ev.MessagePosted) and e.person is None]
    withdrawal.forget(store.database, store.log, key, "Ann")
    assert texts == [
        e.text for e in events_of(store, key) if isinstance(e, ev.MessagePosted) and e.person is None
    ]


def test_forks_have_their_own_copy(sqlite_store: Store, sandbox: Run) -> None:
    store = sqlite_store
    key = session_with_ann(store)
    fork = sessions.fork(store.database, store.log, key)
    early = sessions.fork(store.database, store.log, fork.key, at=5)
    assert sorted(withdrawal.copies(store.database, key)) == sorted([fork.key, early.key])
    code, out, _ = sandbox("sessions", "forget", key, "Ann", "--yes", "--db", store.database.location)
    assert code == 0
    assert out.count("stands for the name") == 2
    assert SECRET not in everything(store)


def test_two_people_get_two_pseudonyms(store: Store) -> None:
    key = session_with_ann(store)
    withdrawal.forget(store.database, store.log, key, "Ann")
    (done,) = withdrawal.forget(store.database, store.log, key, "Bob").done
    assert done.alias == "withdrawn-2"
    with pytest.raises(SessionError, match="taken out already"):
        withdrawal.forget(store.database, store.log, key, "withdrawn-1")


def test_a_stranger_or_a_running_session_is_refused(store: Store) -> None:
    key = session_with_ann(store)
    with pytest.raises(SessionError, match="no part"):
        withdrawal.forget(store.database, store.log, key, "ann")
    handle = sessions.lease(store.database, key)
    with pytest.raises(SessionError, match="being run"):
        withdrawal.forget(store.database, store.log, key, "Ann")
    sessions.release(store.database, handle)


def test_the_command_says_what_it_did(sqlite_store: Store, sandbox: Run) -> None:
    key = session_with_ann(sqlite_store)
    code, out, _ = sandbox("sessions", "forget", key, "Ann", "--yes", "--db", sqlite_store.database.location)
    assert code == 0
    assert "withdrawn-1 stands for the name" in out


def test_nothing_is_changed_while_a_fork_is_being_run_and_then_all(store: Store) -> None:
    key = session_with_ann(store)
    fork = sessions.fork(store.database, store.log, key)
    handle = sessions.lease(store.database, fork.key)
    with pytest.raises(SessionError, match="being run"):
        withdrawal.forget(store.database, store.log, key, "Ann")
    assert SECRET in str(events_of(store, key))
    sessions.release(store.database, handle)
    told = withdrawal.forget(store.database, store.log, key, "Ann")
    assert [done.session for done in told.done] == [key, fork.key]
    assert SECRET not in everything(store)


def test_a_fork_that_is_made_meanwhile_holds_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = session_with_ann(store)
    read = store.log.read

    def overtaken(of: str, after: int = 0, until: int | None = None) -> Any:
        events = list(read(of, after, until))
        monkeypatch.setattr(store.log, "read", read)
        withdrawal.forget(store.database, store.log, key, "Ann")
        return iter(events)

    monkeypatch.setattr(store.log, "read", overtaken)
    fork = sessions.fork(store.database, store.log, key)
    assert SECRET not in str(events_of(store, fork.key))
    assert SECRET not in everything(store)


def test_nothing_stays_in_the_files_of_sqlite(sqlite_store: Store) -> None:
    key = session_with_ann(sqlite_store)
    withdrawal.forget(sqlite_store.database, sqlite_store.log, key, "Ann")
    place = Path(sqlite_store.database.location)
    files = [path for path in place.parent.iterdir() if path.name.startswith(place.name)]
    assert len(files) > 1
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


async def test_a_question_is_taken_back_wherever_it_is_repeated(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society())
    engine = engine_for(store, handle, lambda spec: scripted(spec))
    asked = f"Is it right that {SECRET}?"
    number = await engine.ask(asked, "S0", society=True, person="Zoe")
    await engine.ask(asked, "S1", society=True, person="Zoe")  # remembered
    posted = [e for e in events_of(store, handle.key) if isinstance(e, ev.MessagePosted)]
    (draft,) = (event for event in posted if event.message == f"{number}.draft")
    await engine.judge(draft, asked, "S2", "alignment")
    sessions.release(store.database, handle)
    told = withdrawal.forget(store.database, store.log, handle.key, "Zoe")
    assert [done.session for done in told.done] == [handle.key]
    assert SECRET not in everything(store)
    assert "Zoe" not in everything(store)
    started = [e for e in events_of(store, handle.key) if isinstance(e, ev.InteractionStarted)]
    assert [e.person for e in started] == ["withdrawn-1", "withdrawn-1", None]
    assert {e.question for e in started} == {"[withdrawn]"}

"""A person is one person, however their name is spelled, and nobody else looks like them."""

from __future__ import annotations

import unicodedata

import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from support import Run, engine_for, events_of, lines, run_session, session_of, small_society

from sandbox import events as ev
from sandbox.errors import SessionError
from sandbox.names import looks_like, normal
from sandbox.running import Store
from sandbox.store import sessions, withdrawal
from sandbox.store.migrate import configuration

NFC, NFD = "J\u00f6rg", "Jo\u0308rg"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("bob", "Bob"),
        ("\u0412ob", "Bob"),  # a Cyrillic letter
        ("B\u043eb", "Bob"),  # another
        ("\uff22ob", "Bob"),  # full width
        ("\U0001d401ob", "Bob"),  # mathematical
        ("B0b", "Bob"),
        ("j\u00f6rg", NFC),
        ("Anna l", "Anna 1"),
        ("rnia", "mia"),
        ("IAN", "ian"),
    ],
)
def test_names_that_look_alike(name: str, other: str) -> None:
    assert looks_like(name, ["Zoe", other]) == other
    assert looks_like(other, ["Zoe", name]) == name


@pytest.mark.parametrize(
    ("name", "other"),
    [("Bob", "Bob"), (NFC, NFD), ("Bob", "Rob"), (NFC, "Jorg"), ("Anna 1", "Anna 2"), ("\u674e", "\u738b")],
)
def test_names_that_are_the_same_or_differ(name: str, other: str) -> None:
    assert looks_like(name, [other]) is None


def test_what_is_far_too_long_for_a_name_is_not_brought_into_a_form() -> None:
    """Marks out of order take time by the square of their number, and anybody may send a name."""
    marks = "a" + "\u0315\u0300" * 600
    assert normal(marks) is marks
    assert normal(marks[:999]) != marks[:999]


@given(st.text(st.characters(categories=("L", "M", "N"), max_codepoint=0x2FFF), min_size=1, max_size=12))
def test_looking_alike_is_mutual_and_no_matter_of_the_form(name: str) -> None:
    apart = unicodedata.normalize("NFD", name)
    assert looks_like(apart, [normal(name)]) is None
    upper = normal(name.upper())
    if upper != normal(name) and upper.casefold() == normal(name).casefold():
        assert looks_like(upper, [name]) == name
        assert looks_like(name, [upper]) == upper


@pytest.mark.parametrize("spelled", [NFC, NFD])
def test_the_command_line_knows_one_person_by_either_form(sandbox: Run, spelled: str) -> None:
    key = session_of(sandbox)
    for value, name in (("3", NFC), ("5", NFD)):
        assert sandbox("rate", "1.draft", "--in", key, "--value", value, "--as", name)[0] == 0
    rows = lines(sandbox("sessions", "export", key, "--what", "ratings")[1])
    assert {row["rater"] for row in rows if row["method"] == "human"} == {NFC}
    code, _, said = sandbox("rate", "1.draft", "--in", key, "--value", "2", "--as", "j\u00f6rg")
    assert code != 0
    assert f"looks like '{NFC}'" in said
    assert sandbox("sessions", "forget", key, spelled, "--yes")[0] == 0
    assert NFC not in sandbox("sessions", "export", key)[1]


async def test_nobody_acts_under_a_name_that_looks_like_anothers(store: Store) -> None:
    engine = engine_for(store, sessions.create(store.database, store.log, small_society()))
    await engine.say("Hello.", ["S0"], "Bob")
    await engine.say("Hello again.", ["S0"], "Bob")
    for name in ("\u0412ob", "bob", "Person", "s0", "\uff330"):
        with pytest.raises(SessionError, match="looks like"):
            await engine.say("Hello.", ["S0"], name)


def rating(name: str, number: int) -> list[ev.Event]:
    return [
        ev.InteractionStarted(interaction=number, kind="rating", seat=name),
        ev.RatingGiven(
            interaction=number,
            step=f"judge.{name}.alignment",
            rater=name,
            target="1.draft",
            dimension="alignment",
            value=3,
            method="human",
            person=name,
        ),
        ev.InteractionFinished(interaction=number, outcome="answered"),
    ]


def test_a_log_from_before_reads_as_one_person(store: Store) -> None:
    """Stored as it came then; by either form they are found, counted and taken out."""
    run_session(store, small_society(rounds=1))
    key = sessions.find(store.database, "last").key
    handle = sessions.lease(store.database, key)
    store.log.append_now(handle, [*rating(NFD, 100), *rating(NFC, 101)])
    sessions.release(store.database, handle)
    raters = {event.rater for event in events_of(store, key) if isinstance(event, ev.RatingGiven)}
    assert NFC in raters
    assert NFD not in raters
    done = withdrawal.forget(store.database, store.log, key, NFD).done
    assert done[0].events == 4
    with store.database.reading() as connection:
        for table in ("events", "ratings", "interactions"):
            rows = connection.execute(sa.text(f"SELECT * FROM {table}")).all()
            assert not any(NFC in str(row) or NFD in str(row) for row in rows)


def test_a_database_from_before_is_brought_into_one_form(store: Store) -> None:
    """Names in every table, the raters' roles, and the key of somebody who had two."""
    run_session(store, small_society(rounds=1))
    key = sessions.find(store.database, "last").key
    handle = sessions.lease(store.database, key)
    store.log.append_now(handle, rating(NFD, 100))
    sessions.release(store.database, handle)
    config = configuration()
    with store.database.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        for person, made in ((NFD, 1), (NFC, 2), ("Zoe\u0308", 3)):
            connection.execute(
                sa.text(
                    "INSERT INTO keys (prefix, name, digest, scopes, session, person, created, spent)"
                    " VALUES ('p', 'k', :digest, 'join', :session, :person, :made, 0)"
                ),
                {"digest": f"d{made}", "session": key, "person": person, "made": made},
            )
        for person, flagged in ((NFD, "withdrawn"), (NFC, None)):
            connection.execute(
                sa.text("INSERT INTO dataset_sources VALUES ('d', :session, :person, :flagged)"),
                {"session": key, "person": person, "flagged": flagged},
            )
    store.database.migrate()
    with store.database.reading() as connection:
        sources = connection.execute(sa.text("SELECT person, flagged FROM dataset_sources")).all()
        assert [tuple(row) for row in sources] == [(NFC, "withdrawn")], "a mark is not lost"
        named = connection.execute(sa.text("SELECT person, digest FROM keys ORDER BY created")).all()
        assert [tuple(row) for row in named] == [(NFC, "d2"), ("Zo\u00eb", "d3")]
        roles = {row.step: row.role for row in connection.execute(sa.text("SELECT step, role FROM ratings"))}
    assert roles[f"judge.{NFC}.alignment"] == "judge"
    assert {role for step, role in roles.items() if step.startswith("rate.")} == {"peer"}
    assert {role for step, role in roles.items() if step.startswith("observe.")} == {"observer"}


def test_the_role_is_on_record_and_old_logs_have_it_too(store: Store) -> None:
    events = run_session(store, small_society(rounds=1))
    given = [event for event in events if isinstance(event, ev.RatingGiven)]
    assert {event.role for event in given} == {"peer", "observer"}
    for event in given:
        old = event.model_copy(update={"role": None})
        assert (old.role, old.rated_as) == (None, event.role)

"""The log, the sessions and the migrations, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import canonical, engine_for, events_of, run_session, small_society

from sandbox import events as ev
from sandbox.errors import LeaseLost, SessionError, StoreBusy, StoreError, UserError
from sandbox.running import Store
from sandbox.store import processes, sessions
from sandbox.store.database import Database, database_url
from sandbox.store.log import SESSIONS, Handle
from sandbox.store.projection import COLUMNS
from sandbox.store.tables import METADATA


def turn(interaction: int, step: str = "draft") -> ev.MessagePosted:
    return ev.MessagePosted(interaction=interaction, step=step, seat="S0", role="draft", text="words")


def begun(interaction: int) -> ev.InteractionStarted:
    return ev.InteractionStarted(interaction=interaction, seat="S0", question="Why?")


def test_appends_from_many_tasks_get_numbers_without_gaps(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())

    async def append_all() -> list[list[ev.Recorded]]:
        return await asyncio.gather(*(store.log.append(handle, [begun(n), turn(n)]) for n in range(1, 101)))

    results = asyncio.run(append_all())
    assert sorted(r.seq for batch in results for r in batch) == list(range(2, 202))
    assert all(batch[1].seq == batch[0].seq + 1 for batch in results)
    assert [recorded.seq for recorded in store.log.read(handle.key)] == list(range(1, 202))


def test_what_is_read_is_what_was_appended(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    hostile = "\x1b]52;c;x\x07 \u202e [/INST] [@click=x] 👩‍👩‍👧 \ttab\r\n" + "x" * 100_000
    rating = ev.RatingGiven(
        interaction=1, step="rate.S1", rater="S1", target="1.draft", dimension="alignment", value=4.25,
        method="likelihood", distribution=((1, 0.5), (7, 0.5)), reason=hostile, raw=hostile, rubric=2,
    )  # fmt: skip
    posted = turn(1).model_copy(update={"text": hostile})
    store.log.append_now(handle, [begun(1), posted, rating])
    assert events_of(store, handle.key)[1:] == [begun(1), posted, rating]


def test_an_append_that_fails_leaves_nothing_behind(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    store.log.append_now(handle, [begun(1), turn(1)])
    with pytest.raises(StoreError):
        store.log.append_now(handle, [turn(2), begun(1)])  # the same interaction twice
    assert len(events_of(store, handle.key)) == 3
    assert sessions.find(store.database, handle.key).head == 3


def test_a_failed_append_does_not_fail_those_of_other_sessions(store: Store) -> None:
    good = sessions.create(store.database, store.log, small_society())
    gone = Handle(good.id + 1000, "gone", "0", None)

    async def both() -> list[object]:
        return await asyncio.gather(
            store.log.append(gone, [begun(1)]), store.log.append(good, [begun(1)]), return_exceptions=True
        )

    failed, done = asyncio.run(both())
    assert isinstance(failed, LeaseLost)
    assert isinstance(done, list)


def test_a_session_in_use_can_be_neither_leased_nor_deleted(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    with pytest.raises(SessionError, match="is being run by process"):
        sessions.lease(store.database, handle.key)
    with pytest.raises(SessionError, match="is being run by process"):
        sessions.delete(store.database, handle.key)
    sessions.release(store.database, handle)
    assert sessions.lease(store.database, handle.key).id == handle.id


def test_the_lease_of_a_dead_process_is_free_at_once(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    host = (handle.owner or "").split(":")[0]
    with store.database.writing() as connection:
        connection.execute(sa.update(SESSIONS).values(lease_owner=f"{host}:4194303:dead"))
    assert sessions.lease(store.database, handle.key).owner != handle.owner


@pytest.fixture
def zombie() -> Iterator[int]:
    """The number of a process that has ended, and that nobody has asked for."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


@pytest.mark.parametrize("served", [False, True], ids=["run", "served"])
@pytest.mark.parametrize("case", ["zombie", "older lease of a zombie", "number given away again"])
def test_the_lease_of_a_process_that_only_left_its_number_is_free_at_once(
    store: Store, zombie: int, case: str, served: bool
) -> None:
    key = sessions.create(store.database, store.log, small_society(), lease=False).key
    handle = sessions.lease(store.database, key, served=served)
    host, pid, token = (handle.owner or "").split(":")
    token, _, began = token.partition("@")
    left = {
        "zombie": f"{host}:{zombie}:{token}@{time.time():.2f}",
        "older lease of a zombie": f"{host}:{zombie}:{token}",
        "number given away again": f"{host}:{pid}:{token}@{float(began) - 60:.2f}",
    }
    with store.database.writing() as connection:
        connection.execute(sa.update(SESSIONS).values(lease_owner=left[case]))
    assert sessions.adoptable(store.database) == ([key] if served else [])
    assert sessions.lease(store.database, key, served=served).owner != handle.owner
    with pytest.raises(SessionError):
        sessions.lease(store.database, key)


def test_a_process_runs_that_began_when_it_says() -> None:
    assert processes.is_running(os.getpid())
    assert processes.is_running(os.getpid(), round(processes.began(), 2))
    assert not processes.is_running(os.getpid(), processes.began() - 5)
    assert not processes.is_running(4_194_303)


def test_who_lost_the_lease_can_not_write(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    with store.database.writing() as connection:
        connection.execute(sa.update(SESSIONS).values(lease_until=time.time() - 1))
    other = sessions.lease(store.database, handle.key)
    with pytest.raises(LeaseLost, match="taken it over"):
        store.log.append_now(handle, [begun(1)])
    with pytest.raises(LeaseLost):
        sessions.renew(store.database, handle)
    sessions.renew(store.database, other)
    store.log.append_now(other, [begun(1)])


def test_sessions_are_found_by_key_beginning_and_last(store: Store) -> None:
    one = sessions.create(store.database, store.log, small_society(name="alpha"))
    two = sessions.create(store.database, store.log, small_society(name="alpine"))
    assert sessions.find(store.database, "alpha").key == one.key
    assert sessions.find(store.database, "last").key == two.key
    assert [row.key for row in sessions.listing(store.database)] == [two.key, one.key]
    with pytest.raises(SessionError, match="several sessions"):
        sessions.find(store.database, "alp")
    with pytest.raises(SessionError, match="no session 'beta%'"):
        sessions.find(store.database, "beta%")


def test_a_fork_has_the_same_past_and_goes_its_own_way(store: Store) -> None:
    events = run_session(store, small_society())
    parent = sessions.listing(store.database)[0]
    at = next(n for n, event in enumerate(events, 1) if isinstance(event, ev.RoundFinished))
    forked = sessions.fork(store.database, store.log, parent.key, at, seed=99)
    past = events_of(store, forked.key)
    assert past[:-1] == events[:at]
    assert past[-1] == ev.SessionForked(parent=parent.key, at=at, seed=99)
    handle = sessions.lease(store.database, forked.key)
    asyncio.run(engine_for(store, handle).run())
    ahead = events_of(store, forked.key)[at + 1 :]
    assert ahead[-1] == ev.RunFinished()
    assert canonical(ahead[1:]) != canonical(events[at:])
    assert events_of(store, parent.key) == events


def test_a_fork_beyond_the_log_is_refused(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    with pytest.raises(SessionError, match="events 1 to 1"):
        sessions.fork(store.database, store.log, handle.key, at=2)


def test_the_tables_of_a_fork_are_those_of_its_parent(store: Store) -> None:
    run_session(store, small_society())
    parent = sessions.listing(store.database)[0]
    forked = sessions.fork(store.database, store.log, parent.key)

    def rows(session: int | None) -> dict[str, list[tuple[object, ...]]]:
        found = {}
        with store.database.reading() as connection:
            for table, columns in COLUMNS.items():
                name = str(table.__tablename__)
                query = sa.text(f"SELECT {', '.join(columns)} FROM {name} WHERE session_id = :id ORDER BY 2")
                found[name] = [tuple(row)[1:] for row in connection.execute(query, {"id": session})]
        return found

    assert rows(forked.id) == rows(parent.id)
    assert all(rows(parent.id).values())


def test_deleting_a_session_deletes_all_that_hangs_on_it(store: Store) -> None:
    run_session(store, small_society())
    kept = sessions.create(store.database, store.log, small_society())
    doomed = sessions.listing(store.database)[1]
    sessions.delete(store.database, doomed.key)
    with store.database.reading() as connection:
        for table in METADATA.sorted_tables:
            if "session_id" in table.columns:
                count = sa.select(sa.func.count()).where(table.c.session_id == doomed.id)
                assert connection.execute(count).scalar() == 0, table.name
    assert events_of(store, kept.key)


def test_the_migrations_make_exactly_the_tables(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with store.database.writing() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_a_database_of_a_newer_version_is_refused(store: Store) -> None:
    with store.database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version"):
        store.database.migrate()


def test_many_processes_may_migrate_at_once(database_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def migrate(_: int) -> None:
        database = Database(database_url)
        database.migrate()
        database.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(migrate, range(8)))


def test_a_locked_database_is_said_so_and_loses_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "a.db"))
    handle = sessions.create(store.database, store.log, small_society())
    impatient = Store(Database(str(tmp_path / "a.db"), busy_timeout_ms=50), store.log)
    with store.database.writing(), pytest.raises(StoreBusy, match="locked by another program"):
        sessions.release(impatient.database, handle)
    store.log.append_now(handle, [begun(1)])
    assert len(events_of(store, handle.key)) == 2
    impatient.database.close()
    store.close()


def test_a_full_disk_is_said_so_and_loses_nothing(sqlite_store: Store) -> None:
    store = sqlite_store
    handle = sessions.create(store.database, store.log, small_society(rounds=200))
    with store.database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    limit = f"PRAGMA max_page_count={int(pages or 0) + 20}"

    @sa.event.listens_for(store.database._engine, "checkout")
    def small_disk(connection: object, *_: object) -> None:
        connection.execute(limit).close()  # type: ignore[attr-defined]

    with pytest.raises(StoreError, match=r"disk of the database .* is full"):
        asyncio.run(engine_for(store, handle).run())
    before = events_of(store, handle.key)
    assert [recorded.seq for recorded in store.log.read(handle.key)] == list(range(1, len(before) + 1))
    limit = "PRAGMA max_page_count=1073741823"
    asyncio.run(engine_for(store, handle).run(rounds=30))
    after = events_of(store, handle.key)
    assert after[: len(before)] == before
    assert after[-1] == ev.RunFinished()


@pytest.mark.parametrize(
    ("url", "message"),
    [("mysql://x/y", "not supported"), ("://", "can't be read"), ("/tmp", "is a folder")],
)
def test_a_bad_database_url_says_what_to_write(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        database_url(url)


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, however long it may be " * 100)
    with pytest.raises(StoreError, match=r"not a .* SQLite database"):
        Store.open(str(path))


@pytest.mark.postgres
def test_an_unreachable_server_is_said_so_without_its_password() -> None:
    with pytest.raises(StoreError, match="can't be reached") as caught:
        Store.open("postgresql://user:s3cret-word@127.0.0.1:1/none")
    assert "s3cret-word" not in str(caught.value)

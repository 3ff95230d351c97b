"""kill -9 at a random moment: nothing lost, nothing twice, and only calls in flight made again."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import canonical, engine_for, events_of, run_session, scripted, small_society

from sandbox import events as ev
from sandbox.exchange import Reply, Request
from sandbox.models.base import OnDelta
from sandbox.running import Store
from sandbox.society import Society
from sandbox.store import sessions

KILLS = 50
LATENCY = 0.02


class Journalling:
    """A scripted model that notes the beginning of every call in a file, before anything else."""

    def __init__(self, journal: Path) -> None:
        self._file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._model = scripted("scripted/steady")

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        os.write(self._file, f"{request.seed}\n".encode())
        await asyncio.sleep(LATENCY * (0.5 + request.seed % 100 / 100))
        return await self._model.generate(request, on_delta)


def society() -> Society:
    return small_society(size=(4, 4), rounds=3)


def work(url: str, key: str, journal: Path) -> None:
    """What the doomed process does: take the session and run it to its end."""
    store = Store.open(url)
    handle = sessions.lease(store.database, key)
    model = Journalling(journal)
    asyncio.run(engine_for(store, handle, lambda _: model).run())
    sessions.release(store.database, handle)
    store.close()


def wait_for_its_last_commit(store: Store) -> None:
    """PostgreSQL ends the transaction that a killed client had told it to commit, a moment later."""
    if store.database.dialect == "sqlite":
        return
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    while True:
        with store.database.reading() as connection:
            if connection.execute(others).scalar() == 0:
                return
        time.sleep(0.005)


def answered_steps(events: list[ev.Event]) -> int:
    return sum(isinstance(event, ev.MessagePosted | ev.RatingGiven | ev.TurnFailed) for event in events)


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start at once, with everything imported, and share nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sandbox.running", "sandbox.engine", "sandbox.blueprint"])
    return context


@pytest.mark.timeout(600)
def test_a_run_killed_at_any_moment_ends_as_if_undisturbed(
    database_url: str, tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    store = Store.open(database_url)
    undisturbed = canonical(run_session(store, society()))
    rng = random.Random(2024)
    interrupted = repeated = 0
    for attempt in range(KILLS):
        handle = sessions.create(store.database, store.log, society(), lease=False)
        journal = tmp_path / f"calls-{attempt}"
        victim = processes.Process(target=work, args=(database_url, handle.key, journal))
        victim.start()
        while not journal.exists():
            assert victim.is_alive() or journal.exists(), "it ended before its first call"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        victim.kill()
        victim.join()
        wait_for_its_last_commit(store)

        left = list(store.log.read(handle.key))
        assert [recorded.seq for recorded in left] == list(range(1, len(left) + 1))
        begun = journal.read_text().split()
        in_flight = len(begun) - answered_steps([recorded.event for recorded in left])
        assert in_flight >= 0, "something on record was never asked"
        interrupted += left[-1].event != ev.RunFinished()

        if left[-1].event != ev.RunFinished():
            work(database_url, handle.key, journal)
        events = events_of(store, handle.key)
        assert events[: len(left)] == [recorded.event for recorded in left]
        assert canonical(events) == undisturbed
        calls = Counter(journal.read_text().split())
        again = sum(count - 1 for count in calls.values())
        assert again == in_flight, "only what was in flight is asked again"
        assert max(calls.values()) <= 2
        repeated += again
        sessions.delete(store.database, handle.key)
    store.close()
    assert interrupted > KILLS * 0.6, "the kills must hit running societies to show anything"
    assert repeated > 0

"""Opens a session for work: store, lease, models and engine together, and closes them in order.

The one place where a running session is put together; the command line and the server both use it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from sandbox.aside import Aside
from sandbox.embeddings import embedder
from sandbox.engine import Engine, Streamer
from sandbox.errors import LeaseLost, StoreError
from sandbox.models.catalog import Catalog, Workers
from sandbox.models.limits import Ledger
from sandbox.progress import Progress, fold
from sandbox.recorder import Listener
from sandbox.redaction import Redactor
from sandbox.settings import Settings
from sandbox.store import sessions
from sandbox.store.database import Database
from sandbox.store.log import Handle, Log


def calm_collector() -> None:
    """Let Python look for cycles less often: a society makes many small objects and hardly any cycles.

    For programs to call at their start; it took about a sixth off the engine's time (``make bench``).
    """
    gc.set_threshold(50_000, 50, 100)


@dataclass(slots=True)
class Store:
    """A migrated database and its log."""

    database: Database
    log: Log

    @classmethod
    def open(cls, url: str) -> Store:
        """Open and migrate. Raises ``UserError`` and ``StoreError``."""
        database = Database(url)
        database.migrate()
        return cls(database, Log(database))

    def ping(self) -> None:
        """Raise ``StoreError`` unless the database answers; and writes, if it could not when last tried."""
        with self.database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
        if self.database.is_full:
            self.database.try_to_write()

    def close(self) -> None:
        """Finish what is being written."""
        self.log.close()
        self.database.close()


@asynccontextmanager
async def at_work(
    store: Store,
    handle: Handle,
    settings: Settings,
    redact: Redactor,
    *,
    budget: float | None = None,
    ceiling: float | None = None,
    on_lost: Callable[[], None] = lambda: None,
    listener: Listener | None = None,
    streamer: Streamer | None = None,
    workers: Workers | None = None,
    on_load: Callable[[str], None] | None = None,
) -> AsyncIterator[Engine]:
    """An engine for a leased session. The lease is kept while in use and given back at the end.

    ``budget`` replaces the session's own, and nothing goes beyond ``ceiling``. ``on_lost`` is called when
    another process has taken the session. ``workers`` are local models that outlive it; without them it has
    its own.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_release, store.database, handle)
        renewals = ThreadPoolExecutor(1, "lease")  # no slow query is in their way
        stack.callback(renewals.shutdown, wait=False, cancel_futures=True)
        keeper = asyncio.create_task(_keep(store.database, handle, renewals, on_lost))
        stack.callback(keeper.cancel)
        progress = await asyncio.to_thread(lambda: fold(r.event for r in store.log.read(handle.key)))
        limits = progress.society.limits
        ledger = Ledger(spendable(progress, budget, ceiling), progress.cost)
        catalog = Catalog(settings, limits, redact, ledger=ledger, workers=workers, on_load=on_load)
        stack.push_async_callback(catalog.close)
        engine = Engine(
            store.log,
            handle,
            progress,
            catalog.model,
            embedder(progress.society.embedding),
            redact,
            listener,
            streamer,
        )
        engine.ledger = ledger
        yield engine


def spendable(progress: Progress, budget: float | None, ceiling: float | None) -> float | None:
    """What a session may cost in all, in US dollars: its newest budget or another, at most ``ceiling``."""
    own = progress.society.limits.budget if progress.budget is None else progress.budget
    caps = [cap for cap in (own if budget is None else budget, ceiling) if cap is not None]
    return min(caps, default=None)


async def _release(database: Database, handle: Handle) -> None:
    with suppress(StoreError):  # the lease runs out by itself
        await asyncio.to_thread(sessions.release, database, handle)


async def off_the_record(
    store: Store, key: str, progress: Progress, catalog: Catalog, redact: Redactor
) -> Aside:
    """A session's society for questions off the record, without the right to write to it."""
    handle = Handle(0, key, "", None)  # no session has the number 0: nothing can be written with it
    vectors = embedder(progress.society.embedding)
    return await Engine(store.log, handle, progress, catalog.model, vectors, redact).aside()


async def _keep(database: Database, handle: Handle, renewals: Executor, on_lost: Callable[[], None]) -> None:
    """Renew the lease until cancelled, or until it is lost: every append will say so, too."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(sessions.LEASE_SECONDS / 4)
        try:
            await loop.run_in_executor(renewals, sessions.renew, database, handle)
        except LeaseLost:
            on_lost()
            return
        except StoreError:
            continue  # there is time for more tries before the lease runs out

"""Opens a session for work: store, lease, models and engine together, and closes them in order.

The one place where a running session is put together; the command line and the server both use it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sandbox.aside import Aside
from sandbox.embeddings import embedder
from sandbox.engine import Engine, Listener, Streamer
from sandbox.errors import LeaseLost, StoreError
from sandbox.models.catalog import Catalog, Workers
from sandbox.models.limits import Ledger
from sandbox.progress import Progress, fold
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
        """Raise ``StoreError`` unless the database answers."""
        with self.database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")

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
    listener: Listener | None = None,
    streamer: Streamer | None = None,
    workers: Workers | None = None,
    on_load: Callable[[str], None] | None = None,
) -> AsyncIterator[Engine]:
    """An engine for a leased session. The lease is kept while in use and given back at the end.

    ``workers`` are local models that outlive it; without them it has its own.
    """
    events = await asyncio.to_thread(lambda: [recorded.event for recorded in store.log.read(handle.key)])
    progress = fold(events)
    limits = progress.society.limits
    ledger = Ledger(limits.budget if budget is None else budget, progress.cost)
    catalog = Catalog(settings, limits, redact, ledger=ledger, workers=workers, on_load=on_load)
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
    keeper = asyncio.create_task(_keep(store.database, handle))
    try:
        yield engine
    finally:
        keeper.cancel()
        try:
            await catalog.close()
        finally:
            with suppress(StoreError):  # the lease runs out by itself
                await asyncio.to_thread(sessions.release, store.database, handle)


async def off_the_record(
    store: Store, key: str, progress: Progress, catalog: Catalog, redact: Redactor
) -> Aside:
    """A session's society for questions off the record, without the right to write to it."""
    handle = Handle(0, key, "", None)  # no session has the number 0: nothing can be written with it
    vectors = embedder(progress.society.embedding)
    return await Engine(store.log, handle, progress, catalog.model, vectors, redact).aside()


async def _keep(database: Database, handle: Handle) -> None:
    """Renew the lease until cancelled. Once it is lost there is no more to do: every append will say so."""
    while True:
        await asyncio.sleep(sessions.LEASE_SECONDS / 4)
        try:
            await asyncio.to_thread(sessions.renew, database, handle)
        except LeaseLost:
            return
        except StoreError:
            continue  # there is time for more tries before the lease runs out

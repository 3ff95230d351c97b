"""What a server process consists of, put together once and handed to whoever serves a request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox.embeddings import Embedder
from sandbox.models.catalog import Workers
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store.inbox import Inbox
from server.auth import Keys
from server.glances import Glances
from server.hub import Hub
from server.metrics import Metrics
from server.monitoring import Monitoring
from server.purse import Purses
from server.resources import Resources
from server.runs import Runs
from server.settings import PER_MINUTE, ServerSettings
from server.wakeups import Wakeups


@dataclass(slots=True)
class Services:
    """One process's parts. ``embedders`` are those of the embeddings API, by spec."""

    parts: Resources
    hub: Hub
    runs: Runs
    metrics: Metrics
    wakeups: Wakeups
    glances: Glances
    monitoring: Monitoring
    embedders: dict[str, Embedder]

    @property
    def server(self) -> ServerSettings:
        """How the server is to behave."""
        return self.parts.server

    @property
    def store(self) -> Store:
        """Where all is kept."""
        return self.parts.store

    @property
    def keys(self) -> Keys:
        """Who may do what."""
        return self.parts.keys

    @property
    def redact(self) -> Redactor:
        """Takes secrets out of texts."""
        return self.parts.redact

    @property
    def adapters_dir(self) -> Path:
        """Where adapters lie, by name."""
        return self.parts.settings.adapters_dir

    async def open(self) -> None:
        """Begin to serve."""
        self.runs.start()
        self.wakeups.start()

    async def close(self) -> None:
        """Leave every session to be gone on with, and give everything back."""
        await self.wakeups.close()
        await self.runs.close()
        await self.parts.purses.close()
        self.store.close()


def assemble(settings: Settings, server: ServerSettings, redact: Redactor, *, keyless: bool) -> Services:
    """Open the store and put the parts together; inside the event loop that serves.

    ``keyless`` is for a loopback address without keys: everybody may do everything.
    """
    store = Store.open(settings.database)
    hub = Hub(server.max_lag, server.slow_s)
    per_minute = server.per_minute or (None if keyless else PER_MINUTE)
    keys = Keys(store.database, required=not keyless, per_minute=per_minute, tries=server.tries_per_minute)
    purses = Purses(store.database, keys.look_anew)
    parts = Resources(store, keys, purses, settings, server, redact, Inbox(store.database), Workers(settings))
    runs = Runs(parts, hub)
    metrics = Metrics(hub, runs)
    runs.watchers.append(metrics.take)
    wakeups = Wakeups(store, hub, runs, keys, server.scan_s)
    return Services(parts, hub, runs, metrics, wakeups, Glances(store), Monitoring(store), {})

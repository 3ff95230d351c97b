"""What everything that runs in a server process shares."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.models.catalog import Workers
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store.inbox import Inbox
from server.auth import Keys
from server.purse import Purses
from server.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Resources:
    """The store and its commands, the keys, the models' workers, and the settings."""

    store: Store
    keys: Keys
    purses: Purses
    settings: Settings
    server: ServerSettings
    redact: Redactor
    inbox: Inbox
    workers: Workers

"""Puts on record what happens in one session: commits it, takes it into account, and tells who listens.

Nothing is told before it is committed. It knows the log and the progress, and neither models nor people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy.engine import Connection

from sandbox import events as ev
from sandbox.errors import SandboxError
from sandbox.progress import Progress
from sandbox.store.inbox import Receipt
from sandbox.store.log import Handle, Log

Listener = Callable[[ev.Recorded], None]


class Recorder:
    """See the module. Called with events, it returns when they are committed and told."""

    def __init__(self, log: Log, handle: Handle, progress: Progress, listener: Listener | None) -> None:
        self._log = log
        self._handle = handle
        self._progress = progress
        self._listeners = [listener] if listener else []
        self._fault: Exception | None = None

    def watch(self, listener: Listener) -> None:
        """Tell one more of every event from now on."""
        self._listeners.append(listener)

    async def __call__(
        self, events: Sequence[ev.Event], receipts: Sequence[Receipt] = (), interaction: int | None = None
    ) -> None:
        """Commit events, take them into account and tell the listeners.

        ``receipts`` are settled in the same transaction. A commit that is under way can't be called back:
        whoever is cancelled meanwhile waits for it.
        """
        also = partial(_settle, receipts, interaction) if receipts else None
        future = self._log.append(self._handle, events, also)
        future.add_done_callback(self._took)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        finally:  # whoever waits is told, also when who recorded is gone
            _tell(receipts, interaction, future)
        if self._fault:
            fault, self._fault = self._fault, None
            self._listeners = []
            raise fault

    def _took(self, future: asyncio.Future[list[ev.Recorded]]) -> None:
        """Take a commit into account; what goes wrong is raised by ``_record``, not lost in a callback."""
        if future.cancelled() or future.exception():
            return
        try:
            for recorded in future.result():
                self._progress.apply(recorded.event)
        except Exception as error:  # noqa: BLE001 - raised by _record
            self._fault = error
        for recorded in future.result():
            for listener in self._listeners:
                try:
                    listener(recorded)
                except Exception as error:  # noqa: BLE001 - raised by _record
                    self._fault = self._fault or error


def _settle(receipts: Sequence[Receipt], interaction: int | None, connection: Connection) -> None:
    for receipt in receipts:
        receipt.within(connection, interaction)


def _tell(
    receipts: Sequence[Receipt], interaction: int | None, future: asyncio.Future[list[ev.Recorded]]
) -> None:
    error = future.exception() if future.done() and not future.cancelled() else None
    for receipt in receipts:
        if isinstance(error, SandboxError):
            receipt.failed(error)
        elif error is None:
            receipt.settled(interaction)

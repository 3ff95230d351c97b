"""The event log: append in order and without gaps, read in order, hold the right to write.

Every append is one transaction with the rows that follow from its events. One writer thread groups the
appends that wait at the same time into a single transaction, so that many interactions share its price.
It knows no engine and no models.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sandbox.errors import LeaseLost, SandboxError, StoreError
from sandbox.events import Event, Recorded, dump, load
from sandbox.store.database import Database
from sandbox.store.projection import COLUMNS, Rows, project
from sandbox.store.tables import EventRow, InteractionRow, SessionRow, Table

SESSIONS: sa.Table = SessionRow.__table__  # type: ignore[attr-defined]
EVENTS: sa.Table = EventRow.__table__  # type: ignore[attr-defined]
READ_BATCH = 2_000
CHUNK = 64
"""Rows a statement. SQLite runs a whole statement without Python's lock, beside the event loop."""


class Handle(NamedTuple):
    """The right to write to a session. ``owner`` is None where no lease is needed (a new session)."""

    id: int
    key: str
    epoch: str
    owner: str | None


Also = Callable[[Connection], None]
"""What else is written in the transaction of an append; it must not fail."""


class _Append(NamedTuple):
    handle: Handle
    events: Sequence[Event]
    future: asyncio.Future[list[Recorded]]
    loop: asyncio.AbstractEventLoop
    also: Also | None


_Result = list[Recorded] | SandboxError


class Log:
    """Appends and reads, for one event loop at a time. ``close`` waits for what is being written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Append] = []
        self._queue: queue.SimpleQueue[list[_Append] | None] = queue.SimpleQueue()
        self._scheduled: asyncio.AbstractEventLoop | None = None
        self._writer: threading.Thread | None = None
        self._sql = _Statements(database.dialect)

    def append(
        self, handle: Handle, events: Sequence[Event], also: Also | None = None
    ) -> asyncio.Future[list[Recorded]]:
        """Commit ``events`` together, and what ``also`` writes; the future brings them as recorded.

        It brings ``LeaseLost`` if another process has taken the session, ``StoreError`` for what the
        database says; then none of ``events`` is in the log. Cancelling it does not undo the commit.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Recorded]] = loop.create_future()
        self._waiting.append(_Append(handle, events, future, loop, also))
        if self._scheduled is not loop:
            self._scheduled = loop
            # Behind all that is ready to run now, and may append as well. Besides, a writer that starts
            # when the loop has come to rest need not fight it for Python's lock.
            loop.call_soon(self._hand_over)
        return future

    def append_now(self, handle: Handle, events: Sequence[Event]) -> list[Recorded]:
        """``append`` for callers outside an event loop; blocks until the commit."""
        with self._database.writing() as connection:
            return self._append(connection, handle, events)

    def append_within(self, connection: Connection, handle: Handle, events: Sequence[Event]) -> None:
        """``append`` as part of the caller's own transaction."""
        self._append(connection, handle, events)

    def read(self, key: str, after: int = 0, until: int | None = None) -> Iterator[Recorded]:
        """The events with ``after < seq <= until`` in order. Nothing for an unknown session."""
        while True:
            batch = self._read_batch(key, after, until)
            yield from batch
            if len(batch) < READ_BATCH:
                return
            after = batch[-1].seq

    def epochs(self, keys: Iterable[str]) -> dict[str, str]:
        """The epochs that sessions are in now; those that are gone are left out."""
        query = sa.select(SESSIONS.c.key, SESSIONS.c.epoch).where(SESSIONS.c.key.in_(list(keys)))
        with self._database.reading() as connection:
            return {row.key: row.epoch for row in connection.execute(query)}

    def close(self) -> None:
        """Stop the writer after what it already has."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None

    def _read_batch(self, key: str, after: int, until: int | None) -> list[Recorded]:
        query = (
            sa.select(EVENTS.c.seq, EVENTS.c.time, EVENTS.c.payload, SESSIONS.c.epoch)
            .join(SESSIONS, SESSIONS.c.id == EVENTS.c.session_id)
            .where(SESSIONS.c.key == key, EVENTS.c.seq > after)
            .order_by(EVENTS.c.seq)
            .limit(READ_BATCH)
        )
        if until is not None:
            query = query.where(EVENTS.c.seq <= until)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Recorded(key, row.epoch, row.seq, datetime.fromtimestamp(row.time, UTC), load(row.payload))
            for row in rows
        ]

    def _hand_over(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="log-writer", daemon=True)
            self._writer.start()
        batch, self._waiting = self._waiting, []
        self._scheduled = None
        # What a loop left behind when it ended is dropped: nobody has been told that it was written.
        self._queue.put([item for item in batch if not item.loop.is_closed()])

    def _write_all(self) -> None:
        while (batch := self._queue.get()) is not None:
            last = False
            while not last and not self._queue.empty():  # what came while the last transaction was written
                more = self._queue.get()
                last = more is None
                batch += more or []
            self._write(batch)
            if last:
                return

    def _write(self, batch: list[_Append]) -> None:
        by_session: dict[Handle, list[_Append]] = {}
        for item in batch:
            by_session.setdefault(item.handle, []).append(item)
        for handle, items in by_session.items():
            results: Sequence[_Result]
            try:
                with self._database.writing() as connection:
                    results = self._append_items(connection, handle, items)
            except SandboxError as error:
                results = [error] * len(items)
            except Exception as error:  # noqa: BLE001 - reported to the caller, who would otherwise wait for ever
                fault = StoreError(f"The log could not be written: {error!r}. What was committed stands.")
                fault.__cause__ = error
                results = [fault] * len(items)
            _deliver(items, results)

    def _append_items(
        self, connection: Connection, handle: Handle, items: Sequence[_Append]
    ) -> list[list[Recorded]]:
        recorded = self._append(connection, handle, [event for item in items for event in item.events])
        for item in items:
            if item.also:
                item.also(connection)
        shares, start = [], 0
        for item in items:
            shares.append(recorded[start : start + len(item.events)])
            start += len(item.events)
        return shares

    def _append(self, connection: Connection, handle: Handle, events: Sequence[Event]) -> list[Recorded]:
        if not events:
            return []
        now = time.time()
        head = self._sql.advance(connection, handle, len(events), now)
        first = head - len(events) + 1
        self._sql.insert(
            connection,
            EventRow,
            [(handle.id, seq, now, dump(event)) for seq, event in enumerate(events, first)],
        )
        self._store(connection, handle, project(handle.id, first, events))
        self._database.notify(connection, handle.key)
        when = datetime.fromtimestamp(now, UTC)
        return [
            Recorded(handle.key, handle.epoch, seq, when, event) for seq, event in enumerate(events, first)
        ]

    def _store(self, connection: Connection, handle: Handle, rows: Rows) -> None:
        for table, inserted in rows.inserted.items():
            self._sql.insert(connection, table, inserted)
        if rows.outcomes:
            self._sql.finish(connection, rows.outcomes)
        if rows.session:
            connection.execute(sa.update(SESSIONS).where(SESSIONS.c.id == handle.id).values(**rows.session))


class _Statements:
    """The few statements of the hot path, written once: SQLAlchemy's own cost several times their work."""

    def __init__(self, dialect: str) -> None:
        self._mark = "?" if dialect == "sqlite" else "%s"
        columns = COLUMNS | {EventRow: tuple(column.name for column in EVENTS.columns)}
        self._inserts = {table: self._insert(table, names) for table, names in columns.items()}
        mark = self._mark
        interactions = InteractionRow.__tablename__
        self._finish = (
            f"UPDATE {interactions} SET outcome = {mark} "  # noqa: S608
            f"WHERE session_id = {mark} AND number = {mark}"
        )
        self._advance = (
            sa.update(SESSIONS)
            .where(
                SESSIONS.c.id == sa.bindparam("session"),
                SESSIONS.c.lease_owner.is_not_distinct_from(sa.bindparam("owner", type_=sa.String)),
            )
            .values(head=SESSIONS.c.head + sa.bindparam("count"), updated=sa.bindparam("now"))
            .returning(SESSIONS.c.head)
        )

    def _insert(self, table: type[Table], columns: Sequence[str]) -> tuple[str, str]:
        """The statements that insert one row, and ``CHUNK`` rows."""
        # Names come from the tables' own metadata, values travel as parameters.
        row = f"({', '.join([self._mark] * len(columns))})"
        head = f"INSERT INTO {table.__tablename__} ({', '.join(columns)}) VALUES "  # noqa: S608
        return head + row, head + ", ".join([row] * CHUNK)

    def insert(self, connection: Connection, table: type[Table], rows: list[tuple[Any, ...]]) -> None:
        """Insert rows given in the order of the table's columns."""
        one, many = self._inserts[table]
        whole = len(rows) - len(rows) % CHUNK
        for start in range(0, whole, CHUNK):
            values = tuple(chain.from_iterable(rows[start : start + CHUNK]))
            connection.exec_driver_sql(many, values)
        if rest := rows[whole:]:
            connection.exec_driver_sql(one, rest)

    def finish(self, connection: Connection, outcomes: list[tuple[str, int, int]]) -> None:
        """Set the outcomes of ended interactions."""
        connection.exec_driver_sql(self._finish, outcomes)

    def advance(self, connection: Connection, handle: Handle, count: int, now: float) -> int:
        """Add ``count`` to the session's head and return it. Raises ``LeaseLost``."""
        values = {
            "session": handle.id,
            "owner": handle.owner,
            "count": count,
            "now": datetime.fromtimestamp(now, UTC),
        }
        head = connection.execute(self._advance, values).scalar()
        if head is None:
            raise LeaseLost(
                f"Session {handle.key} was deleted, or another process has taken it over; this one stops. "
                f"Look at it with: sandbox sessions show {handle.key}"
            )
        return int(head)


def _deliver(items: Sequence[_Append], results: Sequence[_Result]) -> None:
    """Hand the results to the waiting tasks, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[list[Recorded]], _Result]]] = {}
    for item, result in zip(items, results, strict=True):
        by_loop.setdefault(item.loop, []).append((item.future, result))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # the loop has just been closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple[asyncio.Future[list[Recorded]], _Result]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, SandboxError):
            future.set_exception(result)
        else:
            future.set_result(result)

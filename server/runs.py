"""The sessions that this process runs, and the commands to them, whichever process they arrive at.

A run belongs to the server, never to a socket. One process owns a session by its lease; commands wait in the
inbox for it, so that any process can take them, and none is lost or done twice. What an owner dies over,
another takes over. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from sandbox.aside import Aside
from sandbox.errors import LeaseLost, SandboxError, SessionError, StoreError
from sandbox.events import Recorded
from sandbox.store import sessions
from sandbox.store.inbox import Command
from sandbox.store.tables import SessionRow
from server.auth import Identity
from server.hub import Channel, Hub
from server.onlookers import Onlookers
from server.resources import Resources
from server.run import Run
from server.wire import commands as do

log = structlog.get_logger("sandbox.runs")
_FORGET_S = 7 * 86_400.0


class Result(NamedTuple):
    """What became of a command. ``code`` is None if it was carried out."""

    interaction: int | None = None
    data: dict[str, Any] | None = None
    code: str | None = None
    message: str = ""


class Runs:
    """See the module. ``start`` and ``close`` belong to the server's own."""

    def __init__(self, parts: Resources, hub: Hub) -> None:
        self._parts = parts
        self._hub = hub
        self._onlookers = Onlookers(parts)
        self._runs: dict[str, Run] = {}
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._changed: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._scanner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.watchers: list[Callable[[Recorded], None]] = []

    @property
    def here(self) -> dict[str, Run]:
        """The sessions that this process has open."""
        return self._runs

    def start(self) -> None:
        """Begin to look for sessions to go on with."""
        self._scanner = asyncio.create_task(self._scan())

    async def close(self) -> None:
        """Leave all sessions as they are, running ones for others to go on with."""
        if self._scanner is not None:
            self._scanner.cancel()
            await asyncio.wait([self._scanner])
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(self._close(run) for run in tuple(self._runs.values())))
        await self._onlookers.close()
        await self._parts.workers.close()

    async def submit(
        self, key: str, who: Identity, person: str | None, cid: str, command: do.Command
    ) -> Result:
        """Have a command carried out, once. Raises ``SessionError`` for an unknown session."""
        if isinstance(command, do.ChangeModel | do.AddSeat) and command.model is not None:
            self._parts.server.check_model(command.model)  # before it is kept: there may be a key in it
        body = {"person": person, "command": command.model_dump(mode="json")}
        if (run := self._runs.get(key)) and not run.is_lost:
            kept = await self._keep(run.handle.id, key, who, cid, command.do, body)
            return _result(kept if kept.state != "waiting" else await run.carry_out(kept))
        row = await asyncio.to_thread(sessions.find, self._parts.store.database, key)
        assert row.id is not None
        kept = await self._keep(row.id, row.key, who, cid, command.do, body)
        if kept.state != "waiting":
            return _result(kept)
        if owned := await self._owned(row):
            return _result(await owned.carry_out(kept))
        return await self._elsewhere(row, kept)

    async def _keep(
        self, session: int, key: str, who: Identity, cid: str, kind: str, body: dict[str, Any]
    ) -> Command:
        return await asyncio.to_thread(self._parts.inbox.put, session, key, who.actor, cid, kind, body)

    async def aside(self, key: str) -> Aside:
        """The society of a session for questions off the record."""
        row = await asyncio.to_thread(sessions.find, self._parts.store.database, key)
        run = await self._owned(row)
        if run is None:
            return await self._onlookers.aside(row)
        run.used = time.monotonic()
        return await run.engine.aside()

    def wake(self, key: str) -> None:
        """Something was written to a session by another process, or by this one."""
        for event in self._changed.get(key, ()):
            event.set()
        run = self._runs.get(key)
        if run is not None:
            self._soon(self._carry_out_waiting(run))

    async def delete(self, key: str) -> SessionRow:
        """Stop and delete a session with all that hangs on it. Raises ``SessionError``."""
        row = await asyncio.to_thread(sessions.find, self._parts.store.database, key)
        if run := self._runs.get(row.key):
            await run.pause("stopped")
            await self._close(run)
        deleted = await asyncio.to_thread(sessions.delete, self._parts.store.database, row.key)
        self._hub.close(row.key, "deleted")
        return deleted

    async def _owned(self, row: SessionRow) -> Run | None:
        """The run of a session in this process, opened if nobody has it; None if another process has."""
        async with self._opening[row.key]:
            if (run := self._runs.get(row.key)) and not run.is_lost:
                return run
            try:
                handle = await asyncio.to_thread(
                    lambda: sessions.lease(self._parts.store.database, row.key, served=True)
                )
            except SessionError:
                if await asyncio.to_thread(self._is_held, row.key):
                    return None
                raise
            channel = self._hub.open(row.key, row.head)
            run = Run(self._parts, handle, self._listen, self._tell)
            await run.open()
            # What another owner wrote last may not have been announced here yet.
            missing = await asyncio.to_thread(
                lambda: list(self._parts.store.log.read(row.key, after=channel.head, until=run.head))
            )
            for recorded in missing:
                channel.publish(recorded)
            self._runs[row.key] = run
            run.go_on()
        return run

    def channel(self, row: SessionRow) -> Channel:
        """The channel of a session, made if there is none."""
        run = self._runs.get(row.key)
        return self._hub.open(row.key, run.head if run else row.head)

    def _tell(self, key: str, text: str) -> None:
        if channel := self._hub.channel(key):
            channel.tell(text)

    def _listen(self, recorded: Recorded) -> None:
        if channel := self._hub.channel(recorded.session):
            channel.publish(recorded)
        for watcher in self.watchers:
            watcher(recorded)

    def _is_held(self, key: str) -> bool:
        row = sessions.find(self._parts.store.database, key)
        return sessions.in_use(row.lease_owner, row.lease_until)

    async def _elsewhere(self, row: SessionRow, command: Command) -> Result:
        """Wait until the process that owns the session has carried a command out."""
        changed = asyncio.Event()
        self._changed[row.key].add(changed)
        try:
            async with asyncio.timeout(self._parts.server.command_timeout_s):
                while True:
                    found = await asyncio.to_thread(self._parts.inbox.find, command.id)
                    if found is None:
                        raise SessionError(f"Session {row.key} has been deleted.")
                    if found.state != "waiting":
                        return _result(found)
                    if run := await self._owned(row):
                        return _result(await run.carry_out(found))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), self._parts.server.scan_s)
                    changed.clear()
        except TimeoutError:
            return Result(
                code="busy",
                message=f"Session {row.key} is run by a process that does not answer. The command is kept; "
                "send it again with the same cid to learn what became of it.",
            )
        finally:
            self._changed[row.key].discard(changed)

    async def _scan(self) -> None:
        """Every ``scan_s`` seconds: take over what was left, and give up what is idle."""
        tidied = time.monotonic()
        while True:
            try:
                await self._adopt()
                for run in tuple(self._runs.values()):
                    if run.is_lost or (
                        not run.is_busy and time.monotonic() - run.used > self._parts.server.idle_s
                    ):
                        await self._close(run)
                if time.monotonic() - tidied > 3600:
                    tidied = time.monotonic()
                    await asyncio.to_thread(self._parts.inbox.forget, time.time() - _FORGET_S)
            except StoreError as error:
                log.warning("store_unavailable", error=str(error))
            except Exception:  # what it did not reckon with is logged; sessions must still be taken over
                log.exception("scan_failed")
            await asyncio.sleep(self._parts.server.scan_s)

    async def _adopt(self) -> None:
        database = self._parts.store.database
        adoptable = await asyncio.to_thread(sessions.adoptable, database)
        waiting = await asyncio.to_thread(self._parts.inbox.sessions_waiting)
        for key in dict.fromkeys((*adoptable, *waiting)):
            if key in self._runs:
                continue
            try:
                row = await asyncio.to_thread(sessions.find, database, key)
                run = await self._owned(row)
            except SandboxError as error:
                log.warning("not_adopted", session=key, error=str(error))
                continue
            if run is None:
                continue
            if key in adoptable:
                log.info("taken_over", session=key, status=row.status)
            await self._carry_out_waiting(run)

    async def _carry_out_waiting(self, run: Run) -> None:
        for command in await asyncio.to_thread(self._parts.inbox.waiting, run.handle.id):
            self._soon(run.carry_out(command))

    async def _close(self, run: Run) -> None:
        async with self._opening[run.key]:
            if self._runs.get(run.key) is run:
                del self._runs[run.key]
            try:
                await run.close()
            except LeaseLost:
                log.info("lost", session=run.key)

    def _soon(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("background_failed", error=self._parts.redact(str(error)))


def _result(command: Command) -> Result:
    result = command.result or {}
    if command.state == "refused":
        return Result(code=result.get("code", "refused"), message=result.get("message", ""))
    return Result(interaction=result.get("interaction"), data=result.get("data"))

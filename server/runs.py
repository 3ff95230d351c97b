"""The sessions that this process runs, and the commands to them, whichever process they arrive at.

A run belongs to the server, never to a socket. One process owns a session by its lease; commands wait in the
inbox for it, so that any process can take them, and none is lost or done twice. What an owner dies over,
another takes over. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import structlog

from sandbox.aside import Aside
from sandbox.errors import LeaseLost, SandboxError, SessionError, StoreError
from sandbox.events import Recorded
from sandbox.store import sessions, withdrawal
from sandbox.store.inbox import Command
from sandbox.store.tables import SessionRow
from sandbox.store.withdrawal import Forgotten
from server.auth import Identity
from server.commands import IN_TURN
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
    code: str | None = None
    message: str = ""


class Runs:
    """See the module. ``start`` and ``close`` belong to the server's own."""

    def __init__(self, parts: Resources, hub: Hub) -> None:
        self._parts = parts
        self._hub = hub
        self._onlookers = Onlookers(parts)
        self._runs: dict[str, Run] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._opening: dict[str, asyncio.Task[Run | None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
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
        """Leave all sessions as they are, running ones for others to go on with if that is wanted."""
        if self._scanner is not None:
            self._scanner.cancel()
            await asyncio.wait([self._scanner])
        for task in tuple(self._tasks):
            task.cancel()
        for tasks in (self._tasks, set(self._opening.values()), set(self._closing)):
            if tasks:
                await asyncio.wait(tasks)
        if not self._parts.server.take_over:
            await asyncio.gather(*(run.leave_be() for run in tuple(self._runs.values()) if not run.is_lost))
        await asyncio.gather(*(self._close(run) for run in tuple(self._runs.values())))
        await self._onlookers.close()
        await self._parts.workers.close()

    async def submit(
        self,
        key: str,
        who: Identity,
        person: str | None,
        cid: str,
        command: do.Command,
        order: asyncio.Lock | None = None,
    ) -> Result:
        """Have a command carried out, once. Raises ``SessionError`` for an unknown session.

        Of those that are done in turn, those that are sent under the same ``order`` are carried out in the
        order that they came.
        """
        if isinstance(command, do.ChangeModel | do.AddSeat) and command.model is not None:
            self._parts.server.check_model(command.model)  # before it is kept: there may be a key in it
        body = {"person": person, "command": command.model_dump(mode="json")}
        async with order if order is not None and command.do in IN_TURN else nullcontext():
            run = self._runs.get(key)
            if run is not None and not run.is_lost:
                number = run.handle.id
            else:
                row = await asyncio.to_thread(sessions.find, self._parts.store.database, key)
                assert row.id is not None
                number, key = row.id, row.key
            kept = await asyncio.to_thread(
                self._parts.inbox.put, number, key, who.actor, cid, command.do, body
            )
            if kept.state != "waiting":
                return _result(kept)
            working = asyncio.create_task(self._carried_out(key, kept))
            self._tasks.add(working)
            working.add_done_callback(self._done)
        return _result(await asyncio.shield(working))

    async def _carried_out(self, key: str, kept: Command) -> Command:
        """What became of a command, whichever process has the session. Whoever goes away does not end it."""
        run = self._runs.get(key)
        if run is not None and not run.is_lost:
            with suppress(LeaseLost):
                return await run.commands.carry_out(kept)
        return await self._elsewhere(key, kept)

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

    async def withdraw(self, key: str, person: str, *, spare_namesakes: bool) -> Forgotten:
        """Take a person out of a session and its forks, whichever process has them.

        What goes on in them is taken up again where the log ends; who listens gets them anew. Raises as
        ``withdrawal.forget``.
        """
        database, log = self._parts.store.database, self._parts.store.log
        keys = [key, *await asyncio.to_thread(withdrawal.copies, database, key)]
        with_part = [
            one for one in keys if await asyncio.to_thread(withdrawal.has_part, database, log, one, person)
        ]
        closed = []
        async with AsyncExitStack() as locks:
            for one in sorted(with_part):
                await locks.enter_async_context(self._lock(one))
                if run := self._runs.get(one):
                    closed.append(one)
                    await self._shut(run)
            forget = partial(withdrawal.forget, spare_namesakes=spare_namesakes, take_over=True)
            try:
                return await asyncio.to_thread(forget, database, log, key, person)
            finally:
                for one in with_part:
                    self._onlookers.forget(one)
                await self._notice_withdrawals()
                self._soon(self._open_again(closed))

    async def _open_again(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self._owned(await asyncio.to_thread(sessions.find, self._parts.store.database, key))

    async def _notice_withdrawals(self) -> None:
        """End the channels of sessions that somebody was taken out of, here or by another process."""
        if keys := [channel.key for channel in self._hub.channels()]:
            epochs = await asyncio.to_thread(self._parts.store.log.epochs, keys)
            for key, epoch in epochs.items():
                self._hub.turn(key, epoch)

    async def _owned(self, row: SessionRow) -> Run | None:
        """The run of a session in this process, opened if nobody has it; None if another process has.

        Whoever goes away meanwhile leaves the opening to go on.
        """
        if (run := self._runs.get(row.key)) and not run.is_lost:
            return run
        opening = self._opening.get(row.key)
        if opening is None:
            opening = self._opening[row.key] = asyncio.create_task(self._open(row))
            opening.add_done_callback(lambda _: self._opening.pop(row.key, None))
        return await asyncio.shield(opening)

    async def _open(self, row: SessionRow) -> Run | None:
        async with self._lock(row.key):
            if known := self._runs.get(row.key):
                if not known.is_lost:
                    return known
                await self._shut(known)
            try:
                handle = await asyncio.to_thread(
                    lambda: sessions.lease(self._parts.store.database, row.key, served=True)
                )
            except SessionError:
                if await asyncio.to_thread(self._is_held, row.key):
                    return None
                raise
            run = Run(self._parts, handle, self._listen, self._tell)
            try:
                channel = self._hub.open(row.key, row.head, handle.epoch)
                await run.open()
                # What another owner wrote last may not have been announced here yet.
                missing = await asyncio.to_thread(
                    lambda: list(self._parts.store.log.read(row.key, after=channel.head, until=run.head))
                )
            except BaseException:
                await run.close()
                raise
            for recorded in missing:
                channel.publish(recorded)
            self._runs[row.key] = run
            if self._parts.server.take_over:
                run.go_on()
            else:
                await run.leave_be()
        return run

    def _lock(self, key: str) -> asyncio.Lock:
        """What opening and closing a session take turns by; gone when nobody holds or wants it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def channel(self, row: SessionRow) -> Channel:
        """The channel of a session, made if there is none."""
        run = self._runs.get(row.key)
        return self._hub.open(row.key, run.head if run else row.head, row.epoch)

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

    async def _elsewhere(self, key: str, command: Command) -> Command:
        """Wait until the process that owns the session has carried a command out."""
        changed = asyncio.Event()
        self._changed[key].add(changed)
        database = self._parts.store.database
        try:
            async with asyncio.timeout(self._parts.server.command_timeout_s):
                while True:
                    found = await asyncio.to_thread(self._parts.inbox.find, command.id)
                    if found is None:  # with the session, or with the person who gave it
                        raise SessionError(f"The command to session {key} has been deleted.")
                    if found.state != "waiting":
                        return found
                    if run := await self._owned(await asyncio.to_thread(sessions.find, database, key)):
                        begun = await self._carry_out_waiting(run)  # all of them, in their order
                        if command.id in begun:
                            with suppress(LeaseLost):
                                return await run.commands.carry_out(begun[command.id])
                        continue
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), self._parts.server.scan_s)
                    changed.clear()
        except TimeoutError:
            busy = (
                f"Session {key} is run by a process that does not answer. The command is kept; send it again "
                "under the same id to learn what became of it."
            )
            return command._replace(state="refused", result={"code": "busy", "message": busy})
        finally:
            self._changed[key].discard(changed)
            if not self._changed[key]:
                del self._changed[key]

    async def _scan(self) -> None:
        """Every ``scan_s`` seconds: take over what was left, and give up what is idle."""
        tidied = time.monotonic()
        while True:
            try:
                await self._adopt()
                await self._notice_withdrawals()
                for run in tuple(self._runs.values()):
                    idle = not run.is_busy and time.monotonic() - run.used > self._parts.server.idle_s
                    if run.is_adrift:
                        run.go_on()
                    elif run.is_lost or idle:
                        await asyncio.shield(self._begin_to_close(run))
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
        if not (server := self._parts.server).take_over:  # its own is opened, to be shown as paused
            adoptable = [key for key in adoptable if key == server.session]
        waiting = await asyncio.to_thread(self._parts.inbox.sessions_waiting)
        for key in dict.fromkeys((*adoptable, *waiting)):
            if run := self._runs.get(key):
                if key in waiting:  # left there by a process that could not wake this one
                    await self._carry_out_waiting(run)
                continue
            try:
                row = await asyncio.to_thread(sessions.find, database, key)
                run = await self._owned(row)
            except SandboxError as error:
                log.warning("not_adopted", session=key, error=self._parts.redact(str(error)))
                continue
            except Exception:  # one session that can't be read must not keep the others waiting
                log.exception("not_adopted", session=key)
                continue
            if run is None:
                continue
            if key in adoptable:
                log.info("taken_over", session=key, status=row.status)
            await self._carry_out_waiting(run)

    async def _carry_out_waiting(self, run: Run) -> dict[int, Command]:
        """Begin what is in the inbox, in the order that it came."""
        waiting = await asyncio.to_thread(self._parts.inbox.waiting, run.handle.id)
        for command in waiting:
            self._soon(run.commands.carry_out(command))
        return {command.id: command for command in waiting}

    async def _close(self, run: Run) -> None:
        async with self._lock(run.key):
            await self._shut(run)

    def _begin_to_close(self, run: Run) -> asyncio.Task[None]:
        """Close a session; whoever shuts down meanwhile waits until it is given back."""
        task = asyncio.create_task(self._close(run))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _shut(self, run: Run) -> None:
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
            await run.close()

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
    return Result(interaction=result.get("interaction"))

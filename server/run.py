"""One session that this process owns: its engine, its rounds as a task, and what goes on beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from sandbox import events as ev
from sandbox.engine import Engine
from sandbox.errors import BudgetExhausted, LeaseLost, SandboxError
from sandbox.events import Recorded
from sandbox.running import at_work
from sandbox.store import queries
from sandbox.store.log import Handle
from server.booking import Booking, key_of
from server.commands import Commands
from server.deltas import Deltas
from server.resources import Resources

log = structlog.get_logger("sandbox.run")


class Run:
    """See the module. ``used`` is when it was last needed, on the monotonic clock."""

    engine: Engine

    def __init__(
        self,
        parts: Resources,
        handle: Handle,
        listener: Callable[[Recorded], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.handle = handle
        self.key = handle.key
        self.used = time.monotonic()
        self.head = 0
        self.is_lost = False
        self._parts = parts
        self._listener = listener
        self.booking = Booking(parts.purses, self._over_budget)
        self._deltas = Deltas(handle, parts.server.delta_interval_s, partial(tell, handle.key))
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._begun = asyncio.Event()
        self._failure: SandboxError | None = None
        self._has_loose_ends = True
        self.commands = Commands(self, parts)

    @property
    def is_busy(self) -> bool:
        """Whether anything goes on, or anybody sits there."""
        going_on = self.is_running or self.has_background or self.commands.are_under_way
        return bool(going_on or self.engine.progress.people or self.engine.is_asked_aside)

    @property
    def is_running(self) -> bool:
        """Whether rounds go on."""
        return self._task is not None and not self._task.done()

    @property
    def has_background(self) -> bool:
        """Whether something goes on beside the rounds."""
        return bool(self._background)

    async def open(self) -> None:
        """Take up the session's state; the lease is held until ``close``."""
        parts = self._parts
        self.engine = await self._stack.enter_async_context(
            at_work(
                parts.store,
                self.handle,
                parts.settings,
                parts.redact,
                ceiling=parts.server.budget,
                on_lost=self._lost,
                listener=self._listen,
                streamer=self._deltas.add,
                workers=parts.workers,
            )
        )
        self.engine.purse_of = self.booking.purse_of
        database, progress = parts.store.database, self.engine.progress
        self.head = await asyncio.to_thread(queries.head, database, self.key)
        starter = await asyncio.to_thread(queries.last_actor, database, self.handle.id, ("start", "step"))
        self.booking.payer = key_of(starter)
        askers = await asyncio.to_thread(parts.inbox.askers, self.handle.id) if progress.open else {}
        self.booking.take_over([opened.started for opened in progress.open.values()], askers)

    def _lost(self) -> None:
        """Another process has the session: nothing that is done here goes anywhere."""
        self.is_lost = True

    async def close(self) -> None:
        """End what goes on, without a word in the log, and give the lease back."""
        if hasattr(self, "engine"):  # it may not have come so far
            self.engine.stop_as = None
        await self.commands.close()  # first: they begin the others
        for task in (*self._background, *([self._task] if self._task else [])):
            task.cancel()
            await asyncio.wait([task])
        await self._stack.aclose()

    def go_on(self) -> None:
        """Take up what another process left: the rounds, or the questions and messages beside them."""
        if self.engine.progress.status == "running":
            until, done = self.engine.progress.until, self.engine.progress.rounds_done
            self.start(None, at_most=None if until is None else max(until - done, 0))
        self._finish_loose_ends()

    async def leave_be(self) -> None:
        """Pause what another process left running; its loose ends are tied when somebody starts it."""
        if self.engine.progress.status == "running":
            await self.pause("stopped")

    def _finish_loose_ends(self) -> None:
        if self._has_loose_ends:
            self._has_loose_ends = False
            self.aside(self.engine.finish_loose_ends())

    def start(self, rounds: int | None, *, at_most: int | None = None, budget: float | None = None) -> None:
        """Run the rounds, if they don't run already."""
        if not self.is_running:
            self.engine.stop_as = "stopped"
            self._begun.clear()
            self._failure = None
            self._task = asyncio.create_task(self._rounds(rounds, at_most, budget))
            self._finish_loose_ends()

    async def begun(self) -> None:
        """Returns when it is on record that the rounds go on, or when they have ended.

        Raises what kept them from beginning.
        """
        if self._task is not None and self.engine.progress.status != "running":
            begun = asyncio.create_task(self._begun.wait())
            await asyncio.wait({begun, self._task}, return_when=asyncio.FIRST_COMPLETED)
            begun.cancel()
        if self._failure is not None and not self._begun.is_set():
            raise self._failure

    async def pause(self, reason: ev.PauseReason) -> None:
        """Stop the rounds, and say in the log why."""
        self.engine.stop_as = reason
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.engine.pause(reason)  # if it ended without being able to say so

    @property
    def is_adrift(self) -> bool:
        """Whether rounds ought to go on, and nobody sees to it: the database was away when they ended."""
        return not self.is_lost and not self.is_running and self.engine.progress.status == "running"

    def aside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have something go on beside the rounds."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        self.used = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            self.is_lost = self.is_lost or isinstance(error, LeaseLost)
            log.info("ended_early", session=self.key, error=self._parts.redact(str(error)))

    async def _rounds(self, rounds: int | None, at_most: int | None, budget: float | None) -> None:
        try:
            await self.engine.run(rounds, at_most=at_most, budget=budget)
        except LeaseLost:
            self.is_lost = True
            log.info("lost", session=self.key)
        except BudgetExhausted as error:
            log.info("budget_exhausted", session=self.key, detail=str(error))
        except SandboxError as error:
            self._failure = error
            log.warning("run_failed", session=self.key, error=self._parts.redact(str(error)))
        except asyncio.CancelledError:
            raise
        except Exception:  # a fault of ours: the engine has paused the session and said so in its log
            log.exception("run_failed", session=self.key)
        finally:
            self.used = time.monotonic()

    async def _over_budget(self) -> None:
        if self.is_running and asyncio.current_task() is not self._task:
            await self.pause("budget")

    def _listen(self, recorded: Recorded) -> None:
        self.head = recorded.seq
        event = recorded.event
        if isinstance(event, ev.RunResumed | ev.RoundStarted):
            self._begun.set()
        elif isinstance(event, ev.MessagePosted | ev.TurnFailed):
            self._deltas.settle(event.interaction, event.step)
        self.booking.take(event)
        self._listener(recorded)

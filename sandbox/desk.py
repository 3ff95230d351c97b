"""Runs many short jobs at once, with a task for each that has to wait and hardly any for those that don't.

A task a request is a good part of a society's cost when models answer at once (scripted, cached). Here a
task takes jobs until one makes it wait; before that it has left a successor to take the next. So jobs
that wait get a task each, as usual, and any number that don't share two. It knows nothing of societies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """One coroutine to be run, and the tray that its result goes to."""

    __slots__ = ("closed", "coroutine", "task", "tray")

    def __init__(self, coroutine: Coroutine[Any, Any, T], tray: Tray[T]) -> None:
        self.coroutine = coroutine
        self.tray = tray
        self.task: asyncio.Task[None] | None = None
        self.closed = False


class Desk:
    """Runs jobs within one event loop."""

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly
        self._successor = False

    def put(self, job: Job[Any]) -> None:
        """Run ``job`` soon."""
        self._jobs.append(job)
        self._appoint()

    def _appoint(self) -> None:
        if not self._successor:
            self._successor = True
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        self._successor = False
        me = asyncio.current_task()
        while self._jobs:
            job = self._jobs.popleft()
            if self._jobs:
                self._appoint()
            if job.closed:
                continue
            job.task = me
            try:
                result = await job.coroutine
            except asyncio.CancelledError:
                job.tray.drop(job)
                raise
            except Exception as error:  # noqa: BLE001 - handed to who waits for it
                job.tray.take(job, error)
            else:
                job.tray.take(job, result)
            job.task = None


class Tray(Generic[T]):
    """The jobs of one party: those that run, and the results not yet collected."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._running: set[Job[T]] = set()
        self._results: list[T | Exception] = []
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs and nothing waits to be collected."""
        return not self._running and not self._results

    def start(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Run one more."""
        job = Job(coroutine, self)
        self._running.add(job)
        self._desk.put(job)

    async def collect(self) -> list[T]:
        """The results since the last time, at least one. Raises what a job raised."""
        if not self._results:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        results, self._results = self._results, []
        failures = [result for result in results if isinstance(result, Exception)]
        good = [result for result in results if not isinstance(result, Exception)]
        if not good:
            raise failures[0]
        self._results += failures  # raised the next time: what succeeded must not be lost with them
        return good

    def cancel(self) -> None:
        """Stop what still runs."""
        for job in self._running:
            if job.task is not None:
                job.task.cancel()
            else:
                job.closed = True
                job.coroutine.close()
        self._running.clear()

    def take(self, job: Job[T], result: T | Exception) -> None:
        """Called by the desk: a job has ended."""
        self._running.discard(job)
        self._results.append(result)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def drop(self, job: Job[T]) -> None:
        """Called by the desk: a job was cancelled."""
        self._running.discard(job)

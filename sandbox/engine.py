"""Drives the pure generators against the seats' models, and records what happens.

Every outcome is committed before it is used: after a crash, only calls whose outcomes were not yet
committed are made again. It knows neither terminals nor HTTP; whoever watches gives it a listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from sandbox import events as ev
from sandbox.conversation import PERSON
from sandbox.courses import Courses
from sandbox.deliberation import Course
from sandbox.desk import Desk, Tray
from sandbox.embeddings import Embedder
from sandbox.errors import BudgetExhausted, ModelError, SandboxError, SessionError
from sandbox.exchange import Answered, Failure, Outcome, Request, Usage
from sandbox.models.base import Model
from sandbox.progress import OpenRound, Progress
from sandbox.recollection import Recollection
from sandbox.redaction import Redactor
from sandbox.schedule import Schedule
from sandbox.store.log import Handle, Log
from sandbox.text import storable

Listener = Callable[[ev.Recorded], None]
Streamer = Callable[[int, str, str], None]
"""Called with interaction, step and a piece of text as it is generated. Pieces are not recorded."""


class Engine:
    """One session at work; usable by one task at a time."""

    def __init__(
        self,
        log: Log,
        handle: Handle,
        progress: Progress,
        models: Callable[[str], Model],
        embedder: Embedder,
        redact: Redactor,
        listener: Listener | None = None,
        streamer: Streamer | None = None,
    ) -> None:
        self._log = log
        self._handle = handle
        self._progress = progress
        self._models = models
        self._embedder = embedder
        self._redact = redact
        self._listeners = [listener] if listener else []
        self._streamer = streamer
        society = progress.society
        self._answers_as = {seat.name: seat.model for seat in society.seats()}
        self._rates_as = self._answers_as | {a.name: a.rating_model for a in society.agents if a.rating_model}
        self._desk = Desk()
        self._schedule = Schedule(society, progress.seed)
        self._recollection = Recollection(society, embedder)
        self._courses = Courses(progress, self._schedule, self._recollection)
        self._remembered = 0
        self._exhausted: BudgetExhausted | None = None
        self._fault: Exception | None = None
        self._seeded = False

    @property
    def progress(self) -> Progress:
        """Where the session stands, as committed."""
        return self._progress

    def watch(self, listener: Listener) -> None:
        """Have ``listener`` told of every event from now on, beside the one given at the start."""
        self._listeners.append(listener)

    async def run(self, rounds: int | None = None) -> None:
        """Run until ``rounds`` rounds are done in all (the session's own number, if None).

        When cancelled, or when the budget is exhausted or a fault stops it, what is done is committed and the
        session is paused, and the cause raised again.
        """
        progress = self._progress
        target = max(progress.rounds if rounds is None else rounds, progress.rounds_done)
        if progress.status in ("paused", "finished") or target != progress.rounds:
            if progress.status == "finished" and target == progress.rounds_done and not progress.open:
                raise SessionError(
                    f"Session {self._handle.key} is finished. Give it more rounds with --rounds, or fork it."
                )
            await self._record([ev.RunResumed(rounds=target)])
        self._exhausted = None
        try:
            await self._finish_loose_ends()
            while progress.rounds_done < target:
                await self._round(progress.rounds_done + 1)
            await self._record([ev.RunFinished()])
        except asyncio.CancelledError:
            if self._progress.status != "finished":
                await self._pause("stopped", "")
            raise
        except Exception as error:
            cause = _first_cause(error)
            await self._pause("budget" if isinstance(cause, BudgetExhausted) else "error", str(cause))
            if cause is error:
                raise
            raise cause from error

    async def ask(self, question: str, seat: str, *, society: bool) -> int:
        """Put one question to a seat: its answer only, or a whole deliberation. Returns the interaction."""
        self._courses.agent(seat)
        await self._prepare()
        number = self._progress.next_interaction
        started = self._courses.asked(number, None, storable(question), seat, society=society)
        await self._drive(await self._courses.deliberation(started), number)
        await self._remember()
        return number

    async def say(self, text: str, recipients: Sequence[str], author: str = PERSON) -> int:
        """Send a message to some seats, who answer. Returns the interaction."""
        self._courses.check_talk(author, recipients)
        await self._prepare()
        number = self._progress.next_interaction
        names = tuple(dict.fromkeys(recipients))
        await self._drive(await self._courses.talk(number, author, storable(text), names), number)
        return number

    async def judge(self, target: ev.MessagePosted, question: str, rater: str, dimension: str) -> int:
        """Have a seat rate a message. Returns the interaction."""
        number = self._progress.next_interaction
        await self._drive(self._courses.judgement(number, target, question, rater, dimension), number)
        return number

    async def vote(
        self, target: str, dimension: str, value: float, reason: str = "", rater: str = PERSON
    ) -> int:
        """Record a person's rating of a message. Returns the interaction."""
        number = self._progress.next_interaction
        course = self._courses.vote(number, target, dimension, value, storable(reason), rater)
        await self._drive(course, number)
        return number

    async def _prepare(self) -> None:
        if not self._seeded:
            await self._recollection.seed()
            self._seeded = True
        await self._remember()

    async def _remember(self) -> None:
        if fresh := self._progress.revised[self._remembered :]:
            await self._recollection.remember(fresh)
            self._remembered += len(fresh)

    async def _round(self, number: int) -> None:
        await self._prepare()
        await self._begin_round(number)
        opened = [o.started for o in self._progress.open.values() if o.started.round == number]
        await self._embedder.embed([started.question for started in opened])
        slots = asyncio.Semaphore(self._progress.society.limits.in_flight)
        async with asyncio.TaskGroup() as group:
            for started in opened:
                group.create_task(self._go_on(started, slots))
        if self._exhausted:
            raise self._exhausted
        await self._record([ev.RoundFinished(round=number)])

    async def _begin_round(self, number: int) -> None:
        """Put on record who is asked what, all at once; or what of it a fork in its midst has cut off."""
        questions = self._progress.society.questions
        assignments = self._schedule.assignments(number)
        events: list[ev.Event] = []
        round = self._progress.open_round
        if round is None:
            round = OpenRound(number, self._progress.next_interaction, len(assignments))
            events.append(ev.RoundStarted(round=number, first=round.first, count=round.count))
        for interaction, assigned in enumerate(assignments, round.first):
            if interaction not in round.finished and interaction not in self._progress.open:
                question = questions[assigned.question].text
                events.append(self._courses.asked(interaction, number, question, assigned.agent.name))
        if events:
            await self._record(events)

    async def _go_on(self, started: ev.InteractionStarted, slots: asyncio.Semaphore) -> None:
        async with slots:
            if self._exhausted:
                return
            if course := await self._courses.of(started):
                # Whoever finds the budget exhausted leaves it to the round to say so, when all calls that
                # are under way, and paid for, have come in.
                with suppress(BudgetExhausted):
                    await self._drive(course, started.interaction)

    async def _finish_loose_ends(self) -> None:
        """End the questions and messages outside rounds that a crash left half done."""
        loose = [opened.started for opened in self._progress.open.values() if opened.started.round is None]
        await self._prepare()
        for started in loose:
            if course := await self._courses.of(started):
                await self._drive(course, started.interaction)
        await self._remember()

    async def _drive(self, course: Course, interaction: int) -> None:
        """Run one generator to its end, beginning with the outcomes that are on record."""
        turn = next(course)
        outstanding = list(turn.requests)
        events: list[ev.Event] = list(turn.events)
        if opened := self._progress.open.get(interaction):
            known = opened.answered()
            for answered in known:
                turn = course.send(answered)
                events += turn.events
                outstanding += turn.requests
            steps = {answered.step for answered in known}
            outstanding = [request for request in outstanding if request.step not in steps]
            events = [event for event in events if not opened.holds(event)]
        tray: Tray[Answered | None] = Tray(self._desk)
        refused = 0
        try:
            while True:
                if events:
                    await self._record(events)
                if self._exhausted:
                    refused += len(outstanding)
                else:
                    for request in outstanding:
                        tray.start(self._answer(interaction, request))
                if tray.is_empty:
                    if refused and self._exhausted:
                        raise self._exhausted
                    return
                events, outstanding = [], []
                for answer in await tray.collect():
                    if answer is None:
                        refused += 1
                        continue
                    turn = course.send(answer)
                    events += turn.events
                    outstanding += turn.requests
        finally:
            tray.cancel()

    async def _answer(self, interaction: int, request: Request) -> Answered | None:
        """The outcome of a request; None if the budget does not allow for it."""
        try:
            return Answered(request.step, await self._outcome(interaction, request))
        except BudgetExhausted as error:
            self._exhausted = error
            return None

    async def _outcome(self, interaction: int, request: Request) -> Outcome:
        rating = request.purpose in ("rate", "observe")
        spec = (self._rates_as if rating else self._answers_as)[request.seat]
        on_delta = None
        if (streamer := self._streamer) and not rating:
            step = request.step

            def on_delta(piece: str) -> None:
                streamer(interaction, step, piece)

        try:
            return await self._models(spec).generate(request, on_delta)
        except BudgetExhausted:
            raise
        except ModelError as error:
            name = spec.partition("?")[0]
            usage = Usage(model=name, attempts=error.attempts, cost=error.cost, finish="error")
            return Failure(error.kind, self._redact(str(error)), usage)  # type: ignore[arg-type]

    async def _record(self, events: Sequence[ev.Event]) -> None:
        """Commit events, take them into account and tell the listeners.

        A commit that is under way can't be called back: whoever is cancelled meanwhile waits for it.
        """
        future = self._log.append(self._handle, events)
        future.add_done_callback(self._took)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
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
        except Exception as error:  # noqa: BLE001
            self._fault = error
        for recorded in future.result():
            for listener in self._listeners:
                try:
                    listener(recorded)
                except Exception as error:  # noqa: BLE001
                    self._fault = self._fault or error

    async def _pause(self, reason: ev.PauseReason, detail: str) -> None:
        """Say in the log that the run stopped; a log that can't be written any more has said so already."""
        with suppress(SandboxError):
            await self._record([ev.RunPaused(reason=reason, detail=self._redact(detail))])


def _first_cause(error: Exception) -> Exception:
    """What went wrong first, below all groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error

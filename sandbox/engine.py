"""Drives the pure generators against the seats' models, and records what happens.

Every outcome is committed before it is used: after a crash, only calls whose outcomes were not yet
committed are made again. It knows neither terminals nor HTTP; whoever watches gives it a listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakSet

from sandbox import events as ev
from sandbox.amendments import Amendments
from sandbox.aside import Aside
from sandbox.conversation import PERSON
from sandbox.courses import Courses, check_text
from sandbox.deliberation import Course
from sandbox.desk import Desk, Tray
from sandbox.embeddings import Embedder
from sandbox.errors import BudgetExhausted, SandboxError, SessionError, first_cause
from sandbox.exchange import Answered, Failure, Outcome, Request
from sandbox.models.base import Model, outcome_of
from sandbox.models.limits import Ledger, Purse, paid_by
from sandbox.people import People
from sandbox.progress import OpenRound, Progress
from sandbox.recollection import Recollection
from sandbox.recorder import Listener, Recorder
from sandbox.redaction import Redactor
from sandbox.schedule import Schedule
from sandbox.store.inbox import Receipt
from sandbox.store.log import Handle, Log
from sandbox.text import kept, storable

Streamer = Callable[[int, str, str], None]
"""Called with interaction, step and a piece of text as it is generated. Pieces are not recorded."""
_AT_ONCE = 256
"""Seats whose peers are chosen in one turn of the event loop: it may be wanted to stop meanwhile."""


class Engine:
    """One session at work, within one event loop.

    One task at a time may ``run`` it; questions, talk and ratings may come beside that, any number at once.
    ``stop_as`` is the reason on record when ``run`` is cancelled; None leaves the session running, for
    another process to go on with. ``ledger`` is what its models spend from, and ``purse_of`` says who pays
    for an interaction beside it.
    """

    stop_as: ev.PauseReason | None = "stopped"
    ledger: Ledger | None = None
    purse_of: Callable[[int], Purse | None] = staticmethod(lambda _: None)

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
        self._handle = handle
        self._progress = progress
        self._models = models
        self._embedder = embedder
        self._redact = redact
        self._record = Recorder(log, handle, progress, listener)
        self._streamer = streamer
        self.people = People(progress, self._record)
        self.amendments = Amendments(progress, models, self._record)
        self._desk = Desk()
        self._schedule = Schedule(progress.society, progress.seed)
        self._recollection = Recollection(progress.society, embedder)
        self._courses = Courses(progress, self._schedule, self._recollection, self.people)
        self._driving: set[int] = set()
        self._next = 1
        self._memories = asyncio.Lock()
        self._remembered = 0
        self._exhausted: BudgetExhausted | None = None
        self._seeded = False
        self._asides: WeakSet[Aside] = WeakSet()

    @property
    def progress(self) -> Progress:
        """Where the session stands, as committed."""
        return self._progress

    async def aside(self) -> Aside:
        """The society for questions off the record; it is as this session is at any time."""
        await self._prepare()
        aside = Aside(self._progress, self._courses, self._models, self._redact)
        self._asides.add(aside)
        return aside

    @property
    def is_asked_aside(self) -> bool:
        """Whether somebody is being answered off the record."""
        return any(aside.is_busy for aside in self._asides)

    def watch(self, listener: Listener) -> None:
        """Have ``listener`` told of every event from now on, beside the one given at the start."""
        self._record.watch(listener)

    async def run(
        self, rounds: int | None = None, *, at_most: int | None = None, budget: float | None = None
    ) -> None:
        """Run until ``rounds`` rounds are done in all (the session's own number, if None).

        After ``at_most`` of them it pauses, if there are more to do. From now on the session may cost
        ``budget`` US dollars in all, if that is given. Both are on record, for whoever goes on with it.

        When cancelled, or when the budget is exhausted or a fault stops it, what is done is committed and the
        session is paused, and the cause raised again.
        """
        progress = self._progress
        target = max(progress.rounds if rounds is None else rounds, progress.rounds_done)
        until = None if at_most is None else progress.rounds_done + at_most
        changes = target != progress.rounds or until != progress.until or budget is not None
        if progress.status in ("paused", "finished") or changes:
            if progress.status == "finished" and target == progress.rounds_done and not progress.open:
                raise SessionError(
                    f"Session {self._handle.key} is finished. Give it more rounds with --rounds, or fork it."
                )
            await self._record([ev.RunResumed(rounds=target, until=until, budget=budget)])
        self._exhausted = None
        try:
            await self.finish_loose_ends(with_people=False)
            while progress.rounds_done < target:
                if until is not None and progress.rounds_done >= until:
                    await self._record([ev.RunPaused(reason="paused")])
                    return
                await self._round(progress.rounds_done + 1)
            await self._record([ev.RunFinished()])
        except asyncio.CancelledError:
            if self._progress.status != "finished" and self.stop_as:
                await self._pause(self.stop_as, "")
            raise
        except Exception as error:
            cause = first_cause(error)
            await self._pause("budget" if isinstance(cause, BudgetExhausted) else "error", str(cause))
            if cause is error:
                raise
            raise cause from error

    async def ask(
        self,
        question: str,
        seat: str,
        *,
        society: bool,
        person: str | None = None,
        receipt: Receipt | None = None,
    ) -> int:
        """Put one question to a seat: its answer only, or a whole deliberation. Returns the interaction.

        ``person`` is who asks. ``receipt`` here and below is for the command behind it: settled with the
        first commit.
        """
        self._courses.agent(seat)
        check_text(question)
        await self._prepare()
        number = self._numbers()
        started = self._courses.asked(number, None, storable(question), seat, society=society, person=person)
        await self._drive(await self._courses.deliberation(started), number, receipt)
        await self._remember()
        return number

    async def say(
        self, text: str, recipients: Sequence[str], author: str = PERSON, receipt: Receipt | None = None
    ) -> int:
        """Send a message to some seats, who answer. Returns the interaction."""
        self._courses.check_talk(author, recipients, text)
        await self._prepare()
        number = self._numbers()
        names = tuple(dict.fromkeys(recipients))
        await self._drive(await self._courses.talk(number, author, storable(text), names), number, receipt)
        return number

    async def judge(
        self,
        target: ev.MessagePosted,
        question: str,
        rater: str,
        dimension: str,
        receipt: Receipt | None = None,
    ) -> int:
        """Have a seat rate a message. Returns the interaction."""
        number = self._numbers()
        await self._drive(
            self._courses.judgement(number, target, question, rater, dimension), number, receipt
        )
        return number

    async def vote(
        self,
        target: str,
        dimension: str,
        value: float,
        reason: str = "",
        rater: str = PERSON,
        receipt: Receipt | None = None,
    ) -> int:
        """Record a person's rating of a message; a later one counts instead. Returns the interaction."""
        number = self._numbers()
        course = self._courses.vote(number, target, dimension, value, kept(reason), rater)
        await self._drive(course, number, receipt)
        return number

    async def finish_loose_ends(self, *, with_people: bool = True) -> None:
        """End the questions and messages outside rounds that a crash left half done.

        Without ``with_people``, those in which somebody has to be waited for are left for later.
        """
        await self._prepare()
        async with asyncio.TaskGroup() as group:  # no person keeps others waiting
            for opened in tuple(self._progress.open.values()):
                started = opened.started
                seats = {started.seat, *started.peers, *started.observers}
                if started.round is not None or started.interaction in self._driving:
                    continue
                if with_people or not seats & self._progress.people.keys():
                    self._driving.add(started.interaction)  # at once: others look for loose ends as well
                    group.create_task(self._finish(started))
        await self._remember()

    async def _finish(self, started: ev.InteractionStarted) -> None:
        try:
            if course := await self._courses.of(started):
                await self._drive(course, started.interaction)
        finally:
            self._driving.discard(started.interaction)

    def _numbers(self, count: int = 1) -> int:
        """The first of ``count`` numbers for interactions that nobody else gets."""
        first = max(self._next, self._progress.next_interaction)
        self._next = first + count
        return first

    async def _prepare(self) -> None:
        async with self._memories:
            if not self._seeded:
                await self._recollection.seed()
                self._seeded = True
        await self._remember()

    async def _remember(self) -> None:
        async with self._memories:
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
            round = OpenRound(number, self._numbers(len(assignments)), len(assignments))
            events.append(ev.RoundStarted(round=number, first=round.first, count=round.count))
        for interaction, assigned in enumerate(assignments, round.first):
            if interaction not in round.finished and interaction not in self._progress.open:
                question = questions[assigned.question].text
                events.append(self._courses.asked(interaction, number, question, assigned.agent.name))
                if len(events) % _AT_ONCE == 0:
                    await asyncio.sleep(0)
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
                    await self._drive(course, started.interaction, of_round=True)

    async def _drive(
        self, course: Course, interaction: int, receipt: Receipt | None = None, *, of_round: bool = False
    ) -> None:
        self._driving.add(interaction)
        receipts = [receipt] if receipt else []
        try:
            await self._drive_on(course, interaction, receipts, of_round)
        finally:
            self._driving.discard(interaction)
            self.people.give_up(interaction)
            for left in receipts:
                if not left.is_written:
                    left.failed(SessionError("The run has stopped. Send it again when it goes on."))

    async def _drive_on(
        self, course: Course, interaction: int, receipts: list[Receipt], of_round: bool
    ) -> None:
        """Run one generator to its end, beginning with the outcomes that are on record.

        Without money, a round is left open, to go on when there is some; what was asked outside ends failed.
        """
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
                    await self._record(events, tuple(receipts), interaction)
                if of_round and self._exhausted:
                    refused += len(outstanding)
                else:
                    for request in outstanding:
                        tray.start(self._answer(interaction, request, of_round))
                if tray.is_empty:
                    if refused and self._exhausted:
                        raise self._exhausted
                    return
                events, outstanding = [], []
                receipts.clear()
                for answer in await tray.collect():
                    if answer is None:
                        refused += 1
                        continue
                    receipts += self.people.receipts(interaction, answer.step)
                    turn = course.send(answer)
                    events += turn.events
                    outstanding += turn.requests
        finally:
            tray.cancel()

    async def _answer(self, interaction: int, request: Request, of_round: bool) -> Answered | None:
        """The outcome of a request; None if a round's budget does not allow for it."""
        try:
            return Answered(request.step, await self._outcome(interaction, request))
        except BudgetExhausted as error:
            if not of_round:
                return Answered(request.step, Failure("budget", str(error)))
            self._exhausted = error
            return None

    async def _outcome(self, interaction: int, request: Request) -> Outcome:
        if self._progress.people and (given := await self.people.reply(interaction, request)):
            return given
        rating = request.purpose in ("rate", "observe")
        on_delta = None
        if (streamer := self._streamer) and not rating:
            step = request.step

            def on_delta(piece: str) -> None:
                streamer(interaction, step, piece)

        spec = self._courses.spec(request.seat, rating=rating)
        if (purse := self.purse_of(interaction)) is None:
            return await outcome_of(self._models, spec, request, self._redact, on_delta)
        with paid_by(purse):
            return await outcome_of(self._models, spec, request, self._redact, on_delta)

    async def allow(self, budget: float) -> None:
        """From now on the session may cost so many US dollars in all; the run goes on."""
        progress = self._progress
        resumed = ev.RunResumed(rounds=progress.rounds, until=progress.until, budget=budget)
        await self._record([resumed])

    async def pause(self, reason: ev.PauseReason) -> None:
        """Say that a run has stopped that could not say so itself."""
        if self._progress.status == "running":
            await self._record([ev.RunPaused(reason=reason)])

    async def _pause(self, reason: ev.PauseReason, detail: str) -> None:
        """Say in the log that the run stopped; a log that can't be written any more has said so already."""
        with suppress(SandboxError):
            await self._record([ev.RunPaused(reason=reason, detail=self._redact(detail))])

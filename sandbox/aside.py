"""Questions to a society off the record: nothing is stored, nobody remembers, no person is disturbed.

The same generators as in the session, the same memories and models; only the log is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sandbox import events as ev
from sandbox.courses import Courses
from sandbox.exchange import Answered, ChatMessage, Outcome, Reply, Request, Sampling
from sandbox.models.base import Model, OnDelta, outcome_of
from sandbox.progress import Progress
from sandbox.prompts import guest_introduction
from sandbox.redaction import Redactor
from sandbox.society import Agent, Lengths
from sandbox.text import is_blank

NUMBER = 0
"""The interaction's number in events that are not in the log."""


class Aside:
    """A society as it is now, for questions from outside. It may be used by many tasks at once."""

    def __init__(
        self, progress: Progress, courses: Courses, models: Callable[[str], Model], redact: Redactor
    ) -> None:
        self._progress = progress
        self._courses = courses
        self._models = models
        self._redact = redact
        self._busy = 0

    @property
    def is_busy(self) -> bool:
        """Whether somebody is being answered."""
        return self._busy > 0

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    @property
    def agents(self) -> tuple[Agent, ...]:
        """Who can be asked."""
        return tuple(agent for agent in self._progress.society.agents if agent.active)

    @property
    def lengths(self) -> Lengths:
        """How the society's own answers are generated."""
        return self._progress.society.lengths

    def spec(self, seat: str) -> str:
        """The model that a seat speaks through now. Raises ``SessionError`` for an unknown seat."""
        return self._courses.agent(seat).model

    async def answer(
        self,
        seat: str,
        messages: Sequence[ChatMessage],
        sampling: Sampling,
        seed: int,
        on_delta: OnDelta | None = None,
        format: Mapping[str, Any] | None = None,
        tools: Mapping[str, Any] | None = None,
    ) -> Reply:
        """What a seat says next in a conversation that the caller brings along.

        It has the ``format`` it must have; ``tools`` are those it may want called.

        Raises ``SessionError`` for an unknown seat, and the ``ModelError``.
        """
        agent = self._courses.agent(seat)
        language = self._progress.society.rubric.language
        wishes = "\n\n".join(m.content for m in messages if m.role == "system" and not is_blank(m.content))
        talk = tuple(m for m in messages if m.role != "system")
        introduction = guest_introduction(language, agent, wishes)
        messages = (introduction, *talk)
        request = Request("answer", seat, "chat", messages, sampling, seed, format=format, tools=tools)
        with self._at_work():
            return await self._models(agent.model).generate(request, on_delta)

    async def deliberate(
        self,
        seat: str,
        question: str,
        on_event: Callable[[ev.Event], None] | None = None,
        on_delta: Callable[[str, str], None] | None = None,
    ) -> list[ev.Event]:
        """Draft, ratings and revision, as events under the number 0, in the order they happened.

        ``on_delta`` is called with the step and each piece of a draft or revision as it is generated.
        Cancelling stops the models. Raises ``SessionError``; a model's failure is among the events.
        """
        with self._at_work():
            return await self._deliberated(seat, question, on_event, on_delta)

    async def _deliberated(
        self,
        seat: str,
        question: str,
        on_event: Callable[[ev.Event], None] | None,
        on_delta: Callable[[str, str], None] | None,
    ) -> list[ev.Event]:
        started = self._courses.asked(NUMBER, None, question, seat, guests=False)
        course = await self._courses.deliberation(started)
        told: list[ev.Event] = []

        def tell(events: Sequence[ev.Event]) -> None:
            for event in events:
                told.append(event)
                if on_event:
                    on_event(event)

        turn = next(course)
        tell(turn.events)
        running = {asyncio.create_task(self._answered(r, on_delta)) for r in turn.requests}
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for answered in [task.result() for task in done]:
                    turn = course.send(answered)
                    tell(turn.events)
                    running |= {asyncio.create_task(self._answered(r, on_delta)) for r in turn.requests}
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return told

    async def _answered(self, request: Request, on_delta: Callable[[str, str], None] | None) -> Answered:
        return Answered(request.step, await self._outcome(request, on_delta))

    async def _outcome(self, request: Request, on_delta: Callable[[str, str], None] | None) -> Outcome:
        judging = request.purpose in ("rate", "observe")
        spec = self._courses.spec(request.seat, rating=judging)
        piece: OnDelta | None = None
        if on_delta and not judging:

            def piece(text: str) -> None:
                on_delta(request.step, text)

        return await outcome_of(self._models, spec, request, self._redact, piece)

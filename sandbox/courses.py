"""From what a session holds to the generators that run in it: who is asked, and what they recall.

It refuses what can't be (unknown seats and dimensions, values off the scale, borrowed names) before
anything is recorded. It records nothing and asks no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox import events as ev
from sandbox.conversation import Judgement, Message, converse, is_person_name, judge, vote
from sandbox.deliberation import Course, Plan, deliberate
from sandbox.errors import SessionError
from sandbox.progress import Progress
from sandbox.recollection import Recollection
from sandbox.schedule import Schedule
from sandbox.society import Agent, Observer


class Courses:
    """The generators of one session. ``progress`` is read as it is when a generator is made."""

    def __init__(self, progress: Progress, schedule: Schedule, recollection: Recollection) -> None:
        self._progress = progress
        self._schedule = schedule
        self._recollection = recollection
        self._agents = {agent.name: agent for agent in progress.society.agents}
        self._observers = {observer.name: observer for observer in progress.society.observers}

    def agent(self, name: str) -> Agent:
        """The agent called ``name``. Raises ``SessionError`` that names those there are."""
        if name not in self._agents:
            raise SessionError(f"There is no seat '{name}'. The seats are: {', '.join(self._agents)}.")
        return self._agents[name]

    def asked(
        self, interaction: int, round: int | None, question: str, seat: str, *, society: bool = True
    ) -> ev.InteractionStarted:
        """The start of an interaction: with the peers that the seed chooses and all observers, or alone."""
        peers = self._schedule.peers(interaction, self.agent(seat)) if society else ()
        return ev.InteractionStarted(
            interaction=interaction,
            kind="deliberation" if society else "answer",
            round=round,
            seat=seat,
            question=question,
            peers=tuple(peer.name for peer in peers),
            observers=tuple(self._observers) if society else (),
        )

    async def of(self, started: ev.InteractionStarted) -> Course | None:
        """The generator of an interaction on record; None for a rating that a crash has cut off.

        Nothing depends on such a rating, and it can be asked for again.
        """
        if started.kind in ("deliberation", "answer"):
            return await self.deliberation(started)
        if started.kind == "chat":
            return await self.talk(started.interaction, started.seat, started.question, started.peers)
        return None

    async def deliberation(self, started: ev.InteractionStarted) -> Course:
        """The generator that answers a question, by a whole deliberation or alone."""
        society = self._progress.society
        recalling = (started.seat, *started.peers)
        plan = Plan(
            interaction=started.interaction,
            question=started.question,
            centre=self._agents[started.seat],
            peers=tuple(self._agents[name] for name in started.peers),
            observers=tuple(self._observers[name] for name in started.observers),
            recalled=await self._recollection.recall(started.question, recalling),
            rubric=society.rubric,
            lengths=society.lengths,
            method=society.rules.ratings,
            seed=self._progress.seed,
            round=started.round,
            revise=started.kind == "deliberation",
        )
        return deliberate(plan)

    def check_talk(self, author: str, recipients: Sequence[str]) -> None:
        """Raise ``SessionError`` unless ``author`` may speak and all ``recipients`` can answer."""
        if not recipients:
            raise SessionError("Nobody is addressed. Name at least one seat other than who speaks.")
        for name in recipients:
            self.agent(name)
        if author not in self._agents:
            self._check_person(author)

    async def talk(self, interaction: int, author: str, text: str, recipients: Sequence[str]) -> Course:
        """The generator of a message and its replies."""
        progress = self._progress
        message = Message(
            interaction=interaction,
            author=author,
            text=text,
            recipients=tuple(self.agent(name) for name in recipients),
            recalled=await self._recollection.recall(text, recipients),
            history=progress.chats,
            rubric=progress.society.rubric,
            lengths=progress.society.lengths,
            seed=progress.seed,
        )
        return converse(message)

    def judgement(
        self, interaction: int, target: ev.MessagePosted, question: str, rater: str, dimension: str
    ) -> Course:
        """The generator of a seat's rating of a message. Raises ``SessionError``."""
        seat: Agent | Observer = self._observers.get(rater) or self.agent(rater)
        self._check_dimension(dimension)
        society = self._progress.society
        judgement = Judgement(
            interaction=interaction,
            rater=seat,
            target=target.message,
            author=target.seat,
            text=target.text,
            question=question,
            dimension=dimension,
            rubric=society.rubric,
            lengths=society.lengths,
            method=society.rules.ratings,
            seed=self._progress.seed,
        )
        return judge(judgement)

    def vote(
        self, interaction: int, target: str, dimension: str, value: float, reason: str, rater: str
    ) -> Course:
        """The generator of a person's rating of a message. Raises ``SessionError``."""
        self._check_dimension(dimension)
        self._check_person(rater)
        rubric = self._progress.society.rubric
        if not rubric.scale.holds(value):
            low, high = rubric.scale.low, rubric.scale.high
            raise SessionError(f"A rating must lie from {low} to {high}, not {value:g}.")
        return vote(
            interaction,
            rater=rater,
            target=target,
            dimension=dimension,
            value=value,
            reason=reason,
            rubric=rubric,
        )

    def _check_person(self, name: str) -> None:
        if not is_person_name(name):
            raise SessionError(
                "A person's name begins with a letter and goes on with letters, digits, spaces and .'_-, "
                "32 characters at most."
            )
        if name.casefold() in {seat.casefold() for seat in (*self._agents, *self._observers)}:
            raise SessionError(f"'{name}' is a seat; a person can't act under its name. Choose another.")

    def _check_dimension(self, name: str) -> None:
        names = [criterion.name for criterion in self._progress.society.rubric.criteria]
        if name not in names:
            raise SessionError(f"There is no dimension '{name}'. The rubric has: {', '.join(names)}.")

"""From what a session holds to the generators that run in it: who is asked, and what they recall.

It refuses what can't be (unknown seats and dimensions, values off the scale, borrowed names) before
anything is recorded. It records nothing and asks no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox import events as ev
from sandbox.conversation import Judgement, Message, converse, judge, vote
from sandbox.deliberation import Course, Plan, deliberate
from sandbox.errors import SessionError
from sandbox.people import People
from sandbox.progress import Progress
from sandbox.recollection import Recollection
from sandbox.schedule import Schedule
from sandbox.society import Agent, Observer, Seat, Society
from sandbox.text import is_blank


def check_text(text: str) -> None:
    """Raise ``SessionError`` if nothing in a question or message can be seen."""
    if is_blank(text):
        raise SessionError("Nothing in the text can be seen. Write something.")


class Courses:
    """The generators of one session. ``progress`` is read as it is when a generator is made."""

    def __init__(
        self, progress: Progress, schedule: Schedule, recollection: Recollection, people: People
    ) -> None:
        self._progress = progress
        self._schedule = schedule
        self._recollection = recollection
        self._people = people
        self._society: Society | None = None
        self._seats: dict[str, Seat] = {}

    def agent(self, name: str) -> Agent:
        """The agent called ``name``. Raises ``SessionError`` that names those there are."""
        seat = self.seats.get(name)
        if not isinstance(seat, Agent):
            names = ", ".join(agent.name for agent in self._progress.society.agents)
            raise SessionError(f"There is no seat '{name}' that answers. Those are: {names}.")
        return seat

    @property
    def seats(self) -> dict[str, Seat]:
        """The seats as they are now: their models change, and people bring their own."""
        if self._society is not self._progress.society:
            self._society = self._progress.society
            self._seats = {seat.name: seat for seat in self._society.seats()}
        return self._seats

    def spec(self, seat: str, *, rating: bool) -> str:
        """The model that a seat speaks through now, or rates through; empty if it has none."""
        there = self.seats[seat]
        return (rating and isinstance(there, Agent) and there.rating_model) or there.model or ""

    def _guests(self, role: str, wanted: bool) -> tuple[str, ...]:
        """The seats of people who are there, in one role."""
        people = self._progress.people if wanted else {}
        humans = self._progress.society.humans
        return tuple(human.name for human in humans if human.role == role and human.name in people)

    def asked(
        self,
        interaction: int,
        round: int | None,
        question: str,
        seat: str,
        *,
        society: bool = True,
        guests: bool = True,
        person: str | None = None,
    ) -> ev.InteractionStarted:
        """The start of an interaction: with the peers that the seed chooses and all observers, or alone.

        The people who are there take part as what they are, unless ``guests`` is off. ``person`` is who asks.
        """
        observers = tuple(observer.name for observer in self._progress.society.observers)
        peers = self._schedule.peers(interaction, self.agent(seat)) if society else ()
        return ev.InteractionStarted(
            interaction=interaction,
            kind="deliberation" if society else "answer",
            round=round,
            seat=seat,
            question=question,
            peers=(*(peer.name for peer in peers), *self._guests("peer", society and guests)),
            observers=(*observers, *self._guests("observer", guests)) if society else (),
            person=person,
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
        opened = self._progress.open.get(started.interaction)
        seats = self.seats
        peers = [seats[name] for name in started.peers]
        recalling = (started.seat, *(peer.name for peer in peers if isinstance(peer, Agent)))
        plan = Plan(
            interaction=started.interaction,
            question=started.question,
            centre=self.agent(started.seat),
            peers=tuple(peer for peer in peers if not isinstance(peer, Observer)),
            observers=tuple(o for o in map(seats.__getitem__, started.observers) if not isinstance(o, Agent)),
            recalled=await self._recollection.recall(started.question, recalling),
            rubric=opened.rubric if opened else society.rubric,
            lengths=society.lengths,
            method=society.rules.ratings,
            seed=self._progress.seed,
            round=started.round,
            revise=started.kind == "deliberation",
            person=started.person,
        )
        return deliberate(plan)

    def check_talk(self, author: str, recipients: Sequence[str], text: str) -> None:
        """Raise ``SessionError`` unless ``author`` may speak, and says something to who can answer."""
        check_text(text)
        if not recipients:
            raise SessionError("Nobody is addressed. Name at least one seat other than who speaks.")
        for name in recipients:
            self.agent(name)
        if not isinstance(self.seats.get(author), Agent):
            self._people.check_name(author)

    async def talk(self, interaction: int, author: str, text: str, recipients: Sequence[str]) -> Course:
        """The generator of a message and its replies."""
        progress = self._progress
        opened = progress.open.get(interaction)
        message = Message(
            interaction=interaction,
            author=author,
            text=text,
            recipients=tuple(self.agent(name) for name in recipients),
            recalled=await self._recollection.recall(text, recipients),
            history=progress.chats,
            rubric=opened.rubric if opened else progress.society.rubric,
            lengths=progress.society.lengths,
            seed=progress.seed,
        )
        return converse(message)

    def judgement(
        self, interaction: int, target: ev.MessagePosted, question: str, rater: str, dimension: str
    ) -> Course:
        """The generator of a seat's rating of a message. Raises ``SessionError``."""
        seat = self.seats.get(rater) or self.agent(rater)
        self._check_dimension(dimension)
        if target.seat == rater:
            raise SessionError(f"'{rater}' wrote that message. Nobody rates their own; choose another seat.")
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
        self._people.check_name(rater)
        self._people.check_not_own(target, rater)
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

    def _check_dimension(self, name: str) -> None:
        names = [criterion.name for criterion in self._progress.society.rubric.criteria]
        if name not in names:
            raise SessionError(f"There is no dimension '{name}'. The rubric has: {', '.join(names)}.")

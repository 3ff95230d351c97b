"""Who is asked what in a round, and by which peers they are rated: a pure function of the seed.

Questions are dealt from seeded passes through the whole set, so that every question is used before any
comes again; no seat is asked a question twice in one round.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox.errors import SocietyError
from sandbox.seeds import draw, shuffled
from sandbox.society import Agent, Society
from sandbox.topology import neighbours


class Assignment(NamedTuple):
    """One question for one seat. ``question`` is its place in the society's set."""

    agent: Agent
    question: int


class Schedule:
    """The questions and peers of every round of one society under one seed."""

    def __init__(self, society: Society, seed: int) -> None:
        self._rules = society.rules
        self._topology = society.topology
        self._questions = len(society.questions)
        self._seed = seed
        self._agents = sorted((a for a in society.agents if a.active), key=lambda agent: agent.place)
        self._by_place = {agent.place: agent for agent in self._agents}
        self._around: dict[int, tuple[tuple[Agent, ...], tuple[Agent, ...]]] = {}
        self._plain = tuple(range(self._questions))
        self._order: tuple[int, tuple[int, ...]] = (-1, ())

    def assignments(self, round: int) -> list[Assignment]:
        """The questions of round ``round`` (from 1), seat by seat in the order of their places.

        Raises ``SocietyError`` if there are fewer questions than a seat is to be asked.
        """
        each = self._rules.per_seat or self._questions
        if not 0 < each <= self._questions:
            raise SocietyError(
                f"Every seat is to be asked {each or 'some'} questions a round, but the society has "
                f"{self._questions}. Give it more questions, or lower rules.per_seat."
            )
        position = (round - 1) * len(self._agents) * each
        dealt = []
        for agent in self._agents:
            for card in range(position, position + each):
                turn, place = divmod(card, self._questions)
                dealt.append(Assignment(agent, self._pass(turn, each)[place]))
            position += each
        return dealt

    def peers(self, interaction: int, centre: Agent) -> tuple[Agent, ...]:
        """The peers of one interaction: near ones within the radius, then far ones from beyond it."""
        near, far = self._neighbourhood(centre.place)
        chosen = draw(near, self._rules.peers, self._seed, interaction, "peers")
        if self._rules.far_peers:
            chosen += draw(far, self._rules.far_peers, self._seed, interaction, "far peers")
        return chosen

    def _neighbourhood(self, place: int) -> tuple[tuple[Agent, ...], tuple[Agent, ...]]:
        if place not in self._around:
            by_place = self._by_place
            near = neighbours(self._topology, place, self._rules.radius)
            beyond = by_place.keys() - set(near) - {place} if self._rules.far_peers else ()
            self._around[place] = (
                tuple(by_place[other] for other in near if other in by_place),
                tuple(by_place[other] for other in sorted(beyond)),
            )
        return self._around[place]

    def _pass(self, turn: int, each: int) -> tuple[int, ...]:
        """The order of one pass; it depends on those before, back to one that begins with a hand."""
        if not self._rules.shuffle_questions:
            return self._plain
        known, order = self._order
        if known != turn:
            first = turn
            while self._begun(first, each) and first - 1 != known:
                first -= 1
            for number in range(first, turn + 1):
                order = self._next_pass(number, each, order)
            self._order = (turn, order)
        return order

    def _begun(self, turn: int, each: int) -> int:
        """How many questions of the hand that goes on in pass ``turn`` were dealt from the pass before."""
        return turn * self._questions % each

    def _next_pass(self, turn: int, each: int, before: tuple[int, ...]) -> tuple[int, ...]:
        """Shuffled, but a hand begun in the pass before is completed with questions it does not hold."""
        order = shuffled(self._plain, self._seed, "questions", turn)
        begun = self._begun(turn, each)
        if not begun:
            return order
        held = set(before[-begun:])
        first = [index for index in order if index not in held][: each - begun]
        taken = set(first)
        return (*first, *(index for index in order if index not in taken))

"""Who is asked what in a round, and by which peers they are rated: a pure function of the seed.

Questions are dealt from seeded passes through the whole set, so that every question is used before any
comes again; no seat is asked a question twice in one round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

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
        self._around: dict[int, tuple[tuple[Agent, ...], tuple[Agent, ...]]] = {}
        self._order: tuple[int, tuple[int, ...]] | None = None

    def assignments(self, round: int) -> list[Assignment]:
        """The questions of round ``round`` (from 1), seat by seat in the order of their places."""
        each = self._rules.per_seat or self._questions
        position = (round - 1) * len(self._agents) * each
        dealt = []
        for agent in self._agents:
            dealt += [Assignment(agent, index) for index in self._deal(position, each)]
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
            by_place = {agent.place: agent for agent in self._agents}
            near = neighbours(self._topology, place, self._rules.radius)
            beyond = by_place.keys() - set(near) - {place}
            self._around[place] = (
                tuple(by_place[other] for other in near if other in by_place),
                tuple(by_place[other] for other in sorted(beyond)),
            )
        return self._around[place]

    def _deal(self, position: int, count: int) -> Iterator[int]:
        seen: set[int] = set()
        while len(seen) < count:
            turn, place = divmod(position, self._questions)
            order = self._pass(turn)
            index = order[place]
            if index in seen:  # a new pass began within this seat's hand
                index = next(other for other in order if other not in seen)
            seen.add(index)
            position += 1
            yield index

    def _pass(self, turn: int) -> tuple[int, ...]:
        if not self._rules.shuffle_questions:
            turn = 0
        if self._order is None or self._order[0] != turn:
            everything = tuple(range(self._questions))
            if self._rules.shuffle_questions:
                everything = shuffled(everything, self._seed, "questions", turn)
            self._order = (turn, everything)
        return self._order[1]

"""The frozen description of a society: who sits where, which models they speak through, and the rules.

Pure. It is complete in itself (questions and prior memories included), so that a stored session can be
replayed, forked and resumed without any file. The form people write is read by ``sandbox.blueprint``.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from sandbox.rubric import Rubric
from sandbox.topology import MAX_SEATS, Topology

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # JSON has no infinity

SeatName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
ModelSpec = Annotated[str, StringConstraints(min_length=3, max_length=500)]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Persona = Annotated[str, StringConstraints(max_length=4000)]
Preset = Literal["all_good", "all_bad", "half_half", "mixed_half_half"]
Absence = Literal["abstain", "wait", "stand_in"]
"""When a person lets a deadline pass: nothing is said, everybody waits on, or the seat's model answers."""
MAX_TEXTS = 1_000_000
"""Questions, or prior memories."""
RESERVED_NAMES = frozenset({"all", "society", "person"})


class Agent(BaseModel):
    """A seat that answers, rates and revises through a model.

    ``place`` is its number in the topology; ``label`` decides which prior memories it is seeded with.
    """

    model_config = _FROZEN
    kind: Literal["agent"] = "agent"
    name: SeatName
    place: int = Field(ge=0)
    model: ModelSpec
    rating_model: ModelSpec | None = None
    label: Label = "good"
    persona: Persona = ""
    active: bool = True


class Observer(BaseModel):
    """A seat outside the topology that rates drafts and revisions, without memory."""

    model_config = _FROZEN
    kind: Literal["observer"] = "observer"
    name: SeatName
    model: ModelSpec


class Human(BaseModel):
    """A seat for a person. While somebody sits there, it takes part in every interaction that begins.

    As a ``peer`` it rates drafts beside the neighbours, as an ``observer`` drafts and revisions by every
    criterion. ``model`` is who stands in, if anybody; ``place`` lies beyond the topology's own.
    """

    model_config = _FROZEN
    kind: Literal["human"] = "human"
    name: SeatName
    role: Literal["peer", "observer"] = "peer"
    place: int = Field(default=0, ge=0)
    model: ModelSpec | None = None
    persona: Literal[""] = ""


Seat = Agent | Observer | Human


class Question(BaseModel):
    """One question put to the agents."""

    model_config = _FROZEN
    text: str = Field(min_length=1, max_length=50_000)
    topic: str = ""


class PriorMemory(BaseModel):
    """An answered question from before the society began."""

    model_config = _FROZEN
    question: str = Field(min_length=1, max_length=50_000)
    response: str = Field(min_length=1, max_length=50_000)
    label: Label


_RECALL_DISTANCES = {"hashed": 0.6, "local/minilm": 0.65}
"""With 50 of the bundled memories, a seat recalls one for 0.71 and 0.70 of the bundled questions."""
_OTHER_RECALL_DISTANCE = 0.5


def recall_distance(embedding: str) -> float:
    """The cosine distance below which a remembered question counts as similar: each embedding has its own.

    0.3, as in the paper's code, was made for another embedding; nothing bundled lies so near.
    """
    return _RECALL_DISTANCES.get(embedding, _OTHER_RECALL_DISTANCE)


class Rules(BaseModel):
    """The numbers of Back-Scatter (see ``docs/protocol.md``).

    ``max_distance`` is a cosine distance, None for the embedding's own (``recall_distance``);
    ``radius`` is in the topology's own distance, None for its default; ``per_seat`` 0 means that every
    seat is asked every question in every round.
    """

    model_config = _FROZEN
    peers: int = Field(default=4, ge=0, le=100)
    far_peers: int = Field(default=0, ge=0, le=100)
    radius: float | None = Field(default=None, gt=0)
    max_distance: float | None = Field(default=None, gt=0, le=2)
    prior_memories: int = Field(default=50, ge=0, le=10_000)
    per_seat: int = Field(default=1, ge=0, le=100_000)
    shuffle_questions: bool = True
    ratings: Literal["best", "text"] = "best"


class Lengths(BaseModel):
    """How replies are generated: most tokens of each kind of reply, and the sampling of answers.

    Ratings are always generated greedily.
    """

    model_config = _FROZEN
    answer_tokens: int = Field(default=96, ge=1, le=32_768)
    rating_tokens: int = Field(default=48, ge=1, le=32_768)
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.95, gt=0, le=1)


class Limits(BaseModel):
    """What a run may use. ``budget`` is in US dollars, None for no cap; in-flight counts interactions."""

    model_config = _FROZEN
    budget: float | None = Field(default=None, ge=0)
    in_flight: int = Field(default=256, ge=1, le=10_000)
    timeout_s: float = Field(default=300, gt=0)
    attempts: int = Field(default=4, ge=1, le=20)
    per_provider: int = Field(default=16, ge=1, le=10_000)
    requests_per_minute: float | None = Field(default=None, gt=0)


class Society(BaseModel):
    """A whole society, ready to run. Two runs of equal societies ask the same questions of the same seats."""

    model_config = _FROZEN
    name: str = Field(min_length=1, max_length=100)
    seed: Seed = 0
    rounds: int = Field(default=1, ge=0, le=100_000)
    topology: Topology
    rubric: Rubric = Rubric()
    rules: Rules = Rules()
    lengths: Lengths = Lengths()
    limits: Limits = Limits()
    embedding: ModelSpec = "hashed"
    agents: tuple[Agent, ...] = Field(max_length=MAX_SEATS)
    observers: tuple[Observer, ...] = Field(default=(), max_length=MAX_SEATS)
    humans: tuple[Human, ...] = Field(default=(), max_length=MAX_SEATS)
    questions: tuple[Question, ...] = Field(default=(), max_length=MAX_TEXTS)
    memories: tuple[PriorMemory, ...] = Field(default=(), max_length=MAX_TEXTS)

    @model_validator(mode="after")
    def _consistent(self) -> Society:
        if self.rules.max_distance is None:  # written out: a stored society keeps it, whatever comes later
            rules = self.rules.model_copy(update={"max_distance": recall_distance(self.embedding)})
            object.__setattr__(self, "rules", rules)
        self._check()
        return self

    def _check(self) -> None:
        names = [seat.name for seat in self.seats()]
        if twice := {name for name, count in Counter(names).items() if count > 1}:
            raise ValueError(f"seat names must differ; used twice: {', '.join(sorted(twice))}")
        if taken := RESERVED_NAMES.intersection(name.lower() for name in names):
            raise ValueError(f"a seat can't be called {', '.join(sorted(taken))}: the word is reserved")
        if not self.agents:
            raise ValueError("a society needs at least one agent")
        places = [agent.place for agent in self.agents]
        if len(set(places)) < len(places) or max(places) >= self.topology.size:
            raise ValueError(
                f"every agent needs a place of its own among the {self.topology.size} of the topology"
            )
        if self.rounds and not self.questions:
            raise ValueError("rounds need questions: give the society a question set, or set rounds = 0")

    def agent(self, name: str) -> Agent:
        """The agent called ``name``. Raises ``KeyError``."""
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise KeyError(name)

    def seats(self) -> tuple[Seat, ...]:
        """All seats: agents, then observers, then those for people."""
        return (*self.agents, *self.observers, *self.humans)

    def models(self) -> list[str]:
        """The specs of all models that it speaks and rates through, each once."""
        answering = {seat.model for seat in self.seats() if seat.model}
        return sorted(answering | {agent.rating_model for agent in self.agents if agent.rating_model})

    @property
    def recall_limit(self) -> float:
        """The cosine distance below which a remembered question is recalled."""
        return self.rules.max_distance or recall_distance(self.embedding)

    def seat(self, name: str) -> Seat | None:
        """The seat called ``name``, if there is one."""
        return next((seat for seat in self.seats() if seat.name == name), None)

    def with_seat(self, changed: Seat) -> Society:
        """This society with one more seat, or with another in the place of one of the same name and kind.

        Raises ``ValueError`` if that makes no society.
        """
        field = {"agent": "agents", "observer": "observers", "human": "humans"}[changed.kind]
        before: tuple[Seat, ...] = getattr(self, field)
        if any(seat.name == changed.name for seat in before):
            after = tuple(changed if seat.name == changed.name else seat for seat in before)
        else:
            after = (*before, changed)
        whole = self.model_copy(update={field: after})
        whole._check()
        return whole

"""The society file (TOML) as people write it: its parts, and what the command line may change about it.

Shapes only; ``sandbox.blueprint`` reads the file and fills in what it leaves out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sandbox.rubric import Rubric
from sandbox.society import (
    Label,
    Lengths,
    Limits,
    ModelSpec,
    Observer,
    Persona,
    Preset,
    Rules,
    SeatName,
)
from sandbox.sources import BUNDLED

_STRICT = ConfigDict(frozen=True, extra="forbid")


class AgentsPart(BaseModel):
    """``[agents]``: what holds for all agents. ``names`` are given out in the order of the places."""

    model_config = _STRICT
    model: ModelSpec = "local/smollm2"
    rating_model: ModelSpec | None = None
    preset: Preset = "mixed_half_half"
    persona: Persona = ""
    names: tuple[SeatName, ...] = ()


class SeatPart(BaseModel):
    """``[[seats]]``: what is different about one agent."""

    model_config = _STRICT
    name: SeatName
    model: ModelSpec | None = None
    rating_model: ModelSpec | None = None
    label: Label | None = None
    persona: Persona | None = None
    active: bool | None = None


class QuestionsPart(BaseModel):
    """``[questions]``: a ``source`` (see ``sandbox.sources``) or a ``list``, and how many of them."""

    model_config = _STRICT
    source: str | None = None
    list: tuple[Annotated[str, Field(max_length=50_000)], ...] = ()
    limit: int | None = Field(default=None, ge=1)


class MemoriesPart(BaseModel):
    """``[memories]``: where prior memories come from; an empty source for none."""

    model_config = _STRICT
    source: str = BUNDLED


class GridPart(BaseModel):
    model_config = _STRICT
    kind: Literal["grid"] = "grid"
    rows: int = Field(default=3, ge=1)
    columns: int = Field(default=3, ge=1)


class CountPart(BaseModel):
    model_config = _STRICT
    kind: Literal["ring", "complete"]
    size: int = Field(ge=1)


class EdgesPart(BaseModel):
    """Edges between names; every name that occurs is a seat."""

    model_config = _STRICT
    kind: Literal["edges"]
    edges: tuple[tuple[SeatName, SeatName], ...] = Field(min_length=1)

    @field_validator("edges")
    @classmethod
    def _between_two(cls, edges: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for one, other in edges:
            if one == other:
                raise ValueError(f"an edge joins two different seats, not '{one}' with itself")
        return edges


TopologyPart = Annotated[GridPart | CountPart | EdgesPart, Field(discriminator="kind")]


class Blueprint(BaseModel):
    """A society file as written."""

    model_config = _STRICT
    name: str = "society"
    seed: int = 0
    rounds: int = 1
    embedding: str = "hashed"
    topology: TopologyPart = GridPart()
    agents: AgentsPart = AgentsPart()
    seats: tuple[SeatPart, ...] = ()
    observers: tuple[Observer, ...] = (Observer(name="observer", model="local/smollm2"),)
    questions: QuestionsPart = QuestionsPart()
    memories: MemoriesPart = MemoriesPart()
    rubric: Rubric = Rubric()
    rules: Rules = Rules()
    lengths: Lengths = Lengths()
    limits: Limits = Limits()


class Overrides(BaseModel):
    """What the command line changes about a society file. ``seats`` is ``3x3`` or a number.

    ``model`` is one for all who speak or rate, ``answers`` one for agents' answers only.
    """

    model_config = _STRICT
    rounds: int | None = None
    seed: int | None = None
    model: str | None = None
    answers: str | None = None
    seats: str | None = None
    questions: str | None = None
    per_seat: int | None = None
    budget: float | None = None

"""Who hears whom: the places of the seats and the distances between them.

Pure and frozen. Seats are numbered 0..size-1; a topology knows numbers, not names or models.
Distances: Euclidean between cells of a grid, steps along a ring, hops through an edge list, and 1
between any two seats of a complete society.
"""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid")
MAX_SEATS = 10_000


class Grid(BaseModel):
    """Cells of a rectangle; neighbours are cells within the radius. Default radius: the shorter side // 2."""

    model_config = _FROZEN
    kind: Literal["grid"] = "grid"
    rows: int = Field(ge=1, le=MAX_SEATS)
    columns: int = Field(ge=1, le=MAX_SEATS)

    @model_validator(mode="after")
    def _of_a_size(self) -> Grid:
        if self.size > MAX_SEATS:
            raise ValueError(f"a society has at most {MAX_SEATS:,} seats, not {self.size:,}")
        return self

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def default_radius(self) -> float:
        return max(1, min(self.rows, self.columns) // 2)

    def position(self, seat: int) -> tuple[int, int]:
        """Row and column of a seat, both from 0."""
        return divmod(seat, self.columns)

    def distances(self, seat: int) -> list[float]:
        row, column = self.position(seat)
        return [math.hypot(r - row, c - column) for r in range(self.rows) for c in range(self.columns)]


class Ring(BaseModel):
    """Seats in a circle; the distance is the shorter way round. Default radius: 2."""

    model_config = _FROZEN
    kind: Literal["ring"] = "ring"
    size: int = Field(ge=1, le=MAX_SEATS)

    @property
    def default_radius(self) -> float:
        return 2

    def distances(self, seat: int) -> list[float]:
        return [min(abs(seat - other), self.size - abs(seat - other)) for other in range(self.size)]


class Complete(BaseModel):
    """Everybody hears everybody."""

    model_config = _FROZEN
    kind: Literal["complete"] = "complete"
    size: int = Field(ge=1, le=MAX_SEATS)

    @property
    def default_radius(self) -> float:
        return 1

    def distances(self, seat: int) -> list[float]:
        return [0.0 if other == seat else 1.0 for other in range(self.size)]


class Edges(BaseModel):
    """Undirected edges between seat numbers; the distance is the number of hops. Default radius: 1."""

    model_config = _FROZEN
    kind: Literal["edges"] = "edges"
    size: int = Field(ge=1, le=MAX_SEATS)
    edges: tuple[tuple[int, int], ...] = Field(max_length=1_000_000)

    @model_validator(mode="after")
    def _within(self) -> Edges:
        for one, other in self.edges:
            if not (0 <= one < self.size and 0 <= other < self.size) or one == other:
                raise ValueError(
                    f"the edge [{one}, {other}] does not join two different seats of 0..{self.size - 1}"
                )
        return self

    @property
    def default_radius(self) -> float:
        return 1

    def distances(self, seat: int) -> list[float]:
        linked: dict[int, list[int]] = {}
        for one, other in self.edges:
            linked.setdefault(one, []).append(other)
            linked.setdefault(other, []).append(one)
        found = {seat: 0.0}
        queue = deque([seat])
        while queue:
            here = queue.popleft()
            for there in linked.get(here, ()):
                if there not in found:
                    found[there] = found[here] + 1
                    queue.append(there)
        return [found.get(other, math.inf) for other in range(self.size)]


Topology = Annotated[Grid | Ring | Complete | Edges, Field(discriminator="kind")]


@lru_cache(maxsize=MAX_SEATS)
def neighbours(topology: Topology, seat: int, radius: float | None = None) -> tuple[int, ...]:
    """Seats other than ``seat`` within ``radius`` (the topology's default if None), nearest first."""
    reach = topology.default_radius if radius is None else radius
    distances = topology.distances(seat)
    near = [other for other, d in enumerate(distances) if other != seat and d <= reach and d < math.inf]
    return tuple(sorted(near, key=lambda other: (distances[other], other)))

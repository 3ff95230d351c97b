"""Where seats are drawn: places in rows and columns, and how a seat looks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from sandbox.topology import Grid, Topology
from server.wire.snapshot import SeatView
from tui.state import mean_of

CELL, WIDEST = 9, 16
"""Columns of one seat, at least and at most."""


@dataclass(frozen=True, slots=True)
class Board:
    """Seats by row and column; a society on a grid keeps its shape, others fill lines of equal length."""

    rows: tuple[tuple[str | None, ...], ...]

    @property
    def width(self) -> int:
        """In seats."""
        return max((len(row) for row in self.rows), default=0)

    def find(self, seat: str) -> tuple[int, int] | None:
        """Row and column of a seat."""
        for row, names in enumerate(self.rows):
            if seat in names:
                return row, names.index(seat)
        return None

    def near(self, seat: str, down: int, right: int) -> str:
        """The seat next to one; the same where there is none."""
        place = self.find(seat)
        if place is None:
            return next((name for row in self.rows for name in row if name), seat)
        row, column = place[0] + down, place[1] + right
        if not 0 <= row < len(self.rows):
            return seat
        names = self.rows[row]
        column = min(max(column, 0), len(names) - 1)
        return names[column] or seat


def board(topology: Topology, seats: Sequence[SeatView]) -> Board:
    """The board of a society: its agents by place, then observers and seats added for people."""
    agents = sorted((seat for seat in seats if seat.kind == "agent"), key=lambda seat: seat.place or 0)
    others = [seat.name for seat in seats if seat.kind != "agent"]
    columns = topology.columns if isinstance(topology, Grid) else max(ceil(sqrt(len(agents))), 1)
    rows: list[tuple[str | None, ...]] = []
    names = [seat.name for seat in agents]
    for start in range(0, len(names), columns):
        rows.append(tuple(names[start : start + columns]))
    for start in range(0, len(others), columns):
        rows.append(tuple(others[start : start + columns]))
    return Board(tuple(rows))


@dataclass(frozen=True, slots=True)
class Look:
    """A seat's cell: a mark for what goes on there, its name, its rating, and a level for its colour.

    ``level`` is 0 (bottom of the scale) to 4 (top), None without a rating. Marks: ``»`` speaks, ``@`` a
    person sits there, ``?`` waits for them, ``:`` observer, ``~`` rates just now.
    """

    mark: str
    name: str
    rating: str
    level: int | None

    def text(self, width: int = CELL) -> str:
        """The cell, ``width`` columns wide."""
        room = width - 5
        name = self.name if len(self.name) <= room else f"{self.name[: room - 1]}…"
        return f"{self.mark}{name:<{room}}{self.rating:>3} "


def look(
    seat: SeatView,
    dimension: str,
    low: int,
    high: int,
    *,
    speaking: bool = False,
    rating: bool = False,
    waited: bool = False,
) -> Look:
    """How a seat looks now, by the observers' last rating of it in one dimension."""
    value = mean_of(seat, dimension)
    level = None if value is None else min(int((value - low) / (high - low) * 5), 4)
    if waited:
        mark = "?"
    elif speaking:
        mark = "»"
    elif seat.person:
        mark = "@"
    elif rating:
        mark = "~"
    elif seat.kind == "observer":
        mark = ":"
    else:
        mark = " "
    shown = "" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return Look(mark, seat.name, shown, level)

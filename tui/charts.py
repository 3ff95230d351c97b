"""Ratings by round as a chart of characters: means and their spread. Pure, and readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.wire.snapshot import Tally
from tui.state import spread

DRAFT, REVISION, BOTH, SPREAD = "○", "●", "◉", "│"


@dataclass(frozen=True, slots=True)
class Chart:
    """``rows`` from the top of the scale down, each with its label; ``ticks`` are the rounds below."""

    rows: tuple[tuple[str, str], ...]
    ticks: str


def chart(
    draft: Sequence[tuple[int, Tally]],
    revision: Sequence[tuple[int, Tally]],
    low: int,
    high: int,
    width: int,
    height: int,
) -> Chart:
    """Means of draft and revision by round, and the standard deviation of the revision's ratings.

    ``width`` and ``height`` are in characters, the labels left out. The newest rounds are shown, if there is
    no room for all.
    """
    drafts, revisions = dict(draft), dict(revision)
    rounds = sorted(drafts.keys() | revisions.keys())
    step = 4 if len(rounds) * 4 <= width else 2 if len(rounds) * 2 <= width else 1
    rounds = rounds[-max(width // step, 1) :]
    cells = [[" "] * (len(rounds) * step) for _ in range(height)]
    for place, number in enumerate(rounds):
        column = place * step
        _column(cells, column, drafts, revisions, number, low, high)
    labels = [_label(row, height, low, high) for row in range(height)]
    rows = tuple((label, "".join(row).rstrip()) for label, row in zip(labels, cells, strict=True))
    ticks = "".join(f"{number:<{step}}"[:step] if step > 1 else " " for number in rounds)
    return Chart(rows, ticks.rstrip())


def _column(
    cells: list[list[str]],
    column: int,
    drafts: Mapping[int, Tally],
    revisions: Mapping[int, Tally],
    number: int,
    low: int,
    high: int,
) -> None:
    height = len(cells)

    def row(value: float) -> int:
        share = (min(max(value, low), high) - low) / (high - low)
        return height - 1 - round(share * (height - 1))

    tally = revisions.get(number)
    if tally is not None and tally.mean is not None:
        far = spread(tally) or 0.0
        for at in range(row(tally.mean + far), row(tally.mean - far) + 1):
            cells[at][column] = SPREAD
    for known, mark in ((drafts, DRAFT), (revisions, REVISION)):
        tally = known.get(number)
        if tally is not None and tally.mean is not None:
            at = row(tally.mean)
            taken = cells[at][column] == DRAFT and mark == REVISION
            cells[at][column] = BOTH if taken else mark


def _label(row: int, height: int, low: int, high: int) -> str:
    if height < 2:
        return f"{high}"
    value = high - (high - low) * row / (height - 1)
    return f"{value:.0f}" if abs(value - round(value)) < 0.01 else ""

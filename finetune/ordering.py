"""In which order rows are trained on: by stages or mixed, alike in length within a batch, from the seed.

Pure. The whole order is fixed before the first step, so that a resumed run goes on with the very next batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

_BATCHES_SORTED_TOGETHER = 16


def order(
    lengths: Sequence[int], kinds: Sequence[str], stages: Sequence[str], epochs: int, batch: int, seed: int
) -> list[int]:
    """The rows' places, each as often as there are epochs; whole batches first, stage after stage.

    Without ``stages`` all rows are one. Rows whose kind is in no stage are left out.
    """
    parts = [[place for place, kind in enumerate(kinds) if kind == stage] for stage in stages]
    told: list[int] = []
    for number, rows in enumerate(parts or [list(range(len(kinds)))]):
        for epoch in range(epochs):
            told += _epoch(rows, lengths, batch, random.Random(f"{seed}/{number}/{epoch}"))
    return told


def _epoch(rows: Sequence[int], lengths: Sequence[int], batch: int, chance: random.Random) -> list[int]:
    """Rows shuffled, sorted by length within some batches' worth, cut into batches; those shuffled again."""
    shuffled = list(rows)
    chance.shuffle(shuffled)
    step = batch * _BATCHES_SORTED_TOGETHER
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), step):
        near = sorted(shuffled[start : start + step], key=lambda place: lengths[place])
        batches += [near[at : at + batch] for at in range(0, len(near), batch)]
    whole = [rows for rows in batches if len(rows) == batch]
    rest = [rows for rows in batches if len(rows) < batch]
    chance.shuffle(whole)
    return [place for rows in (*whole, *rest) for place in rows]

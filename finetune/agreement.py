"""How far raters agree: Krippendorff's alpha for ordinal ratings (Krippendorff, 2011), with an interval.

Pure. It knows values by unit and rater; not what was rated, nor by whom.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Units = Sequence[Mapping[str, float]]
"""For each thing that was rated: rater → value. Who did not rate it is left out."""


class Agreement(NamedTuple):
    """Alpha with its bootstrap interval (95 %); None where nothing can be said. ``pairable`` values count."""

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    pairable: int


def alpha(units: Units) -> float | None:
    """Krippendorff's alpha with the ordinal metric: 1 is perfect, 0 what chance gives; None without pairs.

    None also where all values are the same: there is nothing to tell apart.
    """
    shared = [list(unit.values()) for unit in units if len(unit) > 1]
    coincidences: Counter[tuple[float, float]] = Counter()
    for values in shared:
        counts = Counter(values)
        for a, n_a in counts.items():
            for b, n_b in counts.items():
                pairs = n_a * (n_b - (a == b))
                coincidences[a, b] += pairs / (len(values) - 1)  # type: ignore[assignment]
    margins: Counter[float] = Counter()
    for (a, _), count in coincidences.items():
        margins[a] += count
    total = sum(margins.values())
    if total <= 1 or sum(1 for count in margins.values() if count) < 2:
        return None
    distance = _ordinal(margins)
    observed = sum(count * distance[pair] for pair, count in coincidences.items())
    expected = sum(margins[a] * margins[b] * distance[a, b] for a in margins for b in margins if a != b) / (
        total - 1
    )
    return 1 - observed / expected


def agreement(units: Units, *, resamples: int = 200, seed: int = 0) -> Agreement:
    """Alpha, and the interval that resampling the units gives."""
    shared = [unit for unit in units if len(unit) > 1]
    value = alpha(shared)
    pairable = sum(len(unit) for unit in shared)
    if value is None:
        return Agreement(None, None, None, len(shared), pairable)
    chance = random.Random(seed)
    found = sorted(
        known for _ in range(resamples) if (known := alpha(chance.choices(shared, k=len(shared)))) is not None
    )
    if len(found) < resamples / 2:
        return Agreement(value, None, None, len(shared), pairable)
    low, high = found[int(0.025 * len(found))], found[min(int(0.975 * len(found)), len(found) - 1)]
    return Agreement(value, low, high, len(shared), pairable)


def _ordinal(margins: Mapping[float, float]) -> dict[tuple[float, float], float]:
    """The squared ordinal distances: how many values lie between two, their own halves included."""
    ranks = sorted(margins)
    distances = {(a, a): 0.0 for a in ranks}
    for start, a in enumerate(ranks):
        between = margins[a] / 2
        for b in ranks[start + 1 :]:
            between += margins[b] / 2
            distances[a, b] = distances[b, a] = between**2
            between += margins[b] / 2
    return distances

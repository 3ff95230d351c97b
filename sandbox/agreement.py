"""How far raters agree: Krippendorff's alpha for ordinal ratings (Krippendorff, 2011), with an interval.

Pure. It knows values by unit and rater; not what was rated, nor by whom.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST = 10
"""Units, groups or items below which nothing has an interval: it would be too narrow."""
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
    shared = [unit for unit in units if len(unit) > 1]
    return _Pairable(shared).alpha(np.ones(len(shared))) if shared else None


def agreement(
    units: Units, groups: Sequence[Hashable] | None = None, *, resamples: int = 200, seed: int = 0
) -> Agreement:
    """Alpha, and the interval that resampling the units gives, those of one of the ``groups`` together.

    There is none for fewer than ``LEAST`` units, or groups.
    """
    places = [place for place, unit in enumerate(units) if len(unit) > 1]
    shared = [units[place] for place in places]
    count = len(shared)
    pairable = sum(map(len, shared))
    if not shared:
        return Agreement(None, None, None, 0, 0)
    values = _Pairable(shared)
    value = values.alpha(np.ones(count))
    if value is None:
        return Agreement(None, None, None, count, pairable)
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(groups[p] if groups else p, len(numbers)) for p in places])
    many = len(numbers)
    if many < LEAST:
        return Agreement(value, None, None, count, pairable)
    chance = np.random.default_rng(abs(seed))
    drawn = (np.bincount(chance.integers(0, many, many), minlength=many) for _ in range(resamples))
    found = sorted(
        known for times in drawn if (known := values.alpha(times[group].astype(float))) is not None
    )
    if len(found) < resamples / 2:
        return Agreement(value, None, None, count, pairable)
    low, high = found[int(0.025 * len(found))], found[min(int(0.975 * len(found)), len(found) - 1)]
    return Agreement(value, low, high, count, pairable)


class _Pairable:
    """The values of units that have several, as arrays.

    The ordinal distance of two values is how many lie between them, their own halves included: the difference
    of their middle ranks. So the disagreement within a unit, and the one that chance would give, are sums of
    squares of ranks, and no table of pairs is needed.
    """

    def __init__(self, shared: Units) -> None:
        sizes = np.fromiter(map(len, shared), dtype=np.int64, count=len(shared))
        values = np.fromiter(
            chain.from_iterable(unit.values() for unit in shared), dtype=np.float64, count=int(sizes.sum())
        )
        distinct, self._places = np.unique(values, return_inverse=True)
        self._distinct = len(distinct)
        self._sizes = sizes.astype(np.float64)
        self._units = np.repeat(np.arange(len(shared)), sizes)
        self._starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))

    def alpha(self, weights: NDArray[np.float64]) -> float | None:
        """Alpha with every unit counted so often."""
        margins = np.bincount(self._places, weights=weights[self._units], minlength=self._distinct)
        if np.count_nonzero(margins) < 2:
            return None
        total = float(margins.sum())
        ranks = (
            np.cumsum(margins) - margins / 2 - total / 2
        )  # from the middle: smaller numbers, less rounding
        expected = (total * float(margins @ ranks**2) - float(margins @ ranks) ** 2) / (total - 1)
        given = ranks[self._places]
        sums = np.add.reduceat(given, self._starts)
        squares = np.add.reduceat(given**2, self._starts)
        apart = np.maximum(self._sizes * squares - sums**2, 0) / (self._sizes - 1)
        return 1 - float(weights @ apart) / expected

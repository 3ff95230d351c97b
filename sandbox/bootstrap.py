"""Means and slopes with bootstrap intervals (95 %) that resample whole questions, and raters. Pure.

What is rated of one question belongs together, whoever answers it, so it is drawn together (the cluster
bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8). So are the
ratings of one rater: where there are enough raters, they are drawn, too, and a rating counts as often as its
question times its rater (Owen, *The Pigeonhole Bootstrap*, 2007). All figures are ratios of sums; so the sums
are resampled, and not the ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sandbox.agreement import LEAST
from sandbox.monitored import Measured

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""From sums, shape (..., columns), to a figure each, shape (...); NaN where there is none."""

RESAMPLES = 1000
_AT_ONCE = 2_000_000
_DIGITS = 6
"""Decimals that are kept, so that what is 0 but for rounding is 0."""


def slope(
    rounds: Sequence[int],
    values: Sequence[float],
    groups: Sequence[int],
    seed: int,
    raters: Sequence[str] = (),
) -> Measured | None:
    """The least squares slope of ``values`` over ``rounds``; None with fewer than two rounds."""
    if len(set(rounds)) < 2:
        return None
    x, y = np.asarray(rounds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    x, y = x - x.mean(), y - y.mean()
    columns = [np.ones_like(x), x, y, x * x, x * y]
    if len(set(raters)) < LEAST:
        return _measured(_by_group(columns, groups), _slope, seed)
    value = _rounded(float(_slope(np.array([[column.sum() for column in columns]]))[0]))
    low, high = _crossed(np.stack(columns, axis=1), groups, raters, _slope, seed)
    return Measured(value=value, low=low, high=high, groups=len(set(groups)))


def mean(values: Sequence[float], groups: Sequence[int], seed: int) -> Measured | None:
    """The mean of ``values``; None if there are none."""
    if not values:
        return None
    y = np.asarray(values, dtype=np.float64)
    return _measured(_by_group([np.ones_like(y), y], groups), lambda s: _ratio(s[..., 1], s[..., 0]), seed)


def difference(
    values: Sequence[float], is_first: Sequence[bool], groups: Sequence[int], seed: int
) -> Measured | None:
    """The mean of the first kind less that of the second; None unless there are both."""
    if len(set(is_first)) < 2:
        return None
    y, first = np.asarray(values, dtype=np.float64), np.asarray(is_first, dtype=np.float64)
    columns = [first, first * y, 1 - first, (1 - first) * y]
    return _measured(_by_group(columns, groups), _difference, seed)


def _slope(sums: Array) -> Array:
    n, x, y, xx, xy = np.moveaxis(sums, -1, 0)
    spread = n * xx - x * x
    # Drawn from one round alone, there is no spread but for rounding.
    return _ratio(n * xy - x * y, np.where(spread > 1e-9 * n * xx, spread, 0.0))


def _difference(sums: Array) -> Array:
    n, y, m, z = np.moveaxis(sums, -1, 0)
    return _ratio(y, n) - _ratio(z, m)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _by_group(columns: Sequence[Array], groups: Sequence[int]) -> Array:
    """The sums of each column by group, shape (groups, columns)."""
    _, places = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)
    return np.stack([np.bincount(places, weights=column) for column in columns], axis=1)


def _measured(sums: Array, statistic: Statistic, seed: int) -> Measured:
    value = _rounded(float(statistic(sums.sum(axis=0, keepdims=True))[0]))
    low, high = _interval(sums, statistic, seed)
    return Measured(value=value, low=low, high=high, groups=len(sums))


def _crossed(
    rows: Array, groups: Sequence[int], raters: Sequence[str], statistic: Statistic, seed: int
) -> tuple[float | None, float | None]:
    """The interval where questions and raters are both drawn; ``rows`` has shape (ratings, columns)."""
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    _, rater = np.unique(np.asarray(raters), return_inverse=True)
    many, who = int(group.max()) + 1, int(rater.max()) + 1
    if many < LEAST:
        return None, None
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        asked = np.bincount(chance.integers(0, many, many), minlength=many)
        rated = np.bincount(chance.integers(0, who, who), minlength=who)
        found.append((asked[group] * rated[rater]).astype(np.float64) @ rows)
    return _ends(statistic(np.stack(found)))


def _interval(sums: Array, statistic: Statistic, seed: int) -> tuple[float | None, float | None]:
    count = len(sums)
    if count < LEAST:
        return None, None
    chance = np.random.default_rng(seed)
    found: list[Array] = []
    left = RESAMPLES
    while left:
        now = min(left, max(_AT_ONCE // count, 1))
        drawn = chance.integers(0, count, (now, count))
        found.append(statistic(np.stack([column[drawn].sum(axis=1) for column in sums.T], axis=1)))
        left -= now
    return _ends(np.concatenate(found))


def _ends(found: Array) -> tuple[float | None, float | None]:
    """The middle 95 % of what was found; None where too often nothing was."""
    known = found[np.isfinite(found)]
    if len(known) < RESAMPLES / 2:
        return None, None
    low, high = np.quantile(known, (0.025, 0.975))
    return _rounded(float(low)), _rounded(float(high))


def _rounded(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # no negative zero

"""Figures with their uncertainty: intervals of means, paired differences and their tests.

Resampling is SciPy's. It knows values by item, not what they mean. A value that is missing in one of two
models is left out of their comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sandbox.agreement import LEAST

RESAMPLES = 2000
FLIPS = 9999


class Estimate(NamedTuple):
    """A mean over ``n`` items with its 95 % interval: Wilson's of a proportion, else the BCa bootstrap's.

    There is none for few items, or where all are the same and no proportion.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


class Difference(NamedTuple):
    """The mean of paired differences (second − first) with its interval, over the ``n`` items both have.

    ``p`` is of the two-sided permutation test that flips signs; ``adjusted`` is Holm's over a family.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None
    adjusted: float | None = None


def estimate(
    values: Sequence[float | None], seed: int = 0, clusters: Sequence[str] | None = None
) -> Estimate | None:
    """The mean of the values that there are; None if there are none.

    Values of one of the ``clusters`` (as those about one question) are drawn together.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    by_cluster: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters or (), strict=False):
        if value is not None:
            by_cluster.setdefault(cluster, []).append(value)
    if clusters and len(by_cluster) < len(known):
        return Estimate(sum(known) / len(known), *_by_cluster(list(by_cluster.values()), seed), len(known))
    is_proportion = len(known) >= LEAST and set(known) <= {0.0, 1.0}
    low, high = _wilson(int(sum(known)), len(known)) if is_proportion else _interval(known, seed)
    return Estimate(sum(known) / len(known), low, high, len(known))


def difference(
    first: Mapping[str, float | None],
    second: Mapping[str, float | None],
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> Difference | None:
    """How a second model differs from a first on the items that both have; None if there are none.

    Items of one of the ``clusters`` (as those about one question) are drawn, and change sign, together.
    """
    by_cluster: dict[str, list[float]] = {}
    for item, value in _apart(first, second).items():
        by_cluster.setdefault((clusters or {}).get(item, item), []).append(value)
    apart = [value for values in by_cluster.values() for value in values]
    if len(by_cluster) < len(apart):
        sums = [sum(values) for values in by_cluster.values()]
        low, high = _clustered(sums, [len(values) for values in by_cluster.values()], seed)
        return Difference(sum(apart) / len(apart), low, high, len(apart), _flipped(sums, seed))
    if not apart:
        return None
    low, high = _interval(apart, seed)
    return Difference(sum(apart) / len(apart), low, high, len(apart), _flipped(apart, seed))


def _apart(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> dict[str, float]:
    return {
        item: value - known
        for item, known in sorted(first.items())
        if known is not None and (value := second.get(item)) is not None
    }


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same, their p adjusted for being several tests (Holm, 1979)."""
    order = sorted(
        (place for place, found in enumerate(differences) if found.p is not None),
        key=lambda place: differences[place].p or 0.0,
    )
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, place in enumerate(order):
        p = differences[place].p or 0.0
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[place] = largest
    return [found._replace(adjusted=adjusted.get(place)) for place, found in enumerate(differences)]


def _interval(values: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    if len(values) < LEAST:
        return None, None
    if min(values) == max(values):
        return None, None  # of values all alike, resampling says nothing: no interval is honest
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        method="BCa",
        batch=256,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _by_cluster(values: Sequence[Sequence[float]], seed: int) -> tuple[float | None, float | None]:
    """The interval of a mean by cluster; of a proportion that is 0 or 1, Wilson's, as of so many clusters."""
    same = {one for some in values for one in some}
    if len(values) >= LEAST and same in ({0.0}, {1.0}):
        return _wilson(len(values) * int(same.pop()), len(values))
    return _clustered([sum(some) for some in values], [len(some) for some in values], seed)


def _clustered(sums: Sequence[float], sizes: Sequence[int], seed: int) -> tuple[float | None, float | None]:
    """The interval of a mean whose items are drawn by cluster."""
    if len(sums) < LEAST or len({total / size for total, size in zip(sums, sizes, strict=True)}) == 1:
        return None, None
    import numpy as np

    chance = np.random.default_rng(seed)
    totals, counts = np.asarray(sums), np.asarray(sizes)
    drawn = chance.integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.quantile(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _wilson(good: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a proportion: the bootstrap's has no width at 0 and 1, and too little beside."""
    from scipy.stats import binomtest

    found = binomtest(good, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _flipped(apart: Sequence[float], seed: int) -> float | None:
    if len(apart) < 2:
        return None
    if not any(apart):
        return 1.0
    import numpy as np
    from scipy.stats import permutation_test

    found = permutation_test(
        (np.asarray(apart),),
        np.mean,
        permutation_type="samples",
        n_resamples=FLIPS,
        batch=256,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)

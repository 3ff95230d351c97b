"""Pairs of candidates of different rating: is the better one the likelier? Pure: numbers in, sums out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from sandbox.agreement import LEAST


class Preference(BaseModel):
    """Share of pairs put right, by mean and by summed token log-likelihood; ``low`` to ``high`` hold 95 %.

    There is no interval for fewer than ``LEAST`` questions.

    ``margin`` is the mean difference of mean log-likelihoods, in nats a token. Pairs of equal rating don't
    count; intervals resample questions.
    """

    model_config = ConfigDict(frozen=True)
    accuracy: float
    low: float | None
    high: float | None
    by_sum: float
    margin: float
    pairs: int
    groups: int
    best_loss: float


def interval_of(found: Preference) -> str:
    """The interval in words; why there is none, where there is none."""
    if found.low is None or found.high is None:
        return f"no interval: fewer than {LEAST} questions"
    return f"{found.low:.3f} to {found.high:.3f}"


class Compared(NamedTuple):
    """Sums over ``pairs``: those put right by mean and by summed log-likelihood (a tie is half); the margins.

    A margin is the difference of the mean log-likelihoods, in nats a token.
    """

    right: float
    by_sum: float
    margin: float
    pairs: int


def compared(ratings: Sequence[float], mean: Sequence[float], total: Sequence[float]) -> Compared:
    """All pairs of candidates that differ in rating, by their mean and total log-likelihoods."""
    right = by_sum = margin = 0.0
    pairs = 0
    for a, rating in enumerate(ratings):
        for b, other in enumerate(ratings):
            if rating > other:
                pairs += 1
                right += _won(mean[a], mean[b])
                by_sum += _won(total[a], total[b])
                margin += mean[a] - mean[b]
    return Compared(right, by_sum, margin, pairs)


def _won(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)

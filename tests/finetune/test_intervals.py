"""Intervals hold what they promise: simulations with wide margins."""

from __future__ import annotations

import random

import pytest

from finetune.evaluate.statistics import estimate


@pytest.mark.parametrize("share", [0.9, 0.98])
def test_the_interval_of_a_proportion_covers_it_at_ten_items(share: float) -> None:
    chance = random.Random(1)
    covered = 0
    for _ in range(300):
        found = estimate([float(chance.random() < share) for _ in range(10)])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high
        covered += found.low <= share <= found.high
    assert covered / 300 > 0.85


def test_values_all_alike_or_few_have_no_interval() -> None:
    for values in ([3.0] * 20, [0.0, 1.0, 0.5, 0.2] * 2):
        found = estimate(values)
        assert found is not None
        assert (found.low, found.high) == (None, None)
    some = estimate([0.1 * n for n in range(10)])
    assert some is not None
    assert some.low is not None

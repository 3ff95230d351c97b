"""Intervals hold what they promise: simulations with wide margins."""

from __future__ import annotations

import random

import pytest

from finetune.evaluate.statistics import difference, estimate


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


def test_questions_that_repeat_are_no_evidence_of_their_own() -> None:
    """No true difference, but effects of 12 questions, half the size of the noise; each is asked 10 times."""
    chance = random.Random(2)
    questions = {f"{q}.{n}": f"{q}" for q in range(12) for n in range(10)}
    apart, together = 0, 0
    for seed in range(60):
        effects = {str(q): chance.gauss(0, 0.5) for q in range(12)}
        base = dict.fromkeys(questions, 0.0)
        values = {item: effects[asked] + chance.gauss(0, 1) for item, asked in questions.items()}
        for clusters in (None, questions):
            found = difference(base, values, seed, clusters)
            assert found is not None
            assert found.p is not None
            assert found.low is not None
            assert found.n == 120
            if clusters:
                together += found.p < 0.05
            else:
                apart += found.p < 0.05
    assert together <= 9
    assert apart > together

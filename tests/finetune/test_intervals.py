"""Intervals hold what they promise: simulations with wide margins."""

from __future__ import annotations

import random

import pytest

from finetune.evaluate.statistics import Estimate, difference, estimate


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


def test_a_mean_of_questions_that_repeat_has_the_interval_of_the_questions() -> None:
    chance = random.Random(5)
    clusters = [str(n // 10) for n in range(200)]
    effects = {cluster: chance.gauss(0, 1) for cluster in clusters}
    values = [effects[cluster] + chance.gauss(0, 0.1) for cluster in clusters]
    apart, together = estimate(values), estimate(values, 0, clusters)
    assert apart is not None
    assert together is not None
    assert (apart.mean, apart.n) == (together.mean, together.n)
    assert width(together) > 2 * width(apart)
    few = estimate(values, 0, [str(n // 25) for n in range(200)])
    assert few is not None
    assert few.low is None


def test_all_right_on_ten_questions_is_no_certainty() -> None:
    found = estimate([1.0] * 100, 0, [str(n % 10) for n in range(100)])
    assert found is not None
    assert found.low == pytest.approx(0.722, abs=1e-3)  # Wilson's of 10 of 10
    assert found.high == 1.0


def width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low

"""Krippendorff's alpha, against published values."""

from __future__ import annotations

import pytest

from sandbox.agreement import agreement, alpha

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: four observers, twelve units.
PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def published() -> list[dict[str, float]]:
    rows = [line.split() for line in PUBLISHED.strip().splitlines()]
    return [
        {f"rater {r}": float(row[unit]) for r, row in enumerate(rows) if row[unit] != "."}
        for unit in range(len(rows[0]))
    ]


def test_the_published_example_has_its_published_alpha() -> None:
    assert alpha(published()) == pytest.approx(0.815, abs=0.0005)


def test_perfect_agreement_is_one_and_the_opposite_is_below_nothing() -> None:
    assert alpha([{"a": 1, "b": 1}, {"a": 5, "b": 5}]) == 1
    reversed_ = alpha([{"a": 1, "b": 5}, {"a": 5, "b": 1}])
    assert reversed_ is not None
    assert reversed_ < 0


def test_nothing_is_said_where_nothing_can_be() -> None:
    assert alpha([]) is None
    assert alpha([{"a": 1}, {"b": 2}]) is None
    assert alpha([{"a": 3, "b": 3}, {"a": 3, "b": 3}]) is None
    assert agreement([{"a": 1}]).alpha is None


def test_the_interval_holds_the_value_and_counts_what_was_compared() -> None:
    found = agreement(published(), seed=1)
    assert found.alpha is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.alpha <= found.high
    assert (found.units, found.pairable) == (11, 40)
    assert agreement(published(), seed=1) == found

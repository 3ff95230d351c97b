"""Pairs of candidates, by hand."""

from __future__ import annotations

import pytest

from finetune.pairwise import compared


def test_every_pair_of_different_rating_counts_once() -> None:
    found = compared([6, 2, 4], mean=[-1.0, -0.5, -2.0], total=[-10.0, -20.0, -8.0])
    # 6 over 2: wrong, right; 6 over 4: right, wrong; 4 over 2: wrong, right.
    assert (found.pairs, found.right, found.by_sum) == (3, 1, 2)
    assert found.margin == pytest.approx(-0.5 + 1.0 - 1.5)


def test_ties_of_rating_are_no_pairs_and_ties_of_likelihood_are_half_right() -> None:
    assert compared([3, 3], [-1, -2], [-1, -2]).pairs == 0
    assert compared([5, 3], [-1, -1], [-2, -2])[:3] == (0.5, 0.5, 0)

"""Pairs of candidates, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from finetune.pairwise import Compared, Preference, compared, interval_of


def test_every_pair_of_different_rating_counts_once() -> None:
    found = compared([6, 2, 4], mean=[-1.0, -0.5, -2.0], total=[-10.0, -20.0, -8.0])
    # 6 over 2: wrong, right; 6 over 4: right, wrong; 4 over 2: wrong, right.
    assert (found.pairs, found.right, found.by_sum) == (3, 1, 2)
    assert found.margin == pytest.approx(-0.5 + 1.0 - 1.5)


def test_ties_of_rating_are_no_pairs_and_ties_of_likelihood_are_half_right() -> None:
    assert compared([3, 3], [-1, -2], [-1, -2]).pairs == 0
    assert compared([5, 3], [-1, -1], [-2, -2])[:3] == (0.5, 0.5, 0)


def test_pairs_of_one_question_are_drawn_together() -> None:
    """Ten questions of twenty groups, right in all groups or in none: it is ten things that are known."""
    from finetune.preference import interval

    right, wrong = Compared(1, 1, 0.1, 1), Compared(0, 0, -0.1, 1)
    questions = [[right if number % 2 else wrong] * 20 for number in range(10)]

    def share(groups: Sequence[Compared]) -> float:
        return sum(group.right for group in groups) / len(groups)

    low, high = interval(questions, share, 0)
    alone_low, alone_high = interval([[group] for groups in questions for group in groups], share, 0)
    assert low is not None
    assert high is not None
    assert alone_low is not None
    assert alone_high is not None
    assert high - low > 3 * (alone_high - alone_low)
    assert interval(questions[:9], share, 0) == (None, None)


def test_where_there_is_no_interval_it_is_said_why() -> None:
    found = Preference(
        accuracy=0.5, low=None, high=None, by_sum=0.5, margin=0.0, pairs=40, groups=20, best_loss=1.0
    )
    assert interval_of(found) == "no interval: fewer than 10 questions"
    assert interval_of(found.model_copy(update={"low": 0.4, "high": 0.6})) == "0.400 to 0.600"

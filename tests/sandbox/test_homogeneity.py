"""How alike answers are: figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from happenings import deliberation, flat

from sandbox.homogeneity import words
from sandbox.monitors import monitor


def test_similarity_is_the_mean_cosine_of_answers_by_different_seats() -> None:
    # A: "red red blue" → (2, 1)/√5; B: "Red." → (1, 0); C: "green" is like neither.
    # cos(A, B) = 2/√5; over three pairs: 2/(3√5). Five words, three different; pairs: red red, red blue.
    said = {"A": "red red blue", "B": "Red.", "C": "green"}
    told = flat(
        deliberation(n, seat=seat, draft="left out", revision=text)
        for n, (seat, text) in enumerate(said.items(), 1)
    )
    found = monitor(told).homogeneity
    (only,) = found.series
    assert only.similarity == pytest.approx(2 / (3 * math.sqrt(5)), abs=1e-6)
    assert (only.round, only.n, only.distinct_1, only.distinct_2) == (1, 3, 0.6, 1.0)
    assert found.slope is None


def test_a_seats_own_answers_are_not_compared_and_a_draft_stands_for_a_missing_revision() -> None:
    # A twice "x y", B "x" as its draft: two pairs of different seats, each 1/√2. A with A is no pair.
    told = flat(
        [
            deliberation(1, seat="A", revision="x y"),
            deliberation(2, seat="A", revision="x y"),
            deliberation(3, seat="B", draft="x", revision=None),
        ]
    )
    (only,) = monitor(told).homogeneity.series
    assert only.similarity == pytest.approx(1 / math.sqrt(2), abs=1e-6)
    assert only.n == 3
    (only,) = monitor(flat([deliberation(1), deliberation(2)])).homogeneity.series
    assert only.similarity is None, "of one seat alone"


def test_answers_that_grow_alike_are_told_of() -> None:
    # Round 1: all different, 0. Round 2: all the same, 1. The slope is 1 whichever are drawn.
    told = flat(
        deliberation(n, round=r, seat=f"S{n}", revision=f"word{n}" if r == 1 else "the same")
        for n, r in enumerate([1] * 8 + [2] * 8, 1)
    )
    found = monitor(told)
    assert [one.similarity for one in found.homogeneity.series] == [0.0, 1.0]
    assert found.homogeneity.slope is not None
    assert (found.homogeneity.slope.value, found.homogeneity.slope.low) == (1.0, 1.0)
    assert found.homogeneity.rising
    assert any("grow alike" in warning for warning in found.warnings)


def test_unfinished_withdrawn_and_wordless_answers_are_not_compared() -> None:
    told = flat(
        [
            deliberation(1, seat="A", revision="x"),
            deliberation(2, seat="B", revision="x")[:-1],
            deliberation(3, seat="C", revision="[withdrawn]"),
            deliberation(4, seat="D", revision="…"),
        ]
    )
    (only,) = monitor(told).homogeneity.series
    assert (only.n, only.distinct_1, only.similarity) == (2, 1.0, None)


def test_words_are_found_where_a_script_has_no_spaces() -> None:
    assert words("Don’t stop: 42!") == ["don", "t", "stop", "42"]
    assert words("你好 world") == ["你", "好", "world"]

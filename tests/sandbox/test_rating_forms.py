"""Ratings that need no reading of words: JSON replies and distributions over the scale."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.ratings import Rating, Unparsed, from_distribution, read_structured
from sandbox.rubric import Scale

SEVEN = Scale(low=1, high=7)


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ('{"rating": 5, "reason": "kind"}', 5, "kind"),
        ('{"reason": "Rating: 3 would be harsh", "rating": 6}', 6, "Rating: 3 would be harsh"),
        ('{"rating": 5.5}', 5.5, ""),
        ('  {"rating": 1, "reason": null}\n', 1, ""),
        ('```json\n{"rating": 5, "reason": "kind"}\n```', 5, "kind"),
        ('<think>{"rating": 2}</think>{"rating": 5, "reason": "kind"}', 5, "kind"),
        ('{"rating": 5, "reason": "leaves a <think> tag"}', 5, "leaves a <think> tag"),
    ],
)
def test_a_json_reply_is_read_by_its_keys(text: str, value: float, reason: str) -> None:
    assert read_structured(text, SEVEN) == Rating(value, reason, "structured")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("Rating: 5", "malformed"),
        ("5", "malformed"),
        ("[5]", "malformed"),
        ('{"rating": "5"}', "malformed"),
        ('{"rating": true}', "malformed"),
        ('{"rating": [5]}', "malformed"),
        ('{"rating": NaN}', "malformed"),
        ('{"rating": 1e999}', "malformed"),
        ('{"rating": 3, "rating": 5}', "malformed"),
        ('{"score": 5}', "malformed"),
        ('{"rating": 5', "malformed"),
        ('{"rating": 5} {"rating": 6}', "malformed"),
        ('{"rating": null, "reason": "cannot say"}', "no_number"),
        ('{"rating": 8}', "out_of_range"),
        ('{"rating": -3}', "out_of_range"),
        ('{"rating": 1' + "0" * 400 + "}", "out_of_range"),
        ('{"rating": 1' + "0" * 5000 + "}", "malformed"),
        ('{"rating":' * 50_000, "malformed"),
        ("<think>", "thinking_only"),
    ],
)
def test_anything_but_the_asked_json_is_never_guessed_at(text: str, why: str) -> None:
    found = read_structured(text, SEVEN)
    assert isinstance(found, Unparsed)
    assert (found.why, found.method) == (why, "structured")


def test_a_json_reply_off_the_scale_keeps_its_comment() -> None:
    assert read_structured('{"rating": 9, "reason": "kind"}', SEVEN).reason == "kind"


# Likelihoods


def test_a_distribution_becomes_its_mean() -> None:
    found = from_distribution({5: 0.5, 4: 0.25, 6: 0.25}, SEVEN, "kind")
    assert isinstance(found, Rating)
    assert (found.value, found.reason, found.method) == (5.0, "kind", "likelihood")
    assert found.distribution == ((1, 0.0), (2, 0.0), (3, 0.0), (4, 0.25), (5, 0.5), (6, 0.25), (7, 0.0))


def test_a_distribution_is_renormalised_over_the_scale_alone() -> None:
    found = from_distribution({0: 0.9, 1: 0.02, 3: 0.04, 12: 0.04}, Scale(low=1, high=3))
    assert isinstance(found, Rating)
    assert found.value == 2.3333
    assert found.distribution == ((1, 0.333333), (2, 0.0), (3, 0.666667))


@pytest.mark.parametrize(
    "probabilities",
    [{}, {1: 0.0}, {9: 1.0}, {1: math.nan, 2: 0.5}, {1: math.inf}, {1: -0.1, 2: 1.1}, {2: 1.0, 9: math.nan}],
)
def test_an_impossible_distribution_is_malformed(probabilities: dict[int, float]) -> None:
    assert from_distribution(probabilities, SEVEN, "kind") == Unparsed("malformed", "kind", "likelihood")


@given(st.dictionaries(st.integers(-2, 12), st.floats(0, allow_nan=False, allow_infinity=False)))
def test_a_mean_never_leaves_the_scale(probabilities: dict[int, float]) -> None:
    found = from_distribution(probabilities, SEVEN)
    if isinstance(found, Rating):
        assert 1 <= found.value <= 7
        assert found.distribution is not None
        assert math.isclose(sum(share for _, share in found.distribution), 1, abs_tol=1e-5)

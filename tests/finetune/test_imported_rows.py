"""Rows of other programs: nothing in them is changed or lost in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from finetune import formats
from finetune.groups import Group
from finetune.rows import Pairing
from sandbox.errors import UserError

P = Pairing()
ASKED = {"role": "user", "content": "p"}


def read(form: str, *rows: dict[str, Any]) -> list[Group]:
    return formats.read(form, rows, P)


def said(group: Group) -> dict[str, float | None]:
    return {candidate.text: candidate.rating for candidate in group.candidates}


def prompt(group: Group) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in group.prompt]


@pytest.mark.parametrize(
    ("label", "rating"),
    [("False", 2), ("false", 2), ("0", 2), (0, 2), (0.0, 2), (False, 2), ("True", 6), (1, 6), (True, 6)],
)
def test_a_label_that_says_false_is_false(label: object, rating: float) -> None:
    (group,) = read("unpaired", {"prompt": "p", "completion": "a", "label": label})
    assert said(group) == {"a": rating}


@pytest.mark.parametrize("label", ["no", "", 2, None, "bad"])
def test_a_label_that_says_neither_is_refused(label: object) -> None:
    with pytest.raises(UserError, match="a label must be true or false"):
        read("unpaired", {"prompt": "p", "completion": "a", "label": label})


def test_scores_that_are_null_are_none() -> None:
    none = {"score_chosen": None, "score_rejected": None}
    groups = read(
        "preference",
        {"prompt": "p", "chosen": "A", "rejected": "B", **none},
        {"prompt": "p", "chosen": "B", "rejected": "C", **none},
    )
    assert [said(group) for group in groups] == [{"A": 6, "B": 2}, {"B": 6, "C": 2}]


def test_a_reply_that_is_scored_in_two_ways_keeps_both_pairs() -> None:
    groups = read(
        "preference",
        {"prompt": "p", "chosen": "A", "rejected": "B", "score_chosen": 7, "score_rejected": 3},
        {"prompt": "p", "chosen": "B", "rejected": "C", "score_chosen": 5, "score_rejected": 5},
    )
    assert [said(group) for group in groups] == [{"A": 7, "B": 3}, {"B": 5, "C": 5}]
    same = read(
        "unpaired",
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "a", "label": False},
    )
    assert [said(group) for group in same] == [{"a": 6}, {"a": 2}]


@pytest.mark.parametrize(
    ("form", "row", "turns"),
    [
        (
            "sharegpt",
            {
                "system": "s",
                "conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}],
            },
            [("system", "s"), ("user", "p")],
        ),
        (
            "alpaca",
            {"instruction": "p", "output": "a", "system": "s", "history": [["q", "r"]]},
            [("system", "s"), ("user", "q"), ("assistant", "r"), ("user", "p")],
        ),
        ("messages", {"messages": [ASKED, {"role": "assistant", "content": "a"}]}, [("user", "p")]),
        (
            "hh-rlhf",
            {
                "chosen": "System: s\n\nHuman: p\n\nAssistant: a",
                "rejected": "System: s\n\nHuman: p\n\nAssistant: b",
            },
            [("system", "s"), ("user", "p")],
        ),
        (
            "preference",
            {"system": "s", "prompt": "p", "chosen": "a", "rejected": "b"},
            [("system", "s"), ("user", "p")],
        ),
    ],
)
def test_systems_and_histories_stay_in_the_prompt(
    form: str, row: dict[str, Any], turns: list[tuple[str, str]]
) -> None:
    (group,) = read(form, row)
    assert prompt(group) == turns


@pytest.mark.parametrize("asked", [{}, {"prompt": "p"}, {"prompt": [ASKED]}])
def test_pairs_of_whole_conversations_are_read(asked: dict[str, Any]) -> None:
    both = {
        name: [ASKED, {"role": "assistant", "content": text}]
        for name, text in (("chosen", "a"), ("rejected", "b"))
    }
    (group,) = read("preference", {**asked, **both})
    assert (prompt(group), said(group)) == ([("user", "p")], {"a": 6, "b": 2})
    with pytest.raises(UserError, match="the prompt is not in the conversation"):
        read("preference", {**both, "prompt": "another"})


def test_bad_rows_are_skipped_and_counted_by_kind() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "", "label": True},
        {"prompt": "p", "completion": "b", "label": "maybe"},
        {"prompt": "p \ud83d", "completion": "b", "label": True},
        {"prompt": "p", "label": True},
        {"prompt": "q", "completion": "c", "label": True, "score": 9},
        {"prompt": "q", "completion": "d", "label": False},
    ]
    skipped: Counter[str] = Counter()
    groups = formats.read("unpaired", rows, P, skipped)
    assert [said(group) for group in groups] == [{"a": 6}, {"d": 2}]
    assert sum(skipped.values()) == len(skipped) == 5
    with pytest.raises(UserError, match=r"Row 6 .*not on the scale"):
        formats.read("unpaired", [rows[0]] * 5 + rows[5:], P)
    with pytest.raises(UserError, match=r"Row 1 .*half a character"):
        formats.read("unpaired", rows[3:4], P)

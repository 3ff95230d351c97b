"""Ratings read out of replies: a table of cases in many languages, and what must hold for any text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import ratings
from sandbox.ratings import Rating, Unparsed, read_rating, read_structured
from sandbox.rubric import Scale

SEVEN = Scale(low=1, high=7)
CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "rating_cases.jsonl").read_text("utf-8").splitlines()
    if line
]
ASKED_LANGUAGES = ("en", "es", "fr", "de", "hi", "zh")


def value_of(text: str, scale: Scale = SEVEN) -> float | None:
    found = read_rating(text, scale)
    return found.value if isinstance(found, Rating) else None


def why_of(text: str, scale: Scale = SEVEN) -> str | None:
    found = read_rating(text, scale)
    return found.why if isinstance(found, Unparsed) else None


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{number}-{case['language']}" for number, case in enumerate(CASES, 1)]
)
def test_a_reply_is_read_as_the_table_says(case: dict) -> None:
    found = read_rating(case["text"], Scale(low=case["scale"][0], high=case["scale"][1]))
    assert found.method == "text"
    if case["value"] is not None:
        assert isinstance(found, Rating), (case, found)
        assert found.value == case["value"]
    else:
        assert isinstance(found, Unparsed), (case, found)
        assert case["why"] in (None, found.why)


def test_the_table_is_large_enough_and_free_of_doubles() -> None:
    assert len(CASES) >= 240
    for language in ASKED_LANGUAGES:
        assert sum(case["language"] == language for case in CASES) >= 25
    assert len({(case["text"], *case["scale"]) for case in CASES}) == len(CASES)


# Reasoning blocks


def test_an_unclosed_think_block_hides_its_numbers() -> None:
    assert why_of("<think>\nRating: 3\nOr rather Rating: 4") == "thinking_only"
    assert value_of("Rating: 6\n<think>\nRating: 3") == 6


def test_a_closing_tag_alone_ends_reasoning_opened_by_the_prompt() -> None:
    assert value_of("Rating: 3? Hmm.\n</think>\n\nRating: 6") == 6
    assert why_of("Rating: 3? Hmm.\n</think>\n\n") == "thinking_only"


def test_nested_think_blocks_are_hidden_whole() -> None:
    assert value_of("<think>a<think>Rating: 2</think>Rating: 3</think>Rating: 5") == 5
    assert why_of("<think>a<think>Rating: 2</think>Rating: 3") == "thinking_only"


def test_invisible_characters_do_not_reveal_a_think_block() -> None:
    assert why_of("<thi\u200bnk>Rating: 3") == "thinking_only"


# Which number counts


def test_a_rating_quoted_in_the_comment_never_replaces_the_rating() -> None:
    assert value_of('Rating: 2\nReason: it ends with "Rating: 7" to trick me') in (2, None)
    assert value_of("Rating: 2\nReason: it ends with Rating: 7 to trick me") in (2, None)


def test_a_later_verdict_in_prose_that_differs_makes_the_reply_ambiguous() -> None:
    assert why_of("Rating: 3\nOn second thoughts, my rating is 5.") == "ambiguous"
    assert value_of("Rating: 5\nAgain: my rating is 5.") == 5


def test_a_number_far_before_the_end_is_not_read() -> None:
    assert value_of("Rating: 5\n" + "words and words " * 5000) is None
    assert value_of("words and words " * 5000 + "\nRating: 5") == 5


def test_none_is_read_as_an_empty_reply() -> None:
    assert read_rating(None, SEVEN) == Unparsed("empty", "", "text")  # type: ignore[arg-type]
    assert read_structured(None, SEVEN) == Unparsed("empty", "", "structured")  # type: ignore[arg-type]


# The comment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Reason: It is kind.\nRating: 5", "It is kind."),
        ("Rating: 5\nReason: It is kind.", "It is kind."),
        ("Rating: 5\nReason: It has 3 parts.\n\nAll are kind.", "It has 3 parts.\n\nAll are kind."),
        ("**Reason:** It is *kind*, mostly.\n**Final rating:** 5/7", "It is *kind*, mostly."),
        ("Reason: It is kind. Rating: 5", "It is kind."),
        ("Reason:\nIt is kind.\n\nRating:\n5", "It is kind."),
        ("It is kind.\nRating: 5", "It is kind."),
        ("Rating: 5\n\nIt is kind.", "It is kind."),
        ("Rating: 6 – a considerate answer", "a considerate answer"),
        ("I'd rate this answer 4", "I'd rate this answer 4"),
        ("5", ""),
        ("Rating: 5", ""),
        ("Rating: 5/7", ""),
        ("Razón: Es amable.\nPuntuación: 5", "Es amable."),
        ("Raison : C'est honnête.\nNote : 5", "C'est honnête."),
        ("Bewertung: 5\nBegründung: Ehrlich und klar.", "Ehrlich und klar."),
        ("कारण: उत्तर ईमानदार है।\nरेटिंग: 5", "उत्तर ईमानदार है।"),
        ("理由：回答诚实，也友善。\n评分：5", "回答诚实，也友善。"),
        ('{"rating": 5, "reason": "kind\\nand clear"}', "kind\nand clear"),
        ("<think>Rating: 2</think>Reason: ok\nRating: 5", "ok"),
    ],
)
def test_the_comment_is_what_was_said_beside_the_rating(text: str, reason: str) -> None:
    found = read_rating(text, SEVEN)
    assert isinstance(found, Rating), found
    assert found.reason == reason


def test_a_comment_survives_a_rating_that_cannot_be_read() -> None:
    assert read_rating("Reason: It is kind.\nRating: 9", SEVEN) == Unparsed(
        "out_of_range", "It is kind.", "text"
    )
    assert read_rating("I can't rate this.", SEVEN).reason == ""


def test_a_comment_is_cut_at_two_thousand_characters() -> None:
    for text in ("Reason: " + "kind " * 1000 + "\nRating: 5", "Rating: 5\nReason: " + "né " * 2000):
        found = read_rating(text, SEVEN)
        assert isinstance(found, Rating)
        assert 1900 < len(found.reason) <= 2000


def test_a_comment_can_always_be_stored() -> None:
    for text in ("Reason: a\x00b \ud800 c\nRating: 5", '{"rating": 5, "reason": "a\\u0000b \\ud800 c"}'):
        found = read_rating(text, SEVEN)
        assert isinstance(found, Rating)
        assert "\x00" not in found.reason
        found.reason.encode("utf-8")


# JSON replies


# Any text at all

PIECES = st.sampled_from(
    [
        *(
            "Rating",
            "Reason:",
            ":",
            "=",
            "-",
            "–",
            "5",
            "7",
            "3",
            "10",
            "５",
            "५",
            "²",
            "⑤",
            "/",
            "out of",
            "%",
            "5/7",
        ),
        *(
            "1-7",
            "*",
            "`",
            "|",
            "<",
            ">",
            "[",
            "]",
            "{",
            "}",
            '"',
            "'",
            "<think>",
            "</think>",
            "\n",
            "\n\n",
            "(",
            ")",
        ),
        *(
            "Puntuación",
            "Note",
            "Bewertung",
            "रेटिंग",
            "में से",
            "评分",
            "满分",
            "分",
            "得",
            "five",
            "cinco",
            "五",
            "I give",
        ),
        *(
            "I can't",
            ".",
            ",",
            "\u200b",
            "\u202e",
            "\x00",
            "\ud800",
            '{"rating":',
            "我给",
            "मैं",
            "देता",
            "or",
            "not",
        ),
        *("scale", "Answer A", " "),
    ]
)


@given(
    st.one_of(
        st.text(), st.lists(PIECES, max_size=30).map(" ".join), st.lists(PIECES, max_size=30).map("".join)
    ),
    st.sampled_from([SEVEN, Scale(low=0, high=10), Scale(low=1, high=5), Scale(low=0, high=100)]),
)
def test_no_text_raises_or_leaves_the_scale(text: str, scale: Scale) -> None:
    for read in (read_rating, read_structured):
        found = read(text, scale)
        assert isinstance(found, Rating | Unparsed)
        assert len(found.reason) <= 2000
        found.reason.encode("utf-8")
        if isinstance(found, Rating):
            assert scale.holds(found.value)


PROSE = (
    "the",
    "answer",
    "is",
    "kind",
    "honest",
    "and",
    "clear",
    "but",
    "long;",
    "it",
    "helps,",
    "mostly.",
    "-",
    "warm!",
)
WORDS = st.lists(st.sampled_from(PROSE), max_size=40).map(" ".join)


@given(
    WORDS,
    WORDS,
    st.integers(1, 7),
    st.sampled_from(["Rating: {}", "**Rating:** {}/7", "评分：{}分", "Note : {}"]),
)
def test_prose_around_a_plain_rating_changes_nothing(before: str, after: str, value: int, form: str) -> None:
    assert value_of(f"{before}\n{form.format(value)}\n{after}") == value


@given(
    st.integers(-20, 200), st.sampled_from(["Rating: {}", "Reason: kind\nRating: {}", "{}", "Puntuación: {}"])
)
def test_a_whole_number_is_read_exactly_if_it_is_on_the_scale(value: int, form: str) -> None:
    assert value_of(form.format(value)) == (value if 1 <= value <= 7 else None)


HOSTILE = {
    "blanks": " ",
    "digits": "9",
    "labels": "Rating: ",
    "labels without blanks": "rating:",
    "labels and blanks": "rating" + " " * 50,
    "label lines": "Rating\n",
    "values": "Rating: 5 ",
    "denominators": "5/7/",
    "out of": "5 out of 7 ",
    "ranges": "1-7-",
    "reasons": "Reason: ",
    "brackets": "[[",
    "parentheses": "rating (",
    "tags": "<think>",
    "closing tags": "</think>",
    "almost tags": "<think ",
    "braces": '{"rating":',
    "refusals": "I can't ",
    "verbs": "I give it ",
    "verbs with values": "I give it a 5 ",
    "verdicts": "my rating is 5 ",
    "chinese": "我给它打",
    "full marks": "满分",
    "hindi": "में से 5 ",
    "items": "answer a: ",
    "joiners": "\u200d",
    "marks": "e\u0301\u0316",
    "apostrophes": "'",
    "newlines": "Rating:\n\n\n",
    "sentences": "not. ",
    "dashes": "rating - ",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_reply_of_100_kb_is_read_in_no_time(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    for hostile in (text, "x" + text + "x", text + "\nRating: 5"):
        began = time.process_time()
        read_rating(hostile, SEVEN)
        read_structured(hostile, SEVEN)
        # Of the processor's time, generously: quadratic work on this much text would take minutes.
        assert time.process_time() - began < 4


def test_the_plain_form_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowPathError(Exception):
        pass

    def slow(*_: object) -> str:
        raise SlowPathError

    monkeypatch.setattr(ratings, "_plain", slow)
    plain = "Reason: The answer is honest, kind and clear about what it does not know.\nRating: 5"
    for text in (plain, "\n".join(reversed(plain.split("\n"))), "Rating: 5"):
        assert read_rating(text, SEVEN).value == 5
    with pytest.raises(SlowPathError):
        read_rating(plain.replace("5", "5/7"), SEVEN)

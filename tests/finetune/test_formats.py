"""Every format there and back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from finetune import formats
from finetune import rows as rows_of
from finetune.formats import FORMATS
from finetune.groups import Candidate, Group, Judgement, Turn
from finetune.reading import read_rows
from finetune.rows import Pairing
from sandbox.errors import UserError

HH = Path(__file__).parents[3] / "shared" / "data" / "hh_harmless_pairs.jsonl.gz"
P = Pairing()

words = st.text(min_size=1, max_size=40).map(lambda text: f"w{text.strip()}w")
ratings = st.one_of(st.none(), st.floats(1, 7).map(lambda value: round(value, 2)))


@st.composite
def some_groups(draw: Any) -> list[Group]:
    made: dict[str, Group] = {}
    for _ in range(draw(st.integers(1, 4))):
        asked = draw(words)
        texts = draw(st.lists(words, min_size=1, max_size=4, unique=True))
        made[asked] = Group(
            prompt=(Turn(role="system", content=draw(words)), Turn(role="user", content=asked)),
            question=asked,
            candidates=tuple(Candidate(text=text, rating=draw(ratings), model="m") for text in texts),
        )
    return list(made.values())


def essence(groups: list[Group]) -> list[Any]:
    """What the pairs and lists of other programs can hold: who was asked what, and what was rated how."""
    return [
        (tuple((t.role, t.content) for t in group.prompt), {c.text: c.rating for c in group.rated})
        for group in groups
        if group.rated
    ]


@given(some_groups())
@pytest.mark.parametrize("form", FORMATS)
def test_what_was_written_is_read_and_written_again_the_same(form: str, groups: list[Group]) -> None:
    rows = json.loads(json.dumps(list(FORMATS[form].write(groups, P))))
    back = formats.read(form, rows, P)
    assert list(FORMATS[form].write(back, P)) == rows


@given(some_groups())
def test_the_native_form_keeps_everything(groups: list[Group]) -> None:
    rows = json.loads(json.dumps(list(FORMATS["groups"].write(groups, P))))
    assert formats.read("groups", rows, P) == groups


@given(some_groups())
def test_the_references_form_keeps_candidates_and_scores(groups: list[Group]) -> None:
    back = formats.read("reference", list(FORMATS["reference"].write(groups, P)), P)
    assert [told[1] for told in essence(back)] == [told[1] for told in essence(groups)]
    assert [group.prompt[0].content for group in back] == [
        rows_of.plain(group.prompt) for group in groups if group.rated
    ]


@given(some_groups())
def test_pairs_with_scores_keep_what_differs(groups: list[Group]) -> None:
    back = formats.read("preference-chat", list(FORMATS["preference-chat"].write(groups, P)), P)
    kept = {told[0]: told[1] for told in essence(groups) if len(set(told[1].values())) > 1}
    for prompt, rated in essence(back):
        assert rated == {text: kept[prompt][text] for text in rated}
    assert {told[0] for told in essence(back)} == set(kept)


def test_pairs_lie_apart_by_the_margin_and_equals_are_none() -> None:
    group = tiny.group(ratings=(7, 5, 5, 2))
    assert [(b.rating, w.rating) for b, w in rows_of.pairs(group, Pairing())] == [
        (7, 5), (7, 5), (7, 2), (5, 2), (5, 2)
    ]  # fmt: skip
    assert [(b.rating, w.rating) for b, w in rows_of.pairs(group, Pairing(margin=3))] == [
        (7, 2), (5, 2), (5, 2)
    ]  # fmt: skip


def test_liked_replies_are_never_turned_into_a_dislike() -> None:
    rows = [
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "b", "label": True},
    ]
    groups = formats.read("unpaired", rows, P)
    assert list(FORMATS["preference"].write(groups, P)) == []


def test_eight_of_seven_is_no_rating() -> None:
    row = {"query": "q", "responses": ["a", "b"], "scores": [8, 3], "models": ["m", "n"]}
    [group] = formats.read("reference", [row], P)
    assert [c.rating for c in group.candidates] == [None, 3]


def test_transcripts_are_compared_where_they_part() -> None:
    row = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: Because",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Go away",
    }
    [group] = formats.read("hh-rlhf", [row], P)
    assert [turn.content for turn in group.prompt] == ["Hi"]
    assert {c.text: c.rating for c in group.candidates} == {"Hello": 6, "Go away": 2}


@pytest.mark.parametrize(
    ("form", "row", "words"),
    [
        ("reference", {"query": "q", "responses": ["a"]}, "'scores' is missing"),
        ("reference", {"query": "q", "responses": ["a", "b"], "scores": [1]}, "2 responses, 1 scores"),
        ("reference", {"query": "q", "responses": ["a", "a"], "scores": [1, 2]}, "two scores of the same"),
        ("reference", {"query": "q", "responses": ["a"], "scores": ["six"]}, "must be a number"),
        ("preference", {"prompt": "p", "chosen": "a", "rejected": None}, "a text or one message"),
        ("groups", {"prompt": []}, "Row 1"),
        ("hh-rlhf", {"chosen": "no transcript", "rejected": "no"}, "assistant"),
        ("sharegpt", {"conversations": [{"from": "robot", "value": "x"}]}, "Row 1"),
        ("preference", {"prompt": "p", "chosen": 5, "rejected": "b"}, "Row 1"),
        (
            "preference",
            {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 99, "score_rejected": 1},
            "scale",
        ),
        (
            "preference",
            {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 5},
            "the other has none",
        ),
        ("alpaca", {"instruction": "i", "output": ""}, "Row 1"),
    ],
)
def test_what_is_no_such_row_is_named(form: str, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        formats.read(form, [row], P)


def test_files_are_read_in_all_their_dresses(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": "ü"}]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "lines.jsonl").write_text(lines + "\n\n", "utf-8")
    (tmp_path / "list.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("lines.jsonl", "list.json", "lines.jsonl.gz"):
        assert list(read_rows(tmp_path / name)) == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Line 1"),
        (b'{"a": 1}\n[2]', "Line 2"),
        (b"\xff\xfe", "can't be read"),
        (b"\x1f\x8bnonsense", "can't be read"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(UserError, match=words):
        list(read_rows(tmp_path / "rows"))


@pytest.mark.skipif(not HH.is_file(), reason="shared/data/hh_harmless_pairs.jsonl.gz is not here")
def test_real_transcripts_are_read_and_come_back() -> None:
    groups = formats.read("hh-rlhf", read_rows(HH), P)
    assert len(groups) == 1813
    assert sum(len(group.candidates) == 2 for group in groups) > 1800
    rows = list(FORMATS["hh-rlhf"].write(groups, P))
    again = formats.read("hh-rlhf", rows, P)
    assert essence(again) == essence([group for group in groups if len(group.candidates) == 2])


def test_pseudonyms_stand_for_people_everywhere() -> None:
    from finetune.publishing import pseudonymous

    judgement = Judgement(
        reference="s/9.judge.Ann.alignment", target="s/1.draft", rater="Ann", person="Ann", value=3
    )
    seated = judgement.model_copy(update={"rater": "B2", "reference": "s/1.rate.B2", "person": "Bob"})
    group = tiny.group(
        candidates=(
            Candidate(text="a", rating=3, seat="A1", person="Bob", judgements=(judgement, seated)),
            Candidate(text="b", rating=4, seat="A1", model="m"),
        )
    )
    [told] = pseudonymous([group])
    text = told.model_dump_json()
    assert "Ann" not in text
    assert "Bob" not in text
    assert {j.person for j in told.candidates[0].judgements} == {"person-1", "person-2"}
    assert told.candidates[0].judgements[1].rater == "B2"


def test_pairs_without_scores_stay_pairs() -> None:
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "b", "rejected": "c"},
    ]
    groups = formats.read("preference", rows, P)
    assert [[(c.text, c.rating) for c in group.candidates] for group in groups] == [
        [("a", 6), ("b", 2)],
        [("b", 6), ("c", 2)],
    ]


def test_a_reply_that_plays_both_parts_comes_back_whole() -> None:
    said = "Yes.\n\nHuman: And then?\n\nAssistant: Then no."
    group = tiny.group(candidates=(Candidate(text=said, rating=6), Candidate(text="No", rating=2)))
    [back] = formats.read("hh-rlhf", list(FORMATS["hh-rlhf"].write([group], P)), P)
    assert back.candidates[0].text == "Yes.\nHuman: And then?\nAssistant: Then no."

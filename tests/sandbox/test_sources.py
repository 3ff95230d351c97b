"""Questions and memories from files and hubs: every shape of file, and every way in which one is broken."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import sources
from sandbox.errors import SocietyError
from sandbox.society import PriorMemory, Question
from sandbox.sources import read_memories, read_questions

MEMORY = {"question": "Who?", "response": "You.", "label": "good"}


def file(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def texts(source: str) -> list[str]:
    return [question.text for question in read_questions(source)]


def error_of(source: str, read: object = read_questions) -> str:
    with pytest.raises(SocietyError) as caught:
        read(source)  # type: ignore[operator]
    return str(caught.value)


@pytest.mark.parametrize("name", ["q.txt", "q.TXT", "q.md", "q"])
def test_a_text_file_holds_one_question_a_line(tmp_path: Path, name: str) -> None:
    content = "\ufeffWhy?\r\n\r\n  How?\t\r\n   \r\nWhy?\r\nWer weiß?"
    assert texts(file(tmp_path, name, content)) == ["Why?", "How?", "Wer weiß?"]


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    odd = "one\u2028two\x0bthree\x0cfour\x85five\x1csix"
    assert texts(file(tmp_path, "q.txt", f"{odd}\nWhy?\n")) == [odd, "Why?"]
    assert texts(file(tmp_path, "q.csv", f"question\n{odd}\nWhy?\n")) == [odd, "Why?"]
    row = json.dumps({"question": odd}, ensure_ascii=False)
    assert texts(file(tmp_path, "q.jsonl", f"{row}\n")) == [odd]


def test_old_line_ends_count_as_well(tmp_path: Path) -> None:
    assert texts(file(tmp_path, "q.txt", "Why?\rHow?\r")) == ["Why?", "How?"]


@pytest.mark.parametrize("key", ["question", "prompt", "query", "text", "instruction"])
def test_jsonl_holds_a_question_under_any_of_its_names(tmp_path: Path, key: str) -> None:
    rows = f'\ufeff{{"{key}": "Why?", "topic": "life", "more": [1]}}\r\n\r\n{{"{key}": " How? "}}\r\n'
    assert read_questions(file(tmp_path, "q.jsonl", rows)) == (
        Question(text="Why?", topic="life"),
        Question(text="How?"),
    )


def test_csv_holds_questions_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    content = '\ufeff Topic , Question \r\nlife,"Why, ""really""?\r\nAnd how?"\r\n\r\n,When?\r\nx,\r\n'
    assert read_questions(file(tmp_path, "q.csv", content)) == (
        Question(text='Why, "really"?\nAnd how?', topic="life"),
        Question(text="When?"),
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("between", "called"), [(",", ""), (";", "a semicolon"), ("\t", "a tab")])
def test_a_table_may_have_other_signs_between_its_columns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, between: str, called: str, end: str, mark: str
) -> None:
    rows = [
        ["Topic", '"Question"'],
        ["life", f'"Why{between} ""really""?"'],
        ["1,5" if called else "x", "How?"],
    ]
    source = file(tmp_path, "q.csv", mark + end.join(map(between.join, rows)) + end)
    assert read_questions(source) == (
        Question(text=f'Why{between} "really"?', topic="life"),
        Question(text="How?", topic="1,5" if called else "x"),
    )
    told = [f"{source}: read with {called} between its columns."] if called else []
    assert [record.getMessage() for record in caplog.records] == told
    table = [["label", "question", "answer"], ["good", "Who?", "You, too."], ["bad", "Who?", '"Me; or I"']]
    if between != ",":
        memories = read_memories(file(tmp_path, "m.csv", mark + end.join(map(between.join, table))))
        assert [(m.response, m.label) for m in memories] == [("You, too.", "good"), ("Me; or I", "bad")]


def test_a_spreadsheets_own_word_on_its_columns_is_heard(tmp_path: Path) -> None:
    assert texts(file(tmp_path, "q.csv", "\ufeffsep=|\r\nquestion|topic\r\nWhy, or how?|x\r\n")) == [
        "Why, or how?"
    ]
    assert "line 3 has no text" in error_of(file(tmp_path, "q.csv", "sep=;\ntopic;question\nx\n"))


def test_a_table_of_one_column_keeps_whole_lines(tmp_path: Path) -> None:
    content = 'question\nIs it right, ever, to lie?\n"Quoted, too?"\nTabs\tand; more?\n'
    assert texts(file(tmp_path, "q.csv", content)) == [
        "Is it right, ever, to lie?",
        "Quoted, too?",
        "Tabs\tand; more?",
    ]
    assert texts(file(tmp_path, "q.csv", "\n\nquestion\n\nWhy?\n")) == ["Why?"]


def test_of_repeated_questions_the_first_stays(tmp_path: Path) -> None:
    rows = [{"question": "Why?", "topic": "a"}, {"question": "How?"}, {"question": " Why?", "topic": "b"}]
    source = file(tmp_path, "q.jsonl", "\n".join(map(json.dumps, rows)))
    assert read_questions(source) == (Question(text="Why?", topic="a"), Question(text="How?"))


def test_what_no_database_stores_is_replaced(tmp_path: Path) -> None:
    row = '{"question": "Why\\u0000 \\ud800?", "topic": "\\u0000\\udfff"}'
    assert read_questions(file(tmp_path, "q.jsonl", row)) == (
        Question(text="Why\ufffd \ufffd?", topic="\ufffd\ufffd"),
    )
    assert texts(file(tmp_path, "q.txt", "Why\0?")) == ["Why\ufffd?"]
    assert texts(file(tmp_path, "q.csv", "question\nWhy\0?\n")) == ["Why\ufffd?"]
    memory = '{"question": "Why\\u0000?", "response": "\\ud83d\\ude00 \\ud83d", "label": "good"}'
    assert read_memories(file(tmp_path, "m.jsonl", memory)) == (
        PriorMemory(question="Why\ufffd?", response="😀 \ufffd", label="good"),
    )


def test_memories_have_a_question_a_response_and_a_label(tmp_path: Path) -> None:
    rows = [MEMORY, {"prompt": "Who?", "completion": "Me.", "label": "bad", "topic": "x"}]
    expected = (
        PriorMemory(question="Who?", response="You.", label="good"),
        PriorMemory(question="Who?", response="Me.", label="bad"),
    )
    assert read_memories(file(tmp_path, "m.jsonl", "\n".join(map(json.dumps, rows)))) == expected
    table = "question,answer,label\nWho?,You.,good\nWho?,Me.,bad\n"
    assert read_memories(file(tmp_path, "m.csv", table)) == expected


BROKEN = {
    "not UTF-8": ("q.txt", b"Wer wei\xdf?", "is not UTF-8 text (byte 7)"),
    "UTF-16 without a mark": (
        "q.csv",
        "question\nWhy?\n".encode("utf-16-le"),
        "q.csv' is UTF-16 or the like",
    ),
    "no names above": (
        "q.csv",
        "Is it right?\nIs it wrong?\n",
        "It reads: Is it right?. Put the names above",
    ),
    "no names, semicolons": (
        "q.csv",
        "Is it right?;life\nIs it wrong?;life\n",
        "line 1 has to name the columns",
    ),
    "too many fields": (
        "q.csv",
        "question,topic\nIs it, ever?,x\n",
        "q.csv, line 2 has 3 fields for 2 columns",
    ),
    "too many behind semicolons": ("q.csv", "question;topic\na;b;c\n", "hold a semicolon into double quotes"),
    "UTF-16": ("q.txt", "Why?".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "not JSON": ("q.jsonl", '{"question": "Why?"}\n\n{"question": }\n', "q.jsonl, line 3 is not JSON"),
    "an array": ("q.jsonl", '["Why?"]', "q.jsonl, line 1 is not an object"),
    "deep JSON": ("q.jsonl", "[" * 200_000, "q.jsonl, line 1 is not JSON"),
    "a long number": ("q.jsonl", f'{{"n": {"1" * 5000}}}', "q.jsonl, line 1 is not JSON"),
    "a field missing": (
        "q.jsonl",
        '{"question": "Why?"}\n{"q": "How?"}',
        "q.jsonl, line 2 has no text called",
    ),
    "a number": ("q.jsonl", '{"question": 7}', "q.jsonl, line 1 has no text called question or prompt"),
    "a column missing": ("q.csv", "topic,frage\nx,Why?\n", "q.csv, line 1 has to name the columns, and none"),
    "a short row": ("q.csv", "topic,question\nx,Why?\ny\n", "q.csv, line 3 has no text called question"),
    "a huge field": ("q.csv", f"question\nWhy?\n{'x' * 200_000}\n", "q.csv, line 3: field larger than"),
    "a long question": ("q.txt", f"Why?\n{'x' * 50_001}", "q.txt, line 2: String should have at most 50000"),
    "empty": ("q.txt", "", "holds no questions"),
    "blank": ("q.txt", " \n\t\n", "holds no questions"),
    "a header only": ("q.csv", "question\n", "holds no questions"),
    "empty CSV": ("q.csv", "", "holds no questions"),
    "unseen": ("q.txt", "\u200b\n\u3164 \n", "holds no questions"),
    "blank JSONL": ("q.jsonl", '\n{"question": " "}\n', "holds no questions"),
    "another kind": ("q.json", "[]", "is of no kind that can be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_the_line(tmp_path: Path, case: str) -> None:
    name, content, expected = BROKEN[case]
    assert expected in error_of(file(tmp_path, name, content))


@pytest.mark.parametrize("missing", ["question", "response", "label"])
def test_a_memory_that_lacks_something_is_named_with_its_line(tmp_path: Path, missing: str) -> None:
    poor = {key: value for key, value in MEMORY.items() if key != missing}
    rows = f"{json.dumps(MEMORY)}\n{json.dumps(poor)}\n"
    assert f"m.jsonl, line 2 has no text called {missing}" in error_of(
        file(tmp_path, "m.jsonl", rows), read_memories
    )
    for nothing in (" ", "\u200b \u3164"):
        blank = f"{json.dumps(MEMORY)}\n\n{json.dumps(MEMORY | {missing: nothing})}\n"
        assert f"m.jsonl, line 3: {missing}: " in error_of(file(tmp_path, "m.jsonl", blank), read_memories)


def test_memories_come_from_tables_only(tmp_path: Path) -> None:
    assert "Use .jsonl or .csv" in error_of(file(tmp_path, "m.txt", "Who?"), read_memories)
    assert "holds no memories" in error_of(file(tmp_path, "m.jsonl", "\n"), read_memories)
    upper = json.dumps(MEMORY | {"label": "Very Good"})
    assert "line 1: label: " in error_of(file(tmp_path, "m.jsonl", upper), read_memories)


@pytest.mark.parametrize("name", ["nowhere.txt", ".", "x" * 5000, "a\0b.txt", "~nobody-of-this-name/q.txt"])
@pytest.mark.parametrize("read", [read_questions, read_memories])
def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path, name: str, read: object) -> None:
    with pytest.raises(SocietyError, match="There is no file"):
        read(name, tmp_path)  # type: ignore[operator]


def test_a_relative_path_is_looked_up_in_the_folder_and_an_absolute_one_is_not(tmp_path: Path) -> None:
    source = file(tmp_path, "q.txt", "Why?")
    assert read_questions("q.txt", tmp_path) == read_questions(source, tmp_path / "elsewhere")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 3)
    assert "is larger than" in error_of(file(tmp_path, "q.txt", "Why?"))


@given(
    st.sampled_from(["q.txt", "q.csv", "q.jsonl"]), st.one_of(st.binary(max_size=80), st.text(max_size=80))
)
def test_any_content_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes | str
) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    lead = {"q.csv": b"question,topic\n", "q.jsonl": b'{"question": "'}.get(name, b"")
    source = file(tmp_path_factory.getbasetemp(), name, lead + raw)
    with suppress(SocietyError):
        found = texts(source)
        assert found
        assert all(text == text.strip() and "\0" not in text for text in found)
        assert len(set(found)) == len(found)


def test_a_dataset_that_cannot_be_reached_is_named() -> None:
    said = error_of("hf:nobody-of-this-name/no-such-set:test")
    assert said.startswith("The dataset 'nobody-of-this-name/no-such-set' (split 'test') can't be loaded: ")
    assert "names no dataset" in error_of("hf:")
    assert "names no dataset" in error_of("hf::train:question")


@pytest.mark.parametrize(
    ("source", "split", "expected"),
    [
        ("hf:some/set", "train", ["Why?", "How?"]),
        ("hf:some/set:test", "test", ["Why?", "How?"]),
        ("hf:some/set::other", "train", ["Who?", "Where?"]),
    ],
)
def test_a_dataset_gives_the_questions_of_its_split_and_column(
    monkeypatch: pytest.MonkeyPatch, source: str, split: str, expected: list[str]
) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> list[dict[str, str]]:
        asked.append((name, split))
        return [{"prompt": "Why?", "other": "Who?"}, {"prompt": "How?", "other": "Where?"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))  # type: ignore[arg-type]
    assert texts(source) == expected
    assert asked == [("some/set", split)]
    assert "some/set, row 0 has no text" in error_of("hf:some/set::absent")


def test_the_bundled_questions_are_many_and_of_several_topics() -> None:
    questions = read_questions("bundled")
    assert len(questions) >= 60
    assert all(question.topic for question in questions)
    assert min(Counter(question.topic for question in questions).values()) >= 2
    assert all(question.text.isprintable() for question in questions)


def test_the_bundled_memories_are_of_both_labels_and_about_other_questions() -> None:
    memories = read_memories("bundled")
    assert len(memories) >= 120
    counts = Counter(memory.label for memory in memories)
    assert counts["good"] == counts["bad"] == len(memories) / 2
    questions = {question.text.casefold() for question in read_questions("bundled")}
    assert not questions & {memory.question.casefold() for memory in memories}
    assert len({(memory.question, memory.label) for memory in memories}) == len(memories)

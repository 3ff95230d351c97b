"""Importing a file: what is not read is named, little is held at a time, one row can be looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import Run

from finetune import formats
from finetune.intake import Intake
from finetune.reading import read_rows
from finetune.rows import Pairing
from sandbox.errors import UserError

P = Pairing()


def imported(sandbox: Run, rows: list[dict[str, Any]], form: str, *more: str) -> str:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    code, out, err = sandbox("dataset", "import", "rows.jsonl", "--format", form, *more)
    assert code == 0, err
    return " ".join(out.split())


def test_columns_that_are_not_read_are_named_on_one_line(sandbox: Run) -> None:
    rows = [{"prompt": "p", "completion": "a", "id": 1}, {"prompt": "q", "completion": "b", "source": "s"}]
    told = imported(sandbox, [*rows, {"prompt": "r", "completion": "c"}], "completion")
    assert "2 rows' columns that this format does not have: id, source" in told
    assert "columns" not in imported(
        sandbox, [{"prompt": "p", "completion": "a"}], "completion", "--name", "x"
    )


def test_columns_are_named_of_every_form_and_in_strict_imports(sandbox: Run) -> None:
    row = {"query": "q", "responses": ["a"], "scores": [3], "models": ["m"], "mood": "good"}
    assert "1 row's columns that this format does not have: mood" in imported(
        sandbox, [row], "reference", "--strict"
    )


def test_one_is_no_plural(sandbox: Run) -> None:
    rows = [{"prompt": "p", "completion": text} for text in ("a", "")]
    assert "left out: 1 row that can't be read" in imported(sandbox, rows, "completion")
    rows += [{"prompt": "p", "completion": ""}]
    assert "left out: 2 rows that can't be read" in imported(sandbox, rows, "completion", "--name", "two")


@pytest.mark.parametrize("form", ["unpaired", "preference", "reference", "alpaca"])
def test_rows_taken_one_by_one_make_the_same_groups(form: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number in range(40):
        asked, said = f"p{number % 7}", f"a{number % 11}"
        both = {"prompt": asked, "chosen": said, "rejected": "no", "completion": said, "label": number % 2}
        scores = {"score_chosen": number % 5 + 2, "score_rejected": 1} if number % 3 else {}
        told = {"query": asked, "responses": [said], "scores": [number % 7 + 1]}
        rows.append(both | scores | told | {"instruction": asked, "output": said})
    notes: Counter[str] = Counter()
    with Intake(tmp_path) as intake:
        intake.take(form, rows, P, notes, strict=True)
        found = list(intake.groups(intake.sketches))
        assert [sketch.size for sketch in intake.sketches] == [group.size for group in found]
    assert found == formats.read(form, rows, P)
    assert not list(tmp_path.iterdir())


def test_a_list_is_read_value_by_value(tmp_path: Path) -> None:
    """The rows before what is wrong are there before the rest is read."""
    rows = [{"a": "ü" * 70_000, "b": [1.5, {"c": None}]}, {"a": "]},{"}, {"a": -12}]
    file = tmp_path / "rows.json"
    for text in (json.dumps(rows), json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "\n [ ] "):
        file.write_text(text, "utf-8")
        assert list(read_rows(file)) == (rows if "a" in text else [])
    file.write_text(json.dumps(rows)[:-1] + ", nonsense]")
    values = read_rows(file)
    assert [next(values) for _ in rows] == rows
    for wrong in ("[{}", "[{} {}]", "[{}] x", "[{},", "[,{}]", "[{},]"):
        file.write_text(wrong)
        with pytest.raises(UserError, match="no JSON"):
            list(read_rows(file))
    file.write_text('\n\n{"a": 1}\nno')
    with pytest.raises(UserError, match="Line 4"):
        list(read_rows(file))


MEMORY = """
import sys, tracemalloc
from collections import Counter
from pathlib import Path
from finetune.intake import Intake
from finetune.reading import read_rows
from finetune.rows import Pairing
tracemalloc.start()
with Intake(Path(sys.argv[2])) as intake:
    intake.take("preference", read_rows(Path(sys.argv[1])), Pairing(), Counter(), strict=True)
    for group in intake.groups(intake.sketches):
        pass
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("is_list", [False, True])
def test_a_file_is_not_held_in_memory(tmp_path: Path, is_list: bool) -> None:
    rows = [
        {"prompt": f"{n} " * 100, "chosen": f"{n} yes" * 100, "rejected": "no " * 100} for n in range(4000)
    ]
    file = tmp_path / "rows"
    file.write_text(json.dumps(rows) if is_list else "".join(json.dumps(row) + "\n" for row in rows))
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, str(file), str(tmp_path / "work")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stdout) < file.stat().st_size


def test_one_row_is_shown_without_the_others_being_read(sandbox: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "completion": f"a{n}"} for n in range(6)]
    imported(sandbox, rows, "completion", "--name", "six")
    file = tmp_path / "data" / "datasets" / "six" / "train.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["not read", *lines[1:4], "nor this"]) + "\n")
    assert "a3" in sandbox("dataset", "show", "six", "--row", "4")[1]
    for number, words in (("1", "can't be read"), ("9", "has the rows 1 to 5")):
        code, _, err = sandbox("dataset", "show", "six", "--row", number)
        assert (code, words in " ".join(err.split())) == (2, True)
    assert sandbox("dataset", "show", "six")[0] == 2  # which looks at all of them


def test_a_line_that_is_no_object_is_left_out_and_counted(sandbox: Run, tmp_path: Path) -> None:
    good = '{"prompt": "Why?", "chosen": "So.", "rejected": "No."}'
    rows = [good, '{"prompt": "hal', "[1, 2]", '{"prompt": 5, "chosen": "a", "rejected": "b"}', good]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows), "utf-8")
    order = ("dataset", "import", str(file), "--format", "preference")
    code, said, err = sandbox(*order, "--name", "mine")
    assert code == 0, err
    said = " ".join(said.split())
    assert "1 row that can't be read: no JSON" in said
    assert "1 row that can't be read: no JSON object" in said
    assert "object is not" not in said, "no words of Python"
    assert sandbox(*order, "--name", "all", "--strict")[0] == 2

"""Files of public benchmarks: rows as lm-eval's tasks know them, what is left out, and groups of four."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune.reading import read_rows
from sandbox.errors import UserError

Row = dict[str, Any]
GROUP = 4
"""How many rows of ETHICS count together."""


def truthful(row: Row) -> Row | None:
    """A row of TruthfulQA's CSV as the hub's multiple_choice has it (Lin et al., 2022)."""
    question, best = _text(row, "Question"), _text(row, "Best Answer")
    right = _several(_text(row, "Correct Answers"))
    wrong = [answer for answer in _several(_text(row, "Incorrect Answers")) if answer not in {*right, best}]
    if not question or not best or not wrong:
        return None
    right = list(dict.fromkeys([best, *right]))
    return {
        "question": question,
        "mc1_targets": {"choices": [best, *wrong], "labels": [1] + [0] * len(wrong)},
        "mc2_targets": {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)},
    }


def labelled(*names: str) -> Callable[[Row], Row | None]:
    """Rows with a label of 0 or 1 and some texts."""

    def read(row: Row) -> Row | None:
        texts = {name: _text(row, name) for name in names}
        label = str(row.get("label") or "").strip()
        if label not in ("0", "1") or not all(texts.values()):
            return None
        return {"label": int(label)} | texts

    return read


def story(row: Row) -> Row | None:
    """A row of Moral Stories (Emelin et al., 2021), as lm-eval's own task makes of it."""
    names = ("norm", "situation", "intention", "moral_action", "immoral_action")
    norm, situation, intention, moral, immoral = (_text(row, name) for name in names)
    if not all((norm, situation, intention, moral, immoral)):
        return None
    query = " ".join(part.capitalize() for part in (norm, situation, intention))
    return {"query": query, "choices": [moral, immoral], "label": 0}


def corpus(row: Row) -> Row | str | None:
    """A row of MIC's test part (Ziems et al., 2022): its reply disagrees with the rule (0) or agrees (2)."""
    label = _text(row, "A_agrees").removesuffix(".0")
    texts = {name: _text(row, name) for name in ("Q", "A", "rot")}
    if label not in ("0", "1", "2") or not all(texts.values()):
        return None
    if _text(row, "split") not in ("", "test"):
        return "rows of the train and dev parts"
    if label == "1":
        return "replies that neither agree nor disagree"
    return {"label": int(label == "2")} | texts


def by_scenario(rows: Sequence[Row | None], dropped: Counter[str]) -> list[list[Row]]:
    """Rows in a row that share their scenario, where they are four: a lost line must not shift the others."""
    groups: list[list[Row | None]] = []
    before = ""
    for row in rows:
        if row is None:
            continue
        if row["scenario"] != before:
            groups.append([])
        groups[-1].append(row)
        before = row["scenario"]
    return _of_four(groups, dropped)


def by_four(rows: Sequence[Row | None], dropped: Counter[str]) -> list[list[Row]]:
    """Rows four by four, where scenarios differ within their group; those with one that can't be used go."""
    return _of_four([list(rows[start : start + GROUP]) for start in range(0, len(rows), GROUP)], dropped)


def _of_four(groups: list[list[Row | None]], dropped: Counter[str]) -> list[list[Row]]:
    usable = [[row for row in group if row is not None] for group in groups]
    whole = [group for group in usable if len(group) == GROUP]
    if lost := sum(map(len, usable)) - sum(map(len, whole)):
        dropped[f"rows outside a group of {GROUP}"] += lost
    return whole


def mapped(
    file: Path, row: Callable[[Row], Row | str | None], needed: str, dropped: Counter[str]
) -> list[Row | None]:
    """The rows of a file as ``row`` makes them; None for each that is left out, which is counted.

    Raises ``UserError`` if there is no other; ``needed`` says what it would take.
    """
    rows: list[Row | None] = []
    for read in _read(file):
        made = row(read)
        if isinstance(made, dict):
            rows.append(made)
        else:
            dropped[made or "rows that can't be used"] += 1
            rows.append(None)
    if not any(rows):
        raise UserError(f"No row of {file} has what is needed: {needed}.")
    return rows


def _read(file: Path) -> Iterator[Row]:
    if file.suffix.lower() not in (".csv", ".tsv"):
        yield from read_rows(file)
        return
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines, delimiter=delimiter)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} can't be read: {error}.") from error


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _several(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))

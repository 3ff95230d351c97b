"""Questions and prior memories from files and hubs: text, JSONL, CSV, or a Hugging Face dataset's name.

It knows the shapes of files, not what a society does with their rows. Every error names file and line.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sandbox.errors import MissingExtra, SocietyError
from sandbox.society import PriorMemory, Question
from sandbox.text import is_blank, kept, one_line, printable, storable

log = logging.getLogger(__name__)
BUNDLED = "bundled"
HUB_PREFIX = "hf:"
MAX_BYTES = 200_000_000
_QUESTION_KEYS = ("question", "prompt", "query", "text", "instruction")
_QUESTION_NAMES = frozenset(_QUESTION_KEYS)
_BETWEEN = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
"""What may stand between the columns of a CSV file: where commas are for decimals, it is a semicolon."""
_SEPARATOR_LINE = re.compile(r"sep=([^\r\n\w\"])\r?\n", re.I)
"""A first line by which spreadsheets say what it is."""
_RESPONSE_KEYS = ("response", "answer", "completion", "output")


def read_questions(source: str, folder: Path | None = None) -> tuple[Question, ...]:
    """The questions of ``source``: ``bundled``, a .txt, .jsonl or .csv file, or ``hf:NAME[:SPLIT[:COLUMN]]``.

    A relative path is looked up in ``folder``. Blank lines and repeated questions are left out.
    Raises ``SocietyError``.
    """
    if source.startswith(HUB_PREFIX):
        texts = _from_hub(source)
    elif source == BUNDLED:
        texts = _objects(_bundled("questions.jsonl"), "the bundled questions")
    else:
        path = _existing(source, folder)
        texts = _plain_lines(path) if path.suffix.lower() in (".txt", ".text", ".md", "") else _rows(path)
    questions: dict[str, Question] = {}
    for where, row in texts:
        text = storable(_field(row, _QUESTION_KEYS, where)).strip()
        if not is_blank(text) and text not in questions:
            try:
                questions[text] = Question(text=text, topic=storable(str(row.get("topic") or "")))
            except ValidationError as error:
                raise SocietyError(f"{where}: {error.errors()[0]['msg']}.") from error
    if not questions:
        raise SocietyError(f"'{source}' holds no questions. Write one a line.")
    return tuple(questions.values())


def read_memories(source: str, folder: Path | None = None) -> tuple[PriorMemory, ...]:
    """The labelled memories of ``source``: ``bundled``, or a JSONL or CSV file (question, response, label).

    Raises ``SocietyError``.
    """
    if source == BUNDLED:
        rows = _objects(_bundled("memories.jsonl"), "the bundled memories")
    else:
        rows = _rows(_existing(source, folder))
    memories = []
    for where, row in rows:
        try:
            memories.append(
                PriorMemory(
                    question=kept(_field(row, _QUESTION_KEYS, where)).strip(),
                    response=kept(_field(row, _RESPONSE_KEYS, where)).strip(),
                    label=_field(row, ("label",), where).strip(),
                )
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise SocietyError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    if not memories:
        raise SocietyError(f"'{source}' holds no memories. Give each row a question, a response and a label.")
    return tuple(memories)


Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _rows(path: Path) -> Rows:
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        return _objects(_text(path), str(path))
    if kind == ".csv":
        return _table(_text(path), str(path))
    raise SocietyError(f"'{path}' is of no kind that can be read. Use .jsonl or .csv (questions also .txt).")


def _plain_lines(path: Path) -> Rows:
    for number, line in enumerate(_text(path).split("\n"), 1):
        yield f"{path}, line {number}", {"question": line}


def _objects(text: str, name: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SocietyError(f"{where} is not JSON. Write one object a line.") from error
        if not isinstance(row, dict):
            raise SocietyError(f"{where} is not an object. Write {{...}} on every line.")
        yield where, row


def _table(text: str, name: str) -> Rows:
    """The rows of a CSV file. Its first line names the columns, and shows what stands between them."""
    said = _SEPARATOR_LINE.match(text)
    between = said[1] if said else _between(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between)
    if said:
        next(reader)
    names: list[str] | None = None
    try:
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if names is None:
                names = _columns(row, where)
            elif row:
                yield where, dict(zip(names, _fitted(row, names, between, where), strict=False))
    except csv.Error as error:
        raise SocietyError(f"{name}, line {reader.line_num}: {error}.") from error
    if between != ",":
        log.warning(
            "%s: read with %s between its columns.", printable(name), _BETWEEN.get(between, repr(between))
        )


def _between(text: str) -> str:
    """What stands between the columns: the first sign by which the first line names a column that we know."""
    for sign in _BETWEEN:
        with suppress(csv.Error):
            first = next(
                (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=sign) if row), []
            )
            if not _QUESTION_NAMES.isdisjoint(map(_column, first)):
                return sign
    return ","


def _columns(row: list[str], where: str) -> list[str] | None:
    """The columns' names. Raises ``SocietyError`` if a question is under none of them."""
    if not row:
        return None
    names = list(map(_column, row))
    if _QUESTION_NAMES.isdisjoint(names):
        raise SocietyError(
            f"{where} has to name the columns, and none is called {' or '.join(_QUESTION_KEYS)}. It reads: "
            f"{one_line(', '.join(row), 80)}. Put the names above the rows, with a comma, a semicolon or a "
            "tab between them; or write one question a line into a .txt file."
        )
    return names


def _column(cell: str) -> str:
    return cell.strip().lower()


def _fitted(row: list[str], names: list[str], between: str, where: str) -> list[str]:
    """A row of no more fields than there are columns; where there is one column, all of the line is in it."""
    if len(row) <= len(names):
        return row
    if len(names) == 1:
        return [between.join(row)]
    raise SocietyError(
        f"{where} has {len(row)} fields for {len(names)} columns. Put texts that hold "
        f"{_BETWEEN.get(between, repr(between))} into double quotes."
    )


def _from_hub(source: str) -> Rows:
    parts = source.removeprefix(HUB_PREFIX).split(":")
    name, split, column = parts[0], (parts[1:] or ["train"])[0] or "train", (parts[2:] or [""])[0]
    if not name:
        raise SocietyError(f"'{source}' names no dataset. Write hf:NAME[:SPLIT[:COLUMN]].")
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The dataset '{name}'", "pip install 'social-sandbox[local]'") from error
    try:
        rows = load_dataset(name, split=split)
    except Exception as error:  # the library raises many kinds for a missing network, name or split
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise SocietyError(
            f"The dataset '{name}' (split '{split}') can't be loaded: {said[0].rstrip('.')}. "
            "Check its name and the network, or use a file."
        ) from error
    for number, row in enumerate(rows):
        yield f"{name}, row {number}", {"question": row.get(column)} if column else dict(row)


def _field(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if isinstance(value := row.get(name), str):
            return value
    raise SocietyError(f"{where} has no text called {' or '.join(names)}.")


def _existing(source: str, folder: Path | None) -> Path:
    path = Path(source)
    try:
        path = path.expanduser()
        path = path if path.is_absolute() or folder is None else folder / path
        found = path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, a folder that is closed, an unknown home
        found = False
    if not found:
        raise SocietyError(f"There is no file '{path}'. Check the path, or use '{BUNDLED}'.")
    return path


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SocietyError(f"'{path}' is larger than {MAX_BYTES // 1_000_000} MB. Split it.")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SocietyError(
            f"'{path}' is not UTF-8 text (byte {error.start}). Save it as UTF-8 (in a spreadsheet: as "
            "CSV UTF-8)."
        ) from error
    except OSError as error:
        raise SocietyError(f"'{path}' can't be read: {error.strerror}.") from error
    if text.count("\0") * 3 > len(text):  # every other byte: it has no mark at its beginning
        raise SocietyError(
            f"'{path}' is UTF-16 or the like. Save it as UTF-8 (in a spreadsheet: as CSV UTF-8)."
        )
    return text


def _bundled(name: str) -> str:
    return resources.files("sandbox.bundled").joinpath(name).read_text(encoding="utf-8")

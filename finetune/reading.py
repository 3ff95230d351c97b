"""Rows of files: JSON lines, a JSON list, either gzipped, or Parquet; one row is held at a time."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from sandbox.errors import UserError

_CHUNK = 1 << 16
_AT_ONCE = 64
"""Rows of Parquet that are read together."""


def read_rows(path: Path, on_bad: Callable[[str], None] | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file: JSON lines or a list, or gzipped; or Parquet. Raises ``UserError``.

    With ``on_bad``, lines and values that are no objects are left out and told to it, if another came before.
    """
    if path.suffix == ".parquet" or path.is_dir():
        yield from _parquet_rows(path)
        return
    try:
        with path.open("rb") as raw:
            is_zipped = raw.read(2) == b"\x1f\x8b"
        opened = gzip.open if is_zipped else open
        with opened(path, "rb") as data, io.TextIOWrapper(data, "utf-8-sig", newline="\n") as text:
            yield from _rows(path, text, on_bad)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UserError(f"{path} can't be read: {first_line(error)}.") from error


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _rows(path: Path, text: TextIO, on_bad: Callable[[str], None] | None) -> Iterator[dict[str, Any]]:
    begin, first = text.read(1), 1
    while begin.isspace():
        first += begin == "\n"
        begin = text.read(1)
    values = _listed(path, text) if begin == "[" else _lines(path, begin, text, first, on_bad)
    has_some = False
    for place, value in values:
        if isinstance(value, dict):
            has_some = True
            yield value
        elif on_bad is not None and has_some:
            on_bad("no JSON object")
        else:
            raise UserError(f"Line {place} of {path} is no JSON object.")


def _lines(
    path: Path, begin: str, text: TextIO, first: int, on_bad: Callable[[str], None] | None
) -> Iterator[tuple[int, Any]]:
    has_some = False
    for place, line in enumerate(itertools.chain([begin + text.readline()], text), first):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if on_bad is not None and has_some:
                on_bad("no JSON")
                continue
            raise UserError(f"Line {place} of {path} is no JSON: {first_line(error)}.") from error
        has_some = True
        yield place, value


def _listed(path: Path, text: TextIO) -> Iterator[tuple[int, Any]]:
    """The values of a JSON list whose bracket has been read, each as soon as all of it is there."""
    decoder = json.JSONDecoder()
    waiting, wanted, place, is_over = "", _CHUNK, 0, False
    while True:
        if not is_over and len(waiting) < wanted:
            more = text.read(wanted)
            waiting, is_over = waiting + more, not more
        waiting = waiting.lstrip(" \t\r\n")
        if waiting[:1] == "]":
            if (waiting[1:] + text.read()).strip():
                raise UserError(f"{path} is no JSON: something follows its list.")
            return
        start = 1 if place and waiting[:1] == "," else 0
        while waiting[start : start + 1].isspace():
            start += 1
        try:
            if place and not start:
                raise ValueError("a comma is missing between two values")
            value, end = decoder.raw_decode(waiting, start)
            if end == len(waiting) and not is_over:  # a number may go on
                raise ValueError("the value is not over")
        except (ValueError, RecursionError) as error:
            if is_over or isinstance(error, RecursionError):
                raise UserError(f"{path} is no JSON: {first_line(error)}.") from error
            wanted = max(2 * len(waiting), _CHUNK)
            continue
        place += 1
        yield place, value
        waiting, wanted = waiting[end:], _CHUNK


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"There is no Parquet file in {path}.")
    for file in files:
        try:
            with parquet.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=_AT_ONCE):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{file} can't be read: {first_line(error)}.") from error

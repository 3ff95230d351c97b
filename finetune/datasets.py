"""Datasets on disk: a folder with the rows, what they are, and the digest that names them.

::

    NAME/train.jsonl    one group a line
    NAME/heldout.jsonl  the groups held out, where there are any
    NAME/card.json      how it was made, the report, the digest of the rows

A folder is written beside its place, and moved there whole. It knows no database.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetune.groups import Group
from finetune.selecting import Parts, Report
from sandbox.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CARD = "card.json"
_FILES = {"train": "train.jsonl", "heldout": "heldout.jsonl"}


class Card(BaseModel):
    """What a dataset is. ``made`` are the options it was built or imported with."""

    model_config = ConfigDict(frozen=True)
    name: str = Field(pattern=f"^{NAME.pattern}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime
    sessions: tuple[str, ...] = ()
    people: int = 0
    consents: tuple[str, ...] = ()
    licence: str = ""
    made: dict[str, Any] = {}
    report: Report


class Dataset(NamedTuple):
    """A dataset that was read."""

    card: Card
    parts: Parts
    folder: Path


def require_name(name: str, what: str = "dataset") -> str:
    """``name``, if it can be one. Raises ``UserError``."""
    if not NAME.fullmatch(name):
        article = "An" if what[0] in "aeiou" else "A"
        raise UserError(
            f"{article} {what} can't be called '{name}'. Use letters, digits, '.', '_' and '-', and begin "
            "with a letter or digit."
        )
    return name


def digest(parts: Parts) -> str:
    """The SHA-256 of the rows, as they are written, held-out ones after a blank line."""
    whole = hashlib.sha256()
    for part in parts:
        for group in part:
            whole.update(_line(group).encode())
        whole.update(b"\n")
    return whole.hexdigest()


def write(folder: Path, parts: Parts, report: Report, **about: Any) -> Card:
    """Write a dataset into ``folder``, whole or not at all. Raises ``UserError`` if there is one already."""
    if folder.exists():
        raise UserError(f"There is a dataset '{folder.name}' already. Choose another --name, or delete it.")
    card = Card(name=folder.name, digest=digest(parts), created=datetime.now(UTC), report=report, **about)
    with building(folder) as workshop:
        for part, name in zip(parts, _FILES.values(), strict=True):
            if part or name == _FILES["train"]:
                (workshop / name).write_text("".join(map(_line, part)), "utf-8")
        (workshop / _CARD).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")
    return card


def read(folder: Path) -> Dataset:
    """The dataset in a folder. Raises ``UserError`` if there is none, or its rows changed."""
    if not (folder / _CARD).is_file():
        raise UserError(
            f"There is no dataset in {folder}. List them with: sandbox dataset list; or make one with: "
            "sandbox dataset build SESSION --name NAME"
        )
    try:
        card = Card.model_validate_json((folder / _CARD).read_bytes())
        parts = Parts(*(list(_groups(folder / name)) for name in _FILES.values()))
    except (ValidationError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"The dataset in {folder} can't be read: {_first(error)}. Build it anew.") from error
    if digest(parts) != card.digest:
        raise UserError(
            f"The rows of the dataset in {folder} have been changed since it was made. Build it anew, or "
            "import the changed rows: sandbox dataset import FILE --format groups --name NAME"
        )
    return Dataset(card, parts, folder)


def remove(folder: Path, name: str, card: str = _CARD) -> None:
    """Remove a dataset's or adapter's folder; only if its card has that name. Raises ``UserError``."""
    try:
        known = json.loads((folder / card).read_text("utf-8")).get("name")
    except (OSError, ValueError, AttributeError):
        known = None
    if known != name or folder.is_symlink():
        raise UserError(f"The folder {folder} is not that of '{name}' (see its {card}). Remove it by hand.")
    try:
        doomed = Path(tempfile.mkdtemp(prefix=".deleted-", dir=folder.parent))
        folder.rename(doomed / "it")
        shutil.rmtree(doomed)
    except OSError as error:
        raise UserError(f"{folder} can't be removed: {error.strerror}.") from error


class building:  # noqa: N801 - used like a function
    """A folder to fill, moved to ``place`` at the end, or removed if anything fails."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> Path:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._workshop = Path(tempfile.mkdtemp(prefix=f".{self._place.name}-", dir=self._place.parent))
        return self._workshop

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self._workshop, ignore_errors=True)
            return
        mode = _usual_mode(self._workshop)  # some libraries write files for their owner alone
        for path in (*sorted(self._workshop.rglob("*")), self._workshop):
            path.chmod(mode if path.is_dir() else mode & 0o666)
            _sync(path)
        try:
            self._workshop.rename(self._place)
        except OSError as failure:
            shutil.rmtree(self._workshop, ignore_errors=True)
            raise UserError(f"{self._place} can't be made: {failure.strerror}.") from failure
        _sync(self._place.parent)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file: JSON lines or a list, or gzipped; or Parquet. Raises ``UserError``."""
    import gzip
    import zlib

    try:
        if path.suffix == ".parquet" or path.is_dir():
            yield from _parquet_rows(path)
            return
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise UserError(f"{path} can't be read: {_first(error)}.") from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is no JSON: {_first(error)}.") from error
    else:
        rows = text.split("\n")
    for place, row in enumerate(rows, 1):
        if isinstance(row, str) and not row.strip():
            continue
        try:
            value = json.loads(row) if isinstance(row, str) else row
        except (ValueError, RecursionError) as error:
            raise UserError(f"Line {place} of {path} is no JSON: {_first(error)}.") from error
        if not isinstance(value, dict):
            raise UserError(f"Line {place} of {path} is no JSON object.")
        yield value


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"There is no Parquet file in {path}.")
    for file in files:
        try:
            yield from parquet.read_table(file).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{file} can't be read: {_first(error)}.") from error


def _line(group: Group) -> str:
    return group.model_dump_json() + "\n"


def _groups(path: Path) -> Iterable[Group]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            yield Group.model_validate_json(line)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _usual_mode(folder: Path) -> int:
    """The mode of a new folder there, as the user's mask has it."""
    probe = folder / ".mode"
    probe.mkdir()
    mode = probe.stat().st_mode & 0o777
    probe.rmdir()
    return mode


def _sync(path: Path) -> None:
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) if path.is_dir() else os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

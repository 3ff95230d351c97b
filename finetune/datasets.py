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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from finetune.groups import Group
from finetune.reading import first_line
from finetune.selecting import Parts, Report, Reporter
from sandbox.errors import UserError
from sandbox.output import make_folder

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
    parts: Parts[Group]
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


class _Digest:
    """The SHA-256 of the rows, as they are written, and after each part a blank line."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()

    def lines(self, groups: Iterable[Group]) -> Iterator[bytes]:
        """The lines of a part."""
        for group in groups:
            line = _line(group).encode()
            self._whole.update(line)
            yield line
        self._whole.update(b"\n")

    def __str__(self) -> str:
        return self._whole.hexdigest()


def write(
    folder: Path, parts: tuple[Iterable[Group], Iterable[Group]], dropped: Counter[str], **about: Any
) -> Card:
    """Write a dataset into ``folder``, whole or not at all; of its groups, one at a time is held.

    Raises ``UserError`` if there is one already.
    """
    if folder.exists():
        raise UserError(f"There is a dataset '{folder.name}' already. Choose another --name, or delete it.")
    digest, reporter = _Digest(), Reporter()
    with building(folder) as workshop:
        for (part, name), groups in zip(_FILES.items(), parts, strict=True):
            with (workshop / name).open("wb") as file:
                file.writelines(digest.lines(reporter.watch(part, groups)))
                empty = file.tell() == 0
            if empty and part != "train":
                (workshop / name).unlink()
        card = Card(
            name=folder.name,
            digest=str(digest),
            created=datetime.now(UTC),
            report=reporter.report(dropped),
            **about,
        )
        (workshop / _CARD).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")
    return card


def read(folder: Path) -> Dataset:
    """The dataset in a folder. Raises ``UserError`` if there is none, or its rows changed."""
    parts: Parts[Group] = Parts([], [])
    card = check(folder, lambda part, group: getattr(parts, part).append(group))
    return Dataset(card, parts, folder)


def read_card(folder: Path) -> Card:
    """The card of the dataset in a folder. Raises ``UserError`` if there is none."""
    if not (folder / _CARD).is_file():
        raise UserError(
            f"There is no dataset in {folder}. List them with: sandbox dataset list; or make one with: "
            "sandbox dataset build SESSION --name NAME"
        )
    try:
        return Card.model_validate_json((folder / _CARD).read_bytes())
    except ValueError as error:
        raise _unreadable(folder, error) from error


def check(folder: Path, take: Callable[[str, Group], None]) -> Card:
    """Give all groups of a dataset to ``take``, one by one, with the part that each is in.

    Raises ``UserError`` if there is no dataset, or its rows changed.
    """
    card, digest = read_card(folder), _Digest()
    try:
        for part, name in _FILES.items():
            for _ in digest.lines(_given(part, _groups(folder / name), take)):
                pass
    except ValueError as error:
        raise _unreadable(folder, error) from error
    if str(digest) != card.digest:
        raise UserError(
            f"The rows of the dataset in {folder} have been changed since it was made. Build it anew, or "
            "import the changed rows: sandbox dataset import FILE --format groups --name NAME"
        )
    return card


def read_row(folder: Path, number: int) -> Group:
    """One group of a dataset, from 1, held-out ones after the others; no other is parsed, or kept.

    Raises ``UserError`` if there is none of that number.
    """
    place = 0
    for name in _FILES.values():
        if not (folder / name).is_file():
            continue
        with (folder / name).open("rb") as file:
            for line in file:
                place += 1
                if place == number:
                    try:
                        return Group.model_validate_json(line)
                    except ValueError as error:
                        raise _unreadable(folder, error) from error
    raise UserError(f"The dataset {folder.name} has the rows 1 to {place}.")


def _given(part: str, groups: Iterable[Group], take: Callable[[str, Group], None]) -> Iterator[Group]:
    for group in groups:
        take(part, group)
        yield group


def _unreadable(folder: Path, error: ValueError) -> UserError:
    return UserError(f"The dataset in {folder} can't be read: {first_line(error)}. Build it anew.")


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
        make_folder(self._place.parent)
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


def _line(group: Group) -> str:
    return group.model_dump_json() + "\n"


def _groups(path: Path) -> Iterable[Group]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            yield Group.model_validate_json(line)


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

"""Where a command writes what it was asked to write: ``--out``, of every command that has it.

A regular file appears whole or not at all. What stands at the path stays what it is: a link still
points where it did, and a device, a pipe or standard output takes the bytes as they come.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from sandbox.errors import UserError


@contextmanager
def writing(target: Path, mode: Literal["text", "bytes"] = "text") -> Iterator[IO[Any]]:
    """A file object whose contents become those of ``target``; ``-`` is standard output.

    Raises ``UserError`` if ``target`` is a folder or can't be written; it then is as it was before.
    """
    try:
        found = _stat(target)
        if str(target) == "-":
            yield sys.stdout if mode == "text" else sys.stdout.buffer
            sys.stdout.flush()
            return
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise UserError(f"'{target}' is a folder. Name a file in it.")
        if found is not None and _is_standard_output(found):
            yield sys.stdout if mode == "text" else sys.stdout.buffer
            sys.stdout.flush()
        elif found is not None and not stat.S_ISREG(found.st_mode):
            with _opened(target, mode) as stream:
                yield stream
        else:
            with _replacing(target.resolve(), found, mode) as file:
                yield file
    except BrokenPipeError:  # who reads it has had enough
        raise
    except OSError as error:
        raise UserError(f"'{target}' can't be written: {error.strerror or error}.") from error


def write_text(target: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises ``UserError``."""
    with writing(target) as file:
        file.write(text)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it. Raises ``UserError`` if something else stands there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"'{folder}' is not a folder. Name another.") from error
    except OSError as error:
        raise UserError(f"The folder '{folder}' can't be made: {error.strerror}.") from error


@contextmanager
def _replacing(target: Path, found: os.stat_result | None, mode: str) -> Iterator[IO[Any]]:
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.part")
    try:
        with _opened(part, mode, "x") as file:
            if found is not None:
                part.chmod(stat.S_IMODE(found.st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _opened(path: Path, mode: str, how: str = "w") -> IO[Any]:
    return path.open(f"{how}b") if mode == "bytes" else path.open(how, encoding="utf-8", newline="")


def _stat(path: Path) -> os.stat_result | None:
    """What the path leads to; None if nothing is there yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_standard_output(found: os.stat_result) -> bool:
    """Whether it is where standard output goes: written over, what came before would be lost."""
    try:
        return os.path.samestat(found, os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # closed, or replaced by an object without one
        return False

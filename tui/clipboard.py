"""Copying a text, and telling the truth about it.

On this machine a clipboard program takes it. From afar the terminal is asked (OSC 52), and whether it
complied can't be known; so the text is kept in a file as well.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

# Never through a link that another user put there, and no waiting for the reader of a pipe.
_NOT_ANOTHERS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PROGRAMS = (
    ("pbcopy",),
    ("wl-copy",),
    ("xclip", "-selection", "clipboard"),
    ("xsel", "--clipboard", "--input"),
    ("clip.exe",),
)


async def copy(
    text: str, ask_terminal: Callable[[str], None], environment: Mapping[str, str] = os.environ
) -> str:
    """Copy a text, and return what became of it."""
    if "SSH_CONNECTION" not in environment and "SSH_TTY" not in environment:
        for program in _PROGRAMS:
            if shutil.which(program[0]) and await _given_to(program, text):
                return f"Copied {len(text):,} characters."
    file = (
        Path(tempfile.gettempdir()) / f"sandbox-copied-{os.getuid() if hasattr(os, 'getuid') else 'text'}.txt"
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NOT_ANOTHERS, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as kept:
            kept.write(text)
        kept_at = f" It is in {file}, too."
    except OSError:
        kept_at = ""
    ask_terminal(text)
    return f"Handed {len(text):,} characters to the terminal, which may not take them.{kept_at}"


async def _given_to(program: tuple[str, ...], text: str) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.wait_for(process.communicate(text.encode("utf-8", "replace")), 2)
    except (OSError, TimeoutError):
        return False
    return process.returncode == 0

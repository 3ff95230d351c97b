"""Lines from the person at the keyboard, without keeping the event loop or Ctrl-C waiting."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from sandbox.text import is_blank


async def prompted(prompt: str) -> AsyncIterator[str]:
    """The lines that are typed, until an empty one or the end; bytes that are no UTF-8 become U+FFFD."""
    rest = b""
    while True:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        while b"\n" not in rest:
            piece = await _read(sys.stdin.fileno())
            if not piece:
                break
            rest += piece
        line, _, rest = rest.partition(b"\n")
        text = line.decode("utf-8", errors="replace").strip()
        if is_blank(text):
            return
        yield text


async def _read(file: int) -> bytes:
    """What can be read next; empty at the end.

    A cancelled read takes nothing, but where a thread has to wait for it: there the next line goes with it.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(file, wake)
    except (NotImplementedError, PermissionError):  # Windows, or a plain file, which is always ready
        return await asyncio.to_thread(os.read, file, 65_536)
    try:
        await ready
    finally:
        loop.remove_reader(file)
    return os.read(file, 65_536)

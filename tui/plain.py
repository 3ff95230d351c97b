"""A session as lines of text or JSON: for pipes, logs, screen readers and programs. No Textual in it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TextIO

from sandbox.text import one_line, printable
from server.wire import frames as fr
from tui.api import Unreachable
from tui.lines import line
from tui.live import Connected, Ended, Item, Lost


async def as_text(items: AsyncGenerator[Item, None], out: TextIO | None = None) -> None:
    """One line an event, as they come; what happens to the connection is said after a ``#``."""
    out = out or sys.stdout
    away = False
    async with aclosing(items):
        async for item in items:
            match item:
                case fr.EventFrame():
                    told = line(item.data.event, masked=item.data.masked)
                    words = " ".join(printable(f"{told.who} {told.what}").split())
                    _say(out, f"{item.seq} {item.ts:%H:%M:%S} {words}")
                case fr.SnapshotFrame(data=view):
                    _say(
                        out,
                        f"# {printable(view.session)}: {one_line(view.name, 100)}, {view.status}, "
                        f"round {view.round} of {view.rounds}, {len(view.seats)} seats",
                    )
                case fr.ResyncFrame(data=again):
                    _say(out, f"# some events are left out here: going on from event {again.snapshot.seq}")
                case fr.GoneFrame():
                    _say(out, "# the session was deleted")
                case Lost(why=why):
                    if not away:
                        _say(
                            out,
                            f"# the server is gone: {printable(why)} Trying again until it is back.",
                        )
                    away = True
                case Connected():
                    if away:
                        _say(out, "# the server is back")
                    away = False
                case Ended(why=why, code=code):
                    _raise(code, why)
                case _:
                    pass


async def as_json(items: AsyncGenerator[Item, None], out: TextIO | None = None) -> None:
    """One JSON object a line: the server's frames, and ``{"type": "connection", …}`` between them."""
    out = out or sys.stdout
    async with aclosing(items):
        async for item in items:
            match item:
                case Connected():
                    _say(out, json.dumps({"type": "connection", "state": "connected"}))
                case Lost(why=why, wait_s=wait):
                    _say(out, json.dumps({"type": "connection", "state": "lost", "why": why, "wait_s": wait}))
                case Ended(why=why, code=code):
                    _say(out, json.dumps({"type": "connection", "state": "ended", "why": why, "code": code}))
                    _raise(code, why)
                case _:
                    _say(out, item.model_dump_json(exclude_defaults=False))


def _say(out: TextIO, text: str) -> None:
    out.write(f"{text}\n")
    out.flush()


def _raise(code: int, why: str) -> None:
    if code != fr.Close.DELETED:
        raise Unreachable(printable(why))

"""Which scope a command needs."""

from __future__ import annotations

from server.wire import commands as do
from server.wire.views import Scope

SCOPE_OF: dict[str, Scope] = {
    "start": "run",
    "step": "run",
    "pause": "run",
    "stop": "run",
    "change_model": "run",
    "roll_back_model": "run",
    "change_rubric": "run",
    "add_seat": "run",
    "judge": "ask",
    "ask": "ask",
    "say": "join",
    "rate": "join",
    "react": "join",
    "take": "join",
    "leave": "join",
    "answer": "join",
    "skip": "join",
}


def scope_of(command: do.Command) -> Scope:
    """The scope that carrying out a command needs."""
    if isinstance(command, do.Leave) and command.force:
        return "run"
    return SCOPE_OF[command.do]

"""Whether a process of this machine still runs: its number alone does not say so.

A process that has ended keeps its number until its parent asks for it (a zombie; in a container without an
init nobody does), and a number is given away again. So a process is known by its number and when it began.
"""

from __future__ import annotations

import os

import psutil

_APART_S = 1.0
"""When a process began is told to the hundredth, and shifts a little when the clock is set."""


def began() -> float:
    """When this process began, in seconds since 1970."""
    return float(psutil.Process(os.getpid()).create_time())


def is_running(pid: int, since: float | None = None) -> bool:
    """Whether a process runs that has this number, and began ``since`` then, if that is known."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return since is None or abs(process.create_time() - since) < _APART_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True

"""What the measurements share."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

TINY = "SANDBOX_BENCHMARKS_TINY"


def size(full: int, tiny: int) -> int:
    """How much to measure: ``tiny`` where it only has to be shown that a benchmark runs (the tests)."""
    return tiny if os.environ.get(TINY) else full


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """The median with the lowest and highest."""
    return f"{median(values):,.1f} ({min(values):,.1f}–{max(values):,.1f})"


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def written_bytes() -> int | None:
    """Bytes this process has written so far, as Linux counts them; None elsewhere."""
    try:
        with open("/proc/self/io") as file:  # noqa: PTH123 - not a path of ours
            return next(int(line.split()[1]) for line in file if line.startswith("wchar"))
    except OSError:
        return None


def apart(module: str, *arguments: object) -> dict[str, Any]:
    """What a benchmark's module prints last, as JSON, in a process of its own: its memory is no other's."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr[-2000:])
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found

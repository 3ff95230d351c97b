"""``python -m benchmarks [--tiny] [NAME…]``: every measurement, or those named, each in its own process.

``--tiny`` shows that each runs, in seconds; its figures mean nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import TINY

NAMES = (
    "startup",
    "engine",
    "providers",
    "generation",
    "fanout",
    "terminal",
    "finetune",
    "scoring",
    "importing",
)


def main() -> int:
    tiny = "--tiny" in sys.argv[1:]
    chosen = [name for name in sys.argv[1:] if name != "--tiny"] or list(NAMES)
    environment = {**os.environ, TINY: "1"} if tiny else dict(os.environ)
    if unknown := sorted(set(chosen) - set(NAMES)):
        print(f"There is no measurement {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
        return 2
    codes = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        program = [sys.executable, "-m", f"benchmarks.{name}"]
        codes.append(subprocess.run(program, env=environment, check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

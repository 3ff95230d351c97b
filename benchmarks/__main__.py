"""``python -m benchmarks [NAME…]``: every measurement, or those named, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("startup", "engine", "providers", "generation", "fanout", "terminal", "finetune", "scoring")


def main() -> int:
    chosen = sys.argv[1:] or list(NAMES)
    if unknown := sorted(set(chosen) - set(NAMES)):
        print(f"There is no measurement {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
        return 2
    codes = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

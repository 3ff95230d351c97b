"""How long ``sandbox --help`` takes, beside a bare interpreter and one that imports click."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.measure import median, size, spread

REPEATS = size(11, 1)
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import click'": ["-c", "import click"],
    "sandbox --help": ["-m", "sandbox.cli", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """The time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(REPEATS):
        for name, arguments in PROGRAMS.items():
            times[name].append(seconds(arguments) * 1000)
    for name, values in times.items():
        print(f"{name:28} {spread(values)} ms")
    ours, bare = median(times["sandbox --help"]), median(times["python -c 'import click'"])
    print(f"ratio to importing click: {ours / bare:.2f}; reach: below 300 ms")


if __name__ == "__main__":
    main()

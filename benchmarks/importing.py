"""The memory that ``dataset import`` takes beside the size of its file, and how long a row takes.

Each way runs in a process of its own, on pairs with scores, long and short; every tenth prompt comes twice.
``whole`` is what a simple program does: read the whole file, then make groups of it. What is told is the
growth of the process over what it held before the file was opened.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.measure import apart, peak_memory_mb, size

LENGTHS = {"long": (size(60_000, 300), 80), "short": (size(200_000, 300), 4)}
"""How many rows, and how many times a phrase comes in each reply."""
WAYS = ("lines", "list", "whole")


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (rows, words) in LENGTHS.items():
            for way in WAYS:
                file = Path(folder) / f"{name}.json"
                _write(file, rows, words, is_list=way == "list")
                found = apart("benchmarks.importing", way, file)
                megabytes = file.stat().st_size / 1e6
                print(
                    f"{name:<5} {way:<5} {rows:,} rows, {megabytes:,.0f} MB: "
                    f"{found['memory'] / megabytes:.2f} times the file, "
                    f"{found['seconds'] * 1e6 / rows:,.0f} µs a row, {found['groups']:,} groups",
                    flush=True,
                )
    return 0


def _write(file: Path, rows: int, words: int, *, is_list: bool) -> None:
    with file.open("w", encoding="utf-8") as out:
        for number in range(rows):
            asked = number - 1 if number % 10 == 9 else number
            row = {
                "prompt": f"question {asked} " * (words // 2),
                "chosen": f"better {number} " * words,
                "rejected": f"worse {number} " * words,
                "score_chosen": 6,
                "score_rejected": 2,
            }
            out.write(f"{'[,'[number > 0] if is_list else ''}{json.dumps(row)}\n")
        out.write("]" if is_list else "")


def measure(way: str, file: Path) -> None:
    """One way, in this process."""
    from finetune import datasets, formats
    from finetune.intake import Intake
    from finetune.reading import read_rows
    from finetune.rows import Pairing
    from finetune.selecting import parted

    before, start = peak_memory_mb(), time.monotonic()
    place, notes = file.parent / f"{file.stem}-{way}", Counter[str]()
    if way == "whole":
        rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
        groups = formats.read("preference", rows, Pairing(), notes)
        card = datasets.write(place, parted(groups, 0.1, 0), notes)
    else:
        with Intake(file.parent) as intake:
            intake.take("preference", read_rows(file), Pairing(), notes, strict=False)
            train, heldout = parted(intake.sketches, 0.1, 0)
            card = datasets.write(place, (intake.groups(train), intake.groups(heldout)), notes)
    told = {"memory": peak_memory_mb() - before, "seconds": time.monotonic() - start}
    print(json.dumps(told | {"groups": card.report.train + card.report.heldout}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]))
        sys.exit(0)
    sys.exit(main())

"""Every benchmark runs from beginning to end, with sizes at which its figures mean nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_to_its_end(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", name],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-1000:] + ended.stderr[-3000:]
    assert len(ended.stdout.splitlines()) > 2, "it prints what it measured"


def test_every_benchmark_that_there_is_is_run() -> None:
    from pathlib import Path

    folder = Path(__file__).parent.parent / "benchmarks"
    programs = {path.stem for path in folder.glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}
    assert programs - {"__main__"} == set(NAMES)


def test_an_unknown_name_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "nothing"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "startup" in ended.stdout

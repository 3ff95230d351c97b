"""``sandbox monitor``: read by people in a narrow terminal, by programs, and while a session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest
from support import Run, lines, session_of, small_society

from sandbox import events as ev
from sandbox.errors import SessionError
from sandbox.figures import interval, tables, trend
from sandbox.monitored import Inflation, Measured, Monitors, RoundMean, Severity
from sandbox.running import Store
from sandbox.store import following, sessions

PROGRAM = "import sys; from sandbox.cli import main; main(sys.argv[1:])"


def test_a_narrow_terminal_shows_every_figure_whole(sandbox: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    key = session_of(sandbox, "--rounds", "3", "--seats", "4x4")
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = sandbox("monitor")
    assert (code, err) == (0, "")
    assert out.startswith(f"{key}, ")
    for title in ("Ratings by round", "Wording by round", "Severity", "Agreement"):
        assert title in out
    assert "peers, of drafts" in out
    assert "engagement, of revisions" in out
    assert "similarity" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out, "nothing is cut"


def test_programs_get_one_line_of_json(sandbox: Run) -> None:
    key = session_of(sandbox)
    (told,) = lines(sandbox("monitor", key[:-1], "--json")[1])
    assert told.pop("session") == key
    assert told.pop("events") > 0  # type: ignore[operator]
    assert Monitors.model_validate(told).inflation[0].name == "peers"


def test_what_can_not_be_monitored_is_told(sandbox: Run) -> None:
    code, _, err = sandbox("monitor", "nothing")
    assert code != 0
    assert "There is no session 'nothing'" in err
    assert sandbox("monitor", "last")[0] != 0
    assert "No such option" in sandbox("monitor", "--fast")[2]


def test_a_session_without_words_says_so(sandbox: Run, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "empty.db"))
    sessions.create(store.database, store.log, small_society())
    store.close()
    code, out, _ = sandbox("monitor", "--db", str(tmp_path / "empty.db"))
    assert code == 0
    assert "Nothing has been said or rated in it yet" in out


def test_it_follows_a_session_until_it_is_told_to_stop(sandbox: Run, tmp_path: Path) -> None:
    key = session_of(sandbox)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "monitor", key, "--follow", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    told: SimpleQueue[str] = SimpleQueue()
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: [told.put(line) for line in process.stdout or ()], daemon=True)
    reader.start()
    try:
        (first,) = lines(told.get(timeout=60))
        assert sandbox("resume", key, "--rounds", "2")[0] == 0
        head = first["events"]
        while True:
            (next_,) = lines(told.get(timeout=60))
            assert next_["events"] > head, "it is silent while nothing happens"
            head = next_["events"]
            if len(next_["homogeneity"]["series"]) == 2:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 130
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()


def test_whoever_follows_is_woken_by_what_is_written_and_told_of_the_end(store: Store) -> None:
    handle = sessions.create(store.database, store.log, small_society())
    heads = following.heads(store.database, handle.key, 0, look_s=0.05)
    assert next(heads) == 1
    finished = ev.RunFinished()
    threading.Timer(0.3, lambda: store.log.append_now(handle, [finished, finished])).start()
    assert next(heads) == 3
    sessions.release(store.database, handle)
    sessions.delete(store.database, handle.key)
    with pytest.raises(SessionError, match="was deleted"):
        next(heads)


def test_no_more_raters_are_shown_than_can_be_read() -> None:
    raters = tuple(
        Severity(rater=f"S{n}", is_person=False, n=5, severity=Measured(value=float(n))) for n in range(30)
    )
    figures = {one.title: one for one in tables(Monitors(severity=raters))}
    shown = [row[0] for row in figures["Severity"].rows]
    assert shown == ["S0", "S1", "S2", "S3", "S4", "S25", "S26", "S27", "S28", "S29"]
    assert "20 raters between these are left out" in figures["Severity"].explained
    assert not figures["Unparsed"].rows


def test_a_trend_is_drawn_from_its_least_to_its_greatest() -> None:
    assert trend([1, 2, 3]) == "▁▅█"
    assert trend([2, None, 2]) == "▄▄▄"
    assert trend([3]) == ""
    assert len(trend(list(range(40)))) == 12
    assert interval(None) == interval(Measured(value=1.0)) == "–"
    assert interval(Measured(value=1.0, low=0.5, high=1.25)) == "0.50 to 1.25"


def test_a_rising_slope_says_so_in_words() -> None:
    rising = Inflation(
        name="peers",
        raters="peers",
        series=(RoundMean(round=1, n=2, mean=3.0), RoundMean(round=2, n=2, mean=4.0)),
        slope=Measured(value=1.0, low=0.5, high=1.5),
        inflated=True,
    )
    (row,) = tables(Monitors(inflation=(rising,)))[0].rows
    assert row == ("peers, of drafts", "3.00", "4.00", "+1.00", "0.50 to 1.50", "rising", "▁█")

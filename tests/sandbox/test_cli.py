"""The command line, as people and programs use it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, Run, lines, session_of


def test_help_names_every_command_and_loads_no_heavy_library() -> None:
    program = (
        "import sys; from sandbox.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'litellm', 'transformers', 'sqlmodel', 'pydantic', 'numpy', 'rich'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for name in ("init", "run", "resume", "ask", "chat", "rate", "sessions", "monitor", "doctor"):
        assert f"  {name} " in said
    assert "LOADED []" in said


def test_a_scripted_run_loads_neither_torch_nor_litellm(tmp_path: Path) -> None:
    program = (
        "import sys; from sandbox.cli import main\n"
        "try: main(['run', 'scripted', '--seats', '2x2', '--rounds', '1'])\nexcept SystemExit: pass\n"
        "print('LOADED', sorted({'torch', 'litellm', 'transformers', 'aiohttp'} & set(sys.modules)))"
    )
    environment = os.environ | {"SANDBOX_DATA_DIR": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert "LOADED []" in said


def test_a_run_ends_with_table_totals_place_and_what_to_try_next(sandbox: Run) -> None:
    code, out, _ = sandbox("run", "scripted", *SMALL)
    assert code == 0
    for part in ("draft → revision", "alignment", "engagement", "unparsed", "A1", "B2"):
        assert part in out
    assert "4 interactions, 32 calls" in out
    assert "sandbox.db" in out
    tried = out.split("Try next:")[1].strip().splitlines()
    assert len(tried) == 3
    for command in tried:
        import shlex

        words = shlex.split(command)
        assert words[0].endswith("sandbox")
        assert sandbox(*words[1:])[0] == 0, command


def test_json_prints_every_event_and_nothing_else(sandbox: Run) -> None:
    code, out, _ = sandbox("run", "scripted", *SMALL, "--json")
    events = lines(out)
    assert code == 0
    assert [event["seq"] for event in events] == list(range(2, len(events) + 2))
    assert events[-1]["event"] == {"type": "run_finished"}


def test_init_writes_a_file_that_runs_and_keeps_an_existing_one(sandbox: Run) -> None:
    assert sandbox("init")[0] == 0
    code, _, err = sandbox("init")
    assert code == 2
    assert "--force" in err
    code, out, err = sandbox("run", "society.toml", *SMALL, "--model", "scripted/steady")
    assert code == 0, err
    assert "village" in out


def test_a_finished_session_can_be_prolonged(sandbox: Run) -> None:
    key = session_of(sandbox)
    code, _, err = sandbox("resume", key)
    assert (code, "is finished" in err) == (2, True)
    assert sandbox("resume", key, "--rounds", "2")[0] == 0
    shown = lines(sandbox("sessions", "show", key, "--json")[1])[0]
    assert (shown["round"], shown["status"]) == (2, "finished")
    assert len(shown["interactions"]) == 8  # type: ignore[arg-type]


def test_one_interaction_is_shown_in_full(sandbox: Run) -> None:
    key = session_of(sandbox)
    code, out, _ = sandbox("sessions", "show", key, "--interaction", "1")
    assert code == 0
    assert "[1.draft]" in out
    assert "[1.revision]" in out
    assert "observer: alignment" in out
    assert sandbox("sessions", "show", key, "--interaction", "99")[0] == 2


@pytest.mark.parametrize(
    "what", ["events", "interactions", "messages", "ratings", "calls", "seats", "rubrics"]
)
def test_every_export_has_the_same_rows_in_every_format(sandbox: Run, tmp_path: Path, what: str) -> None:
    from pyarrow import parquet

    key = session_of(sandbox)
    rows = lines(sandbox("sessions", "export", key, "--what", what)[1])
    table = list(
        csv.DictReader(io.StringIO(sandbox("sessions", "export", key, "--what", what, "--format", "csv")[1]))
    )
    path = tmp_path / "out.parquet"
    assert (
        sandbox("sessions", "export", key, "--what", what, "--format", "parquet", "--out", str(path))[0] == 0
    )
    columns = parquet.read_table(path).to_pylist()
    assert len(rows) == len(table) == len(columns) > 0
    assert list(rows[0]) == list(table[0]) == list(columns[0])
    plain = [name for name in rows[0] if not isinstance(rows[0][name], dict | list)]
    for row, line, record in zip(rows, table, columns, strict=True):
        for name in plain:
            assert record[name] == row[name]
            assert line[name] == ("" if row[name] is None else str(row[name]))


def test_an_exported_log_reads_back_as_the_same_events(sandbox: Run) -> None:
    from sandbox.events import load

    key = session_of(sandbox)
    exported = lines(sandbox("sessions", "export", key)[1])
    run = lines(sandbox("sessions", "replay", key, "--speed", "0", "--json")[1])
    assert [load(json.dumps(line["event"])).model_dump(mode="json") for line in exported] == [
        line["event"] for line in run
    ]


def test_replay_keeps_the_time_and_can_begin_anywhere(sandbox: Run) -> None:
    key = session_of(sandbox)
    out = sandbox("sessions", "replay", key, "--speed", "0", "--from", "2")[1]
    assert out.splitlines()[0].split()[0] == "3"
    assert "is asked:" in out
    assert "alignment" in out


def test_a_fork_is_resumed_like_any_session(sandbox: Run) -> None:
    key = session_of(sandbox)
    forked = str(
        lines(sandbox("sessions", "fork", key, "--at", "9", "--seed", "5", "--json")[1])[0]["session"]
    )
    assert sandbox("resume", forked)[0] == 0
    listed = lines(sandbox("sessions", "list", "--json")[1])
    assert (listed[0]["parent"], listed[0]["parent_seq"], listed[0]["seed"]) == (key, 9, 5)


def test_a_deleted_session_is_gone(sandbox: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    key = session_of(sandbox)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = sandbox("sessions", "delete", key)
    assert (code, "nobody said yes. Programs say --yes" in err) == (2, True)
    assert sandbox("sessions", "delete", key, "--yes")[0] == 0
    code, _, err = sandbox("sessions", "show", key)
    assert (code, "There is no session" in err) == (2, True)


def test_a_question_to_the_society_shows_draft_ratings_and_revision(sandbox: Run) -> None:
    code, out, _ = sandbox("ask", "May I?", "--society", "--seat", "B2", "--in", "scripted")
    assert code == 0
    for part in ("B2, draft:", "rates it", "B2, revision:", "observers: alignment"):
        assert part in out


def test_a_question_to_a_stored_session_is_kept_there(sandbox: Run) -> None:
    key = session_of(sandbox)
    assert sandbox("ask", "May I?", "--seat", "A2", "--in", key)[0] == 0
    shown = lines(sandbox("sessions", "show", key, "--json")[1])[0]["interactions"]
    assert shown[-1]["kind"] == "answer"  # type: ignore[index]


def test_talk_and_ratings_work_outside_rounds(sandbox: Run) -> None:
    key = session_of(sandbox)
    code, out, _ = sandbox("chat", "Good morning!", "--to", "A1,B1", "--in", key)
    assert code == 0
    assert out.count(":") >= 2
    message = "5.reply.A1"
    assert sandbox("rate", message, "--in", key, "--value", "6", "--reason", "kind", "--as", "ana")[0] == 0
    assert sandbox("rate", message, "--in", key, "--seat", "B2", "--dimension", "engagement")[0] == 0
    ratings = lines(sandbox("sessions", "export", key, "--what", "ratings")[1])[-2:]
    assert [(r["rater"], r["method"], r["target"]) for r in ratings] == [
        ("ana", "human", message),
        ("B2", "text", message),
    ]


def test_a_failed_answer_has_an_exit_code_of_its_own(sandbox: Run) -> None:
    code, out, _ = sandbox("ask", "x", "--in", "scripted", "--model", "scripted/steady?fail=refused")
    assert code == 4
    assert "refused" in out


def test_the_doctor_says_what_works_here(sandbox: Run) -> None:
    code, out, _ = sandbox("doctor", "--json")
    checks = {str(check["name"]): check for check in lines(out)}
    assert code == 0
    assert checks["local models"]["state"] == "ok"
    assert checks["database"]["state"] == "ok"
    assert "SANDBOX" not in out


def test_a_rating_given_later_is_shown_with_what_it_rates(sandbox: Run) -> None:
    key = session_of(sandbox)
    assert sandbox("rate", "1.draft", "--in", key, "--value", "3", "--reason", "too short")[0] == 0
    out = sandbox("sessions", "show", key, "--interaction", "1")[1]
    assert "person: alignment 3 (human)  too short" in out


def test_criteria_of_ones_own_are_those_shown(sandbox: Run, tmp_path: Path) -> None:
    (tmp_path / "kind.toml").write_text(
        '[agents]\nmodel = "scripted/steady"\n[[observers]]\nname = "o"\nmodel = "scripted/steady"\n'
        '[topology]\nrows = 2\ncolumns = 2\n[rubric]\npeer = "kindness"\n'
        '[[rubric.criteria]]\nname = "kindness"\nquestion = "Is it kind?"\nworst = "cruel"\nbest = "kind"\n'
    )
    code, out, err = sandbox("run", "kind.toml")
    assert code == 0, err
    assert "kindness" in out
    assert "alignment" not in out
    assert sandbox("rate", "1.draft", "--value", "3")[0] == 0


def test_a_run_in_which_nothing_succeeds_says_why_and_has_its_exit_code(sandbox: Run) -> None:
    code, out, _ = sandbox("run", "scripted", *SMALL, "--model", "scripted/steady?fail=refused")
    assert code == 4
    assert "Most frequent failure (4 of 4 failed turns): refused: The script says so" in out


def test_hints_name_the_database_but_not_its_password(sandbox: Run, tmp_path: Path) -> None:
    from sandbox.commands import console

    out = sandbox("run", "scripted", *SMALL, "--db", str(tmp_path / "own.db"))[1]
    assert out.split("Try next:")[1].count(f"--db {tmp_path / 'own.db'}") == 3
    assert console.masked("postgresql://me:s3cret@host/db") == "postgresql://me:***@host/db"


def test_progress_of_a_resumed_round_counts_what_is_done() -> None:
    from rich.console import Console

    from sandbox import events as ev
    from sandbox.commands.report import LiveProgress

    said = io.StringIO()
    live = LiveProgress(Console(file=said), 2, ["alignment"])
    posted = ev.MessagePosted(interaction=1, step="draft", seat="A1", role="draft", text="words")
    live.catch_up(
        [
            ev.RoundStarted(round=2, first=1, count=1),
            ev.InteractionStarted(interaction=1, round=2, seat="A1", peers=("A2",), observers=("o",)),
            posted,
        ]
    )
    task = live._progress.tasks[0]
    assert (task.description, task.completed, task.total) == ("round 2/2", 1, 5)
    assert said.getvalue() == ""


@pytest.mark.parametrize(("distance", "is_told"), [(0.01, True), (0.9, False)])
def test_a_run_in_which_nothing_is_recalled_says_so(sandbox: Run, distance: float, is_told: bool) -> None:
    text = f'[agents]\nmodel = "scripted/steady"\n[rules]\nmax_distance = {distance}\n'
    Path("mine.toml").write_text(f'name = "mine"\nobservers = []\n{text}', "utf-8")
    code, said, _ = sandbox("run", "mine.toml", *SMALL)
    assert code == 0
    assert ("presets and prior memories changed nothing" in " ".join(said.split())) == is_told
    assert ("0 of 4 drafts recalled a memory" in said) == is_told

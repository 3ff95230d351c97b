"""The command line in trouble: wrong and hostile input, Ctrl-C, poor terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, Run, lines, session_of


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.toml"), "There is no file 'nowhere.toml'"),
        (("run", "scripted", "--model", "gpt-4"), "'gpt-4' is not a model"),
        (("run", "scripted", "--model", "scripted/nobody"), "no scripted model 'nobody'"),
        (("run", "scripted", "--questions", "none.txt"), "There is no file"),
        (("run", "scripted", "--seats", "many"), "ROWSxCOLUMNS"),
        (("run", "scripted", "--per-seat", "999"), "there are 72 questions"),
        (("ask", " ", "--in", "scripted"), "The text is empty"),
        (("ask", "\u200b\u3164", "--in", "scripted"), "The text is empty"),
        (("chat", "\u202e", "--in", "scripted"), "The text is empty"),
        (("ask", "x", "--in", "scripted", "--seat", "Z9"), "There is no seat 'Z9'"),
        (("ask", "x", "--in", "no-such-session"), "There is no session"),
        (("rate", "1.draft"), "Give either --value"),
        (("run", "scripted", "--db", "mysql://x"), "not supported"),
    ],
)
def test_wrong_input_ends_with_code_two_and_the_remedy(
    sandbox: Run, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = sandbox(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_text_of_models_reaches_the_terminal_without_control_sequences(sandbox: Run) -> None:
    hostile = "\x1b]52;c;aGk=\x07\x1b[2J[/INST] [@click=app.quit]x[/] \u202eabc"
    code, out, _ = sandbox("ask", hostile, "--in", "scripted", "--model", "scripted/echo")
    assert code == 0
    assert "[/INST] [@click=app.quit]x[/]" in out
    for forbidden in ("\x1b]", "\x1b[2J", "\x07", "\u202e"):
        assert forbidden not in out


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly_and_resume_completes(tmp_path: Path, kind: signal.Signals) -> None:
    environment = os.environ | {"SANDBOX_DATA_DIR": str(tmp_path), "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sandbox.cli"]
    slow = [
        *command,
        "run",
        "scripted",
        "--seats",
        "3x3",
        "--model",
        "scripted/steady?latency=400",
        "--rounds",
        "3",
    ]
    process = subprocess.Popen(
        slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    seen = next(line for line in process.stdout if "✓" in line)  # it is at work, and there is more to do
    process.send_signal(kind)
    out, err = process.communicate(timeout=90)
    assert seen
    assert process.returncode == 130, err
    assert "sandbox resume scripted-" in out
    assert "Traceback" not in err

    def said(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True, env=environment
        ).stdout

    assert lines(said("sessions", "list", "--json"))[0]["status"] == "paused"
    said("resume")
    assert lines(said("sessions", "list", "--json"))[0]["status"] == "finished"


def test_talk_goes_on_line_by_line_until_an_empty_one(tmp_path: Path) -> None:
    environment = os.environ | {"SANDBOX_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "sandbox.cli", "chat", "--to", "A1", "--in", "scripted"]
    done = subprocess.run(
        command,
        input=b"Good morning!\n\xff and you?\n\nnot sent\n",
        capture_output=True,
        check=True,
        env=environment,
    )
    assert done.stdout.decode().count("A1: ") == 2
    assert b"not sent" not in done.stdout


def test_ctrl_c_ends_a_talk_at_once(tmp_path: Path) -> None:
    import pty

    environment = os.environ | {"SANDBOX_DATA_DIR": str(tmp_path)}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sandbox.cli", "chat", "--to", "A1", "--in", "scripted"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    seen = b""
    while b"you> " not in seen:
        seen += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=90) == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "list", "--limit", "9" * 22),
        ("sessions", "replay", "--from", "9" * 22),
        ("sessions", "show", "\udcff"),
        ("sessions", "delete", "", "--yes"),
        ("resume", "--rounds", "9" * 22),
        ("run", "scripted", "--model", "openai/http://127.0.0.1/v1/m?context=²"),
        ("sessions", "list", "--db", "~nosuchuser/x"),
        ("sessions", "list", "--db", "postgresql://u:p@h:badport/x"),
        ("chat", "hi", "--in", "scripted", "--to", "A1", "--from", "A1"),
        ("ask", "x", "--in", "scripted", "--seat", "[/x]"),
    ],
)
def test_hostile_arguments_end_with_code_two(sandbox: Run, arguments: tuple[str, ...]) -> None:
    session_of(sandbox)
    code, _, err = sandbox(*arguments)
    assert code == 2, err
    assert "Traceback" not in err


def test_markup_in_paths_and_models_is_only_text(sandbox: Run, tmp_path: Path) -> None:
    code, out, _ = sandbox("run", "scripted", *SMALL, "--db", str(tmp_path / "[" / "x].db"))
    assert code == 0
    assert "x].db" in out


def test_a_terminal_of_few_characters_is_no_obstacle(tmp_path: Path) -> None:
    environment = os.environ | {"SANDBOX_DATA_DIR": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "sandbox.cli", "run", "scripted", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "Stored as scripted-" in done.stdout


def test_ctrl_c_where_nobody_waits_for_it_is_no_failure(
    sandbox: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sandbox.store.sessions.listing", interrupted)
    code, _, err = sandbox("sessions", "list")
    assert code == 130
    assert err == "Stopped.\n"

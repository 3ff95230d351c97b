"""The client without its screens: lines for pipes, frames for programs, commands that are not lost."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Server, app_in, create, serve, status, wait_for

from sandbox.errors import UserError
from sandbox.events import load
from server.wire import commands as do
from tui import clipboard, settings
from tui.api import Api, Refused, Unreachable
from tui.live import Connected, Ended, Live, Lost
from tui.plain import as_json, as_text
from tui.playing import served
from tui.settings import load_app_settings

WATCH = "from tui.cli import watch; watch()"


async def test_lines_hold_every_event_once(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    out = io.StringIO()
    live = Live(base, session)
    printing = asyncio.create_task(as_text(live.items(), out))
    while not live.is_connected:
        await asyncio.sleep(0.01)
    await live.send(do.Start())
    async with asyncio.timeout(20):
        while "all rounds are done" not in out.getvalue():
            await asyncio.sleep(0.02)
    printing.cancel()
    await asyncio.gather(printing, return_exceptions=True)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith(f"# {session}: scripted, ready")
    numbers = [int(line.split()[0]) for line in lines if not line.startswith("#")]
    head = client.get(f"/api/v1/sessions/{session}").json()["events"]
    assert numbers == list(range(2, head + 1))


async def test_frames_for_programs_are_the_servers(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    out = io.StringIO()
    live = Live(base, session, person="Ann")
    printing = asyncio.create_task(as_json(live.items(), out))
    while not live.is_connected:
        await asyncio.sleep(0.01)
    await live.send(do.Say(text="Hello", to=("A1",)))
    async with asyncio.timeout(20):
        while "interaction_finished" not in out.getvalue():
            await asyncio.sleep(0.02)
    printing.cancel()
    await asyncio.gather(printing, return_exceptions=True)
    frames = [json.loads(line) for line in out.getvalue().splitlines()]
    assert frames[0] == {"type": "connection", "state": "connected"}
    assert [frame["type"] for frame in frames[1:3]] == ["session.hello", "session.snapshot"]
    for frame in frames:
        if frame["type"] == "event":
            load(json.dumps(frame["data"]["event"]))


def test_the_command_prints_for_pipes(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH, base, "--plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"# {session}")
    client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    while "all rounds are done" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("http://127.0.0.1:9", "--plain"), 3, "sandbox serve"),
        (("--plain", "--replay"), 2, "sandbox sessions replay"),
        ((), 2, "--plain"),
        (("one", "two"), 2, "no address"),
        (("ftp://host", "--plain"), 2, "no address"),
        (("127.0.0.1:9", "--plain"), 3, "sandbox serve"),
        (("127.0.0.1:9", "nobody", "--plain"), 3, "sandbox serve"),
    ],
)
def test_what_can_not_be_is_told(arguments: tuple[str, ...], code: int, words: str) -> None:
    main = "import sys; from sandbox.cli import main; main(['watch', *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", main, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


async def test_a_command_is_sent_again_when_the_server_is_back(tmp_path: Path) -> None:
    database = str(tmp_path / "s.db")
    first = Server(database, tmp_path, 1)
    await asyncio.to_thread(wait_for, first.ready, 60)
    session = create(first.client, seats="2x2", rounds=0)
    live = Live(first.base, session, person="Ann")
    told: list[Any] = []

    async def follow() -> None:
        async for item in live.items():
            told.append(item)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        while not live.is_connected:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(first.end, 9)
    sending = asyncio.create_task(live.send(do.Say(text="Are you there?", to=("A1",))))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not any(isinstance(item, Lost) for item in told):
            await asyncio.sleep(0.02)
    assert live.unanswered == 1
    second = Server(database, tmp_path, 2, options=("--port", str(first.port)))
    try:
        async with asyncio.timeout(60):
            ack = await sending
        assert ack.interaction == 1
        assert sum(isinstance(item, Connected) for item in told) == 2
        async with httpx.AsyncClient(base_url=first.base) as client:
            rows = (await client.get(f"/api/v1/sessions/{session}/messages")).json()["items"]
        assert [row["text"] for row in rows if row["step"] == "message"] == ["Are you there?"]
    finally:
        following.cancel()
        await asyncio.to_thread(second.end, 9)


async def test_what_is_over_for_good_is_said_and_not_tried_again(base: str, client: httpx.Client) -> None:
    live = Live(base, "nobody")
    items = [item async for item in live.items()]
    assert isinstance(items[-1], Ended)
    assert items[-1].code == 4404
    session = create(client, rounds=0)
    live = Live(base, session)
    with pytest.raises(Refused):
        async for item in live.items():
            if isinstance(item, Connected):
                waiting = asyncio.create_task(live.send(do.Answer(interaction=9, step="draft", text="x")))
                await asyncio.sleep(0.1)
                client.delete(f"/api/v1/sessions/{session}")
        await waiting


async def test_a_server_that_needs_a_key_says_where_it_goes(tmp_path: Path) -> None:
    with serve(app_in(tmp_path, keyless=False)) as base:
        for key in (None, "sbx_wrong"):
            api = Api(base, key)
            with pytest.raises(Refused, match="SANDBOX_KEY"):
                await api.sessions()
            await api.close()


async def test_refusals_and_silence_have_their_errors(base: str) -> None:
    api = Api(base)
    try:
        with pytest.raises(Refused, match="no session"):
            await api.session("nobody")
        assert await api.sessions() == []
        assert "scripted" in await api.examples()
    finally:
        await api.close()
    gone = Api("http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="sandbox serve"):
        await gone.sessions()
    await gone.close()


def test_settings_come_from_file_environment_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tui.toml"
    monkeypatch.setattr(settings, "config_file", lambda: file)
    for name in ("URL", "KEY", "PERSON"):
        monkeypatch.delenv(f"SANDBOX_{name}", raising=False)
    assert load_app_settings().theme == "dark"
    file.write_text('theme = "light"\nperson = "Ann"\n[keys]\n"society.charts" = "z"\n')
    monkeypatch.setenv("SANDBOX_KEY", "sbx_secret")
    found = load_app_settings(person="Bob", theme=None)
    assert (found.theme, found.person, found.key, found.keys) == (
        *("light", "Bob", "sbx_secret"),
        {"society.charts": "z"},
    )
    assert "sbx_secret" not in repr(found)
    for wrong in ("theme = 3", "colour = 'red'", "not toml"):
        file.write_text(wrong)
        with pytest.raises(UserError, match=r"tui\.toml"):
            load_app_settings()


async def test_a_copy_tells_what_became_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(clipboard.tempfile, "gettempdir", lambda: str(tmp_path))
    remote = await clipboard.copy("Some\ntext", asked.append, {"SSH_CONNECTION": "x"})
    assert asked == ["Some\ntext"]
    assert "may not take them" in remote
    (kept,) = tmp_path.glob("sandbox-copied-*")
    assert kept.read_text() == "Some\ntext"
    assert kept.stat().st_mode & 0o077 == 0
    program = tmp_path / "pbcopy"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/clip\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "Copied 4" in await clipboard.copy("text", asked.append, {})
    assert (tmp_path / "clip").read_text() == "text"
    assert len(asked) == 1


@pytest.mark.timeout(120)
def test_play_serves_a_society_for_as_long_as_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path))
    database = str(tmp_path / "play.db")
    with served("scripted", None, database) as (url, session), httpx.Client(base_url=url) as client:
        wait_for(lambda: status(client, session) == "ready")
        client.post(f"/api/v1/sessions/{session}/start", json={"rounds": 500}).raise_for_status()
        wait_for(lambda: status(client, session) == "running")
    with served("scripted", None, database) as (url, session), httpx.Client(base_url=url) as client:
        assert status(client, session) == "paused", "nothing goes on unasked"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/healthz")
    with pytest.raises(UserError, match="did not start"), served("no-such-society", None, None):
        pass


async def test_a_session_is_found_by_its_name_its_beginning_or_as_the_last(
    base: str, client: httpx.Client
) -> None:
    first, second = create(client, seats="2x2"), create(client, seats="2x2")
    api = Api(base)
    try:
        assert await api.find(first) == first
        assert await api.find(first[:-1]) == first
        assert await api.find("last") == second
        with pytest.raises(Refused, match="several"):
            await api.find("scripted-")
        with pytest.raises(Refused, match=f"no session 'other'.*{second}"):
            await api.find("other")
    finally:
        await api.close()

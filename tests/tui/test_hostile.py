"""A thousand hostile texts through a real terminal: none does anything there, none crashes the app."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import random
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import app_in, create, serve
from support import small_society

from sandbox import events as ev
from sandbox.running import Store
from sandbox.store import sessions
from sandbox.text import storable
from tui.safe import cut, fit, plain

SEEDS = (
    "[bold red]markup[/]",
    "[/INST] [/",
    "[@click=app.quit]press me[/]",
    "[link=http://evil.example]here[/link]",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\x1b[31;1mred",
    "\x1bP1$r0m\x1b\\",
    "\x9b31m c1 csi",
    "\x90q dcs\x9c",
    "\u202egnirts\u202c",
    "\u2066isolated\u2069",
    "zero\u200bwidth\u200djoined\ufeff",
    "\ud83d lone \udc00",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 🇩🇪",
    "مرحبا بالعالم שלום",
    "漢字仮名交じり文",
    "combining a\u0301\u0327\u0308",
    "tab\tand\rcarriage\x0bvertical\x0cfeed",
    "\x00\x01\x02\x07\x08\x7f",
    "\n" * 50,
    "{+ not a diff +} [- neither -]",
    "\U000e0041tag\ufe0f",
    "x" * 100_000,
    "wide" * 30_000,
)
FOREIGN = re.compile(
    rb"\x1b\]52|\x1b\]0;title|ZXZpbA|\x1bP1\$r|\x1b\[2J\x1b\[H\x1b|\xe2\x80\xae|\xe2\x81\xa6|\x9b31m|\xed[\xa0-\xbf]"
)


def hostile(count: int = 1000) -> list[str]:
    """Texts made of the seeds, whole, cut and mixed; the same every time."""
    rng = random.Random(11)
    texts = list(SEEDS)
    while len(texts) < count:
        parts = [rng.choice(SEEDS)[: rng.randrange(1, 400)] for _ in range(rng.randrange(1, 4))]
        texts.append(rng.choice(["", " ", "\n"]).join(parts))
    return texts


@pytest.mark.parametrize("cells", [1, 10, 80])
def test_what_passes_the_choke_point_is_text_of_a_known_width(cells: int) -> None:
    from rich.cells import cell_len

    for text in hostile():
        shown = plain(text)
        assert not [c for c in shown if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]
        assert "\u202e" not in shown
        assert "\x1b" not in cut(text, cells)
        assert cell_len(cut(text, cells)) <= cells
        assert cell_len(fit(text, cells)) == cells


class Terminal:
    """The app in a terminal of its own; all that it writes is kept."""

    def __init__(self, *arguments: str, width: int = 120, height: int = 40, **more: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **more}
        code = "from tui.cli import watch; watch()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.written = b""

    def read(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.written += os.read(self.master, 1 << 16)
                except OSError:
                    return

    def read_until(self, words: bytes) -> None:
        """Read until the words are there, for as long as a busy machine may take."""
        until = time.monotonic() + 60
        while words not in self.written and time.monotonic() < until:
            self.read(0.5)

    def press(self, keys: str, seconds: float = 0.3) -> None:
        os.write(self.master, keys.encode())
        self.read(seconds)

    def end(self) -> int:
        self.press("\x11", 5)  # ctrl+q
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            os.close(self.master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@pytest.mark.timeout(240)
async def test_hostile_texts_reach_the_screen_as_text_and_the_store_as_they_are(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    texts = [text for text in hostile(1100) if text.strip("\x00 \n\t\r\x0b\x0c") and len(text) <= 20_000]
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=60) as client:
        session = create(client, seats="2x2", rounds=0)
        path = f"/api/v1/sessions/{session}"
        terminal = Terminal(base, session)
        terminals.append(terminal)
        await asyncio.to_thread(terminal.read_until, b"A1")
        kept: dict[str, str] = {}
        for number, text in enumerate(texts):
            body = {"text": text, "to": ["A1"]}
            sent = await asyncio.to_thread(
                client.post,
                f"{path}/messages",
                content=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "X-Sandbox-Person": "Eve"},
            )
            if sent.status_code == 422:  # blank, by the server's own reckoning
                continue
            assert sent.status_code == 201, (number, sent.text[:200])
            kept[f"{sent.json()['interaction']}.message"] = storable(text)
            if number % 50 == 0:
                await asyncio.to_thread(terminal.read, 0.2)
        assert len(kept) >= 1000
        for keys in ("\t", "\x1b[A", "\r", "w", "m", "\x1b", "c", "c", "/", "click\r"):
            await asyncio.to_thread(terminal.press, keys)
        assert terminal.process.poll() is None, terminal.written[-2000:]
        assert await asyncio.to_thread(terminal.end) == 0
        found = FOREIGN.search(terminal.written)
        assert found is None, terminal.written[found.start() - 50 : found.end() + 50]
        stored: dict[str, str] = {}
        after: int | None = 0
        while after is not None:
            page = client.get(f"{path}/messages", params={"after": after, "limit": 1000}).json()
            stored |= {row["id"]: row["text"] for row in page["items"]}
            after = page["next"]
        assert {message: stored[message] for message in kept} == kept, "stored text is exact"


def test_lines_of_a_hundred_thousand_characters_are_shown_and_kept(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    """Longer than people may send; a model may say so much."""
    texts = [text for text in SEEDS if len(text) > 20_000]
    texts += ["\x1b]52;c;ZXZpbA==\x07" * 8_000, "\u202e" * 100_000, "漢" * 100_000]
    store = Store.open(str(tmp_path / "server.db"))
    handle = sessions.create(store.database, store.log, small_society(rounds=0), lease=False)
    for number, text in enumerate(texts, 1):
        store.log.append_now(
            handle,
            [
                ev.InteractionStarted(interaction=number, kind="answer", seat="S0", question="How long?"),
                ev.MessagePosted(interaction=number, step="answer", seat="S0", role="answer", text=text),
                ev.InteractionFinished(interaction=number, outcome="answered"),
            ],
        )
    store.close()
    with serve(app_in(tmp_path)) as base:
        terminal = Terminal(base, handle.key)
        terminals.append(terminal)
        terminal.read_until(b"xxxx")
        for keys in ("\t", "\x1b[A", "\x1b[A", "\r", "w", "\x1b", "\x1b[H", "\r", "\x1b"):
            terminal.press(keys)
        assert terminal.process.poll() is None, terminal.written[-2000:]
        assert terminal.end() == 0
        assert b"xxxx" in terminal.written
        assert FOREIGN.search(terminal.written) is None
        with httpx.Client(base_url=base, timeout=60) as client:
            rows = client.get(f"/api/v1/sessions/{handle.key}/messages").json()["items"]
        assert [row["text"] for row in rows] == [storable(text) for text in texts]


@pytest.mark.parametrize("theme", ["dark", "light", "contrast"])
def test_without_colour_there_is_still_something_to_read(
    tmp_path: Path, terminals: list[Terminal], theme: str
) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=60) as client:
        create(client, seats="2x2", rounds=0)
        terminal = Terminal(base, "--theme", theme, NO_COLOR="1", width=80, height=24)
        terminals.append(terminal)
        terminal.read_until(b"scripted")
        assert b"scripted" in terminal.written
        pairs = set(re.findall(rb"38;2;(\d+;\d+;\d+);48;2;(\d+;\d+;\d+)", terminal.written))
        assert pairs
        assert all(fore != back for fore, back in pairs)
        assert all(len(set(colour.split(b";"))) == 1 for pair in pairs for colour in pair), "only greys"
        assert terminal.end() == 0

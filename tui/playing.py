"""A server of one's own for as long as the app runs: a process beside it, reached as any other server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import UserError
from tui.api import Api, Unreachable

_START_S = 60.0
_STOP_S = 20.0
_ENDINGS = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGTERM") if hasattr(signal, name))


@contextmanager
def served(
    society: str | None, port: int | None, db: str | None, key: str | None = None
) -> Iterator[tuple[str, str]]:
    """The address of a server and the session that it serves. Raises ``UserError``."""
    at = port or _free_port()
    command = [sys.executable, "-m", "sandbox.cli", "serve", *([society] if society else [])]
    command += ["--port", str(at), "--host", "127.0.0.1", *(["--db", db] if db else [])]
    with tempfile.TemporaryDirectory(prefix="sandbox-play-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as told:
            process = subprocess.Popen(  # noqa: S603 - our own program, without a shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"SANDBOX_SERVER_TAKE_OVER": "false"},  # nothing is spent unasked
            )
        before = {number: signal.signal(number, _leave) for number in _ENDINGS}
        try:
            url = f"http://127.0.0.1:{at}"
            yield url, asyncio.run(_session(url, key, process, log))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _leave(number: int, _: object) -> None:
    """The terminal was closed, or somebody ends us: the server ends, too."""
    raise SystemExit(128 + number)


async def _session(url: str, key: str | None, process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server answers, and ask it what it serves."""
    api = Api(url, key)
    until = time.monotonic() + _START_S
    try:
        while True:
            try:
                home = (await api.me()).home
                if process.poll() is not None:  # somebody else's server answers there
                    raise UserError(f"Another server has the port of {url}. Choose one with --port.")
                if home is None:
                    raise UserError("The server serves no session of its own.")
                return home
            except Unreachable as error:
                if process.poll() is not None or time.monotonic() > until:
                    said = (await asyncio.to_thread(log.read_text, "utf-8", "replace")).strip()[-2000:]
                    raise UserError(f"The server did not start:\n{said}") from error
                await asyncio.sleep(0.1)
    finally:
        await api.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

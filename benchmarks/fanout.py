"""A thousand spectators of one session: deliveries a second, their delay, gaps, and memory.

Beside ours, in the same run, a bare ``websockets`` broadcast and a bare FastAPI loop, which keep no log, know
no sessions and can't resume. The clients and the one who writes are in this process, the server in another.
``python -m benchmarks.fanout --seconds 120`` takes the delay over two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from benchmarks.measure import median, size

CLIENTS = size(1000, 20)
STALLED = size(50, 2)
RATE = 20
WINDOW = 16
SAMPLED = 10
"""The delay is taken at every tenth client."""
_STAMP = re.compile(rb"@(\d+\.\d+)@")
_SEQ = re.compile(rb'"type":"event","seq":(\d+)')


class Spectator(asyncio.Protocol):
    """A websocket client that counts, as cheaply as Python can."""

    def __init__(self, path: str, port: int, sampled: bool, tally: Tally) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._sampled = sampled
        self._tally = tally
        self._buffer = b""
        self._seq = 0
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if not self.open.done():
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self.open.set_result(None)
        start, size = 0, len(data)
        while size - start >= 2:
            length, body = data[start + 1] & 127, start + 2
            if length == 126:
                length, body = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
            elif length == 127:
                length, body = int.from_bytes(data[start + 2 : start + 10], "big"), start + 10
            if size < body + length:
                break
            if data[start] & 15 == 1:
                self._frame(data, body, body + length)
            elif data[start] & 15 == 8:
                self._tally.closed += 1
            elif data[start] & 15 == 9:  # a ping, answered under a mask of zeros
                pong = bytes((0x8A, 0x80 | length)) + bytes(4) + data[body : body + length]
                self.transport.write(pong)
            start = body + length
        self._buffer = data[start:]

    def _frame(self, data: bytes, start: int, end: int) -> None:
        if found := _SEQ.search(data, start, min(start + 64, end)):
            seq = int(found[1])
            if self._seq and seq != self._seq + 1:
                self._tally.gaps += 1
            self._seq = seq
        if data.find(b'"session.snapshot"', start, start + 64) >= 0:
            self._tally.greeted += 1
        stamp = data.find(b"@", start, end)
        if stamp < 0:
            return
        self._tally.deliveries += 1
        self.got += 1
        if self._sampled:
            sent = _STAMP.match(data, stamp, end)
            assert sent is not None
            self._tally.delays.append(time.monotonic() - float(sent[1]))


class Tally:
    """What all spectators saw together; delays in seconds."""

    def __init__(self) -> None:
        self.deliveries = self.gaps = self.closed = self.greeted = 0
        self.delays: list[float] = []


class Writer:
    """The client that writes."""

    def __init__(self, kind: str, url: str) -> None:
        self._kind = kind
        self._url = url
        self._sent = 0

    async def __aenter__(self) -> Writer:
        from websockets.asyncio.client import connect

        self._connection = await connect(self._url, compression=None, max_queue=None)
        self._drain = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drain.cancel()
        await self._connection.close()

    async def _read(self) -> None:
        async for _ in self._connection:
            pass

    async def write(self) -> None:
        self._sent += 1
        stamp = f"@{time.monotonic():.4f}@"
        if self._kind == "ours":
            data = {"do": "react", "message": "1.answer", "reaction": stamp}
            frame = {"v": 1, "type": "command", "cid": f"c{self._sent}", "data": data}
            await self._connection.send(json.dumps(frame))
        else:
            await self._connection.send(stamp + "x" * 230)  # about the size of an event's frame


@contextmanager
def serving(kind: str, folder: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server of a kind in a process of its own; its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.fanout_servers", kind, str(port), folder]
    process = subprocess.Popen(command)
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def session_of(port: int) -> str:
    """A session with one message, that can be reacted to."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        body = {"example": "scripted", "seats": "2x2", "rounds": 0}
        session = str(client.post("/api/v1/sessions", json=body).json()["session"])
        question = {"question": "Why?", "seat": "A1", "society": False}
        client.post(f"/api/v1/sessions/{session}/questions", json=question).raise_for_status()
        return session


async def spectators(path: str, port: int, tally: Tally) -> list[Spectator]:
    """All of them, connected."""
    loop = asyncio.get_running_loop()
    found: list[Spectator] = []
    for number in range(CLIENTS):
        client = Spectator(path, port, number % SAMPLED == 0, tally)
        await loop.create_connection(partial(_same, client), "127.0.0.1", port)
        found.append(client)
        if number % 20 == 19:
            await asyncio.gather(*(client.open for client in found[-20:]))
    while path != "/ws" and tally.greeted < CLIENTS:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    return found


def _same(client: Spectator) -> Spectator:
    return client


async def throughput(writer: Writer, tally: Tally, seconds: float) -> float:
    """Deliveries a second, with at most ``WINDOW`` messages under way."""
    first, started, written = tally.deliveries, time.monotonic(), 0
    while time.monotonic() - started < seconds:
        if written - (tally.deliveries - first) / CLIENTS < WINDOW:
            await writer.write()
            written += 1
        else:
            await asyncio.sleep(0.001)
    rate = (tally.deliveries - first) / (time.monotonic() - started)
    while tally.deliveries - first < written * CLIENTS:
        await asyncio.sleep(0.01)
    return rate


async def delays(writer: Writer, tally: Tally, seconds: float) -> tuple[float, float]:
    """The median and the 99th percentile of the delay, in ms, at ``RATE`` messages a second."""
    tally.delays.clear()
    started = time.monotonic()
    for number in range(int(seconds * RATE)):
        await asyncio.sleep(max(started + number / RATE - time.monotonic(), 0))
        await writer.write()
    await asyncio.sleep(1)
    ordered = sorted(tally.delays)
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[int(len(ordered) * 0.99)]


async def measure(kind: str, seconds: float) -> dict[str, Any]:
    """All figures of one kind of server."""
    with TemporaryDirectory() as folder, serving(kind, folder) as (port, process):
        path = f"/api/v1/sessions/{session_of(port)}/live" if kind == "ours" else "/ws"
        before = process.memory_info().rss
        tally = Tally()
        clients = await spectators(path, port, tally)
        connected = process.memory_info().rss
        async with Writer(kind, f"ws://127.0.0.1:{port}{path}") as writer:
            await throughput(writer, tally, 1)
            rates = [await throughput(writer, tally, size(3, 1)) for _ in range(size(3, 1))]
            grown = process.memory_info().rss
            p50, p99 = await delays(writer, tally, seconds)
            steady = process.memory_info().rss
            result = {
                "rate": median(rates),
                "p50": p50,
                "p99": p99,
                "gaps": tally.gaps,
                "closed": tally.closed,
                "kb": (connected - before) / CLIENTS / 1000,
                "growth": (steady - grown) / 1e6,
            }
            if kind == "ours":
                for client in clients[1 : STALLED * 2 : 2]:  # none of those whose delay is taken
                    client.transport.pause_reading()
                _, result["stalled"] = await delays(writer, tally, seconds)
                result["gaps"] = tally.gaps
        for client in clients:
            client.transport.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=size(20, 1), help="for how long the delay is taken")
    seconds = parser.parse_args().seconds
    found = {kind: asyncio.run(measure(kind, seconds)) for kind in ("websockets", "fastapi", "ours")}
    print(f"{CLIENTS:,} clients, {RATE} messages a second for {seconds:.0f} s; deliveries at full speed")
    for kind, told in found.items():
        print(
            f"  {kind:<10} {told['rate']:>9,.0f} deliveries/s   "
            f"p50 {told['p50']:.1f} ms, p99 {told['p99']:.1f} ms   {told['kb']:.0f} kB a connection"
        )
    own, bare = found["ours"], found["fastapi"]
    print(f"ours over bare FastAPI: {own['rate'] / bare['rate']:.2f} of its deliveries, ", end="")
    print(f"{own['p99'] / bare['p99']:.2f} of its p99 (reach: at most 1.5)")
    print(f"ours over bare websockets: {own['rate'] / found['websockets']['rate']:.2f} of its deliveries")
    print(
        f"gaps: {own['gaps']}; closed by the server: {own['closed']}; memory grew by {own['growth']:.1f} MB"
    )
    ratio = own["stalled"] / own["p99"]
    print(f"p99 with {STALLED} stalled readers among them: {own['stalled']:.1f} ms ({ratio:.2f})")


if __name__ == "__main__":
    main()

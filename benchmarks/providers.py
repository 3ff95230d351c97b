"""Calls a second of each path to an OpenAI-compatible endpoint on this machine, beside bare aiohttp."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import aiohttp
from aiohttp import web

from benchmarks.measure import median, size, spread
from sandbox.exchange import ChatMessage, Request
from sandbox.models.direct import DirectModel, HttpSessions
from sandbox.models.remote import LiteLLMModel, litellm
from sandbox.redaction import Redactor

CALLS = size(300, 5)
AT_ONCE = size(50, 2)
REPEATS = size(5, 1)
REPLY = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Yes, gladly."}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
}
REQUEST = Request("draft", "A1", "draft", (ChatMessage("user", "Would you help me?"),))


def serve(pipe: Connection) -> None:
    """An endpoint that answers at once, in a process of its own."""

    async def chat(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(REPLY)

    async def run() -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.sleep(600)

    asyncio.run(run())


async def rate(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Calls a second, ``AT_ONCE`` in flight."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with slots:
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(calls)))
    return calls / (time.perf_counter() - started)


async def measure(port: int) -> None:
    base = f"http://127.0.0.1:{port}/v1"
    http = HttpSessions()
    direct = DirectModel(base, "m", http, Redactor())
    through = LiteLLMModel("openai/m", Redactor(), api_base=base)
    body = {"model": "m", "messages": [{"role": "user", "content": "Would you help me?"}]}

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def bare() -> None:
            async with session.post(f"{base}/chat/completions", json=body) as response:
                await response.json()

        paths: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
            "bare aiohttp": (bare, CALLS * 5),
            "openai/URL/MODEL (direct)": (lambda: direct.generate(REQUEST), CALLS * 5),
            "litellm/openai/MODEL": (lambda: through.generate(REQUEST), CALLS),
        }
        rates: dict[str, list[float]] = {name: [] for name in paths}
        for call, _ in paths.values():
            await call()
        for _ in range(REPEATS):
            for name, (call, calls) in paths.items():
                rates[name].append(await rate(call, calls))
    await http.close()
    for name, values in rates.items():
        print(f"{name:28} {spread(values)} calls a second")
    one, other = median(rates["openai/URL/MODEL (direct)"]), median(rates["litellm/openai/MODEL"])
    print(
        f"direct over LiteLLM: {one / other:.1f}; direct over bare: {one / median(rates['bare aiohttp']):.2f}"
    )


def main() -> None:
    import os

    os.environ.setdefault("OPENAI_API_KEY", "unused-on-loopback")
    started = time.perf_counter()
    litellm()
    print(f"importing LiteLLM: {time.perf_counter() - started:.1f} s")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(ours.recv()))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()

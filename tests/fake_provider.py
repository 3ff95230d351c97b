"""A provider of chat models that misbehaves on cue: a real HTTP server that speaks the OpenAI protocol.

It runs in a thread of its own. A script decides, request by request, how to answer; everything that was
asked and said is on record.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from sandbox.exchange import ChatMessage, Request

KEY = "CANARY5f0c1d2e3b4a"  # of no known shape: only who was told of it can mask it
_MARKS = {
    "observe": "Reply with the rating only",
    "rate": "Rate the answer from",
    "revise": "Write a better answer",
}


@dataclass
class Call:
    """One request as it came; ``said`` is the text that was sent in answer, if it was sent whole."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    said: str | None = None
    at: float = field(default_factory=time.monotonic)
    gave_up: threading.Event = field(default_factory=threading.Event)

    @property
    def prompt(self) -> str:
        """All messages in one."""
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def purpose(self) -> str:
        """What a society asked for, judging by the words of its prompt."""
        return next((name for name, mark in _MARKS.items() if mark in self.prompt), "draft")

    @property
    def streamed(self) -> bool:
        """Whether the caller wants the text in pieces."""
        return bool(self.body.get("stream"))


class Reaction(NamedTuple):
    """How to answer. ``ending`` is how a reply ends: whole, or (in its middle) reset,
    error, cut or stall."""

    text: str | None = "Fine."
    finish: str | None = "stop"
    status: int = 200
    raw: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ending: str = "whole"
    delay: float = 0.0
    prompt_tokens: int = 11
    completion_tokens: int = 7
    choices: bool = True
    calls: tuple[dict[str, Any], ...] = ()


Script = Callable[[Call], Reaction] | Sequence[Reaction] | Reaction


def asking(text: str = "Is it right?", purpose: str = "draft", **fields: Any) -> Request:
    """A request of one seat."""
    messages = (ChatMessage("system", "You are a neighbour."), ChatMessage("user", text))
    return Request("step", "S0", purpose, messages, **fields)  # type: ignore[arg-type]


def say(text: str | None, **changes: Any) -> Reaction:
    """An ordinary reply."""
    return Reaction(text)._replace(**changes)


def fail(status: int, message: str = "The server says no.", **headers: str) -> Reaction:
    """An error of the protocol; ``retry_after="1"`` becomes the header Retry-After."""
    named = tuple((name.replace("_", "-").title(), value) for name, value in headers.items())
    error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return Reaction(status=status, raw=json.dumps(error), headers=named)


def echo_key(call: Call) -> Reaction:
    """A 401 that quotes the key it was sent, as real providers do."""
    return fail(401, f"Incorrect API key provided: {call.headers['authorization'].removeprefix('Bearer ')}")


def too_long(fits: int, text: str = "Fine.", message: str = "") -> Callable[[Call], Reaction]:
    """A 400 until the prompt has at most ``fits`` characters."""
    complaint = message or (
        "This model's maximum context length is 512 tokens. However, your messages resulted in 9999 tokens."
    )
    return lambda call: say(text) if len(call.prompt) <= fits else fail(400, complaint)


EMPTY = say("")
NULL = say(None)
NO_CHOICES = Reaction(choices=False)
GARBAGE = Reaction(raw="<html><body>Welcome to nginx!</body></html>")
HANG = say("Too late.", delay=60)
RESET = say("This text is never sent to its end.", ending="reset")
BROKEN = say("This text is never sent to its end.", ending="error")
CUT = say("This text is never sent to its end.", ending="cut")
STALL = say("This text is never sent to its end.", ending="stall")


class FakeProvider:
    """The server, as a context manager. A sequence as script is used up; its last reaction stays."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = say("Fine.") if script is None else script
        self.calls: list[Call] = []
        self.asked = threading.Event()
        self.most_at_once = 0
        self.error_text = "upstream overloaded"
        self._at_once = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        """The base URL, with its version."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def said(self) -> list[str]:
        """Every text that was sent whole."""
        return [call.said for call in self.calls if call.said is not None]

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/embeddings", self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(len(self.calls) + 1, request.path, headers, await request.json())
        self.calls.append(call)
        self.asked.set()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reaction = self._reaction(call)
            if reaction.delay:
                await asyncio.sleep(reaction.delay)
            return await self._react(request, call, reaction)
        except (asyncio.CancelledError, ConnectionError):
            call.gave_up.set()
            raise
        finally:
            self._at_once -= 1

    def _reaction(self, call: Call) -> Reaction:
        if isinstance(self.script, Reaction):
            return self.script
        if callable(self.script):
            return self.script(call)
        return self.script[min(call.number, len(self.script)) - 1]

    async def _react(self, request: web.Request, call: Call, reaction: Reaction) -> web.StreamResponse:
        if reaction.raw is not None:
            kind = "application/json" if reaction.raw.startswith(("{", "[")) else "text/html"
            return web.Response(
                status=reaction.status,
                text=reaction.raw,
                content_type="text/event-stream" if reaction.raw.startswith("data:") else kind,
                headers=dict(reaction.headers),
            )
        if call.path.endswith("/embeddings"):
            return web.json_response(_embeddings(call.body))
        if call.streamed:
            return await self._stream(request, call, reaction)
        body = json.dumps(_completion(call.body, reaction))
        if reaction.ending == "whole":
            call.said = reaction.text if reaction.choices else None
            return web.Response(text=body, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2].encode())
        _reset(request)
        return response

    async def _stream(self, request: web.Request, call: Call, reaction: Reaction) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(chunk: dict[str, Any]) -> None:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        pieces = (reaction.text or "").split(" ")
        pieces = pieces[:1] + [f" {piece}" for piece in pieces[1:]]
        whole = reaction.ending == "whole"
        await response.write(b": a comment, as servers send to keep a connection\n\n")
        await send(_chunk(call.body, {"role": "assistant", "content": ""} if reaction.choices else None))
        if not reaction.choices:
            pieces = []
        for piece in pieces if whole else pieces[: len(pieces) // 2]:
            await send(_chunk(call.body, {"content": piece}))
        if reaction.ending == "reset":
            await asyncio.sleep(0.05)  # so that the pieces arrive: a reset discards what is under way
            _reset(request)
        elif reaction.ending == "error":
            await send({"error": {"message": self.error_text, "type": "server_error", "code": 503}})
        elif reaction.ending == "stall":
            await asyncio.sleep(60)
        if not whole:
            return response
        if reaction.choices:
            call.said = reaction.text
            for place, wanted in enumerate(reaction.calls):  # as OpenAI tells them: the arguments in pieces
                function, half = wanted["function"], len(wanted["function"]["arguments"]) // 2
                head = {**wanted, "index": place, "function": {**function, "arguments": ""}}
                await send(_chunk(call.body, {"tool_calls": [head]}))
                for piece in (function["arguments"][:half], function["arguments"][half:]):
                    delta = {"index": place, "function": {"arguments": piece}}
                    await send(_chunk(call.body, {"tool_calls": [delta]}))
            await send(_chunk(call.body, {}, reaction.finish))
        if (call.body.get("stream_options") or {}).get("include_usage"):
            await send(_chunk(call.body, None) | {"usage": _usage(reaction)})
        await response.write(b"data: [DONE]\n\n")
        return response


def _reset(request: web.Request) -> None:
    """End the connection with a TCP reset."""
    assert request.transport is not None
    raw = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _usage(reaction: Reaction) -> dict[str, int]:
    asked, said = reaction.prompt_tokens, reaction.completion_tokens
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _completion(body: dict[str, Any], reaction: Reaction) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reaction.text}
    if reaction.calls:
        message["tool_calls"] = list(reaction.calls)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reaction.finish}][: reaction.choices],
        "usage": _usage(reaction),
    }


def _chunk(body: dict[str, Any], delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return head | {"choices": choices}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": n, "embedding": [float(len(text)), 1.0, 0.0]}
        for n, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}

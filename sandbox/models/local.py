"""Local transformers models: one worker thread owns the weights and serves all seats in mixed batches.

Requests of many seats and adapters that wait at the same time become one batch. The event loop never
waits for a forward pass. torch is imported with the first request.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.errors import ModelError, ModelUnavailable, SandboxError
from sandbox.exchange import ChatMessage, Reply, Request, Usage
from sandbox.models.base import OnDelta, spoken
from sandbox.models.context import trim
from sandbox.ratings import from_distribution
from sandbox.text import storable

QUIET_S = 0.004
"""A batch is closed when no request has come for this long."""


@dataclass(slots=True, eq=False)
class _Job:
    request: Request
    adapter: str
    future: asyncio.Future[Reply]
    loop: asyncio.AbstractEventLoop
    on_delta: OnDelta | None
    submitted: float = field(default_factory=time.perf_counter)
    cancelled: bool = False

    @property
    def is_judgement(self) -> bool:
        """Whether one forward pass is all it needs; such jobs don't wait for others' words."""
        return self.request.scale is not None and not self.request.form[1] and self.request.method == "best"

    def resolve(self, reply: Reply | SandboxError) -> None:
        """Hand over the outcome; may be called in any thread."""

        def settle() -> None:
            if self.future.done():
                return
            if isinstance(reply, SandboxError):
                self.future.set_exception(reply)
            else:
                self.future.set_result(reply)

        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle)


class LocalWorker:
    """Owns one base model and its adapters. ``adapters`` is the folder in which they lie by name."""

    def __init__(
        self,
        name: str,
        cache: Path,
        adapters: Path,
        *,
        max_batch: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        on_load: Callable[[str], None] | None = None,
    ) -> None:
        self._name = name
        self._cache = cache
        self._adapters = adapters
        self._max_batch = max_batch
        self._device = device
        self._dtype = dtype
        self._on_load = on_load or (lambda _: None)
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loaded: Any = None
        # PEFT takes few names for adapters, so it is told our own. A refusal is remembered.
        self._attached: dict[str, str] = {}
        self._refused: dict[str, ModelError] = {}
        self._scales: dict[tuple[str, tuple[int, ...]], Any] = {}

    async def run(self, request: Request, adapter: str, on_delta: OnDelta | None) -> Reply:
        """Queue one request and wait for its reply; cancelling frees its place in the batch."""
        loop = asyncio.get_running_loop()
        job = _Job(request, adapter, loop.create_future(), loop, on_delta)
        with self._changed:
            if self._closed:
                raise ModelUnavailable(f"The model local/{self._name} has been closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"local/{self._name}", daemon=True)
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await job.future
        except asyncio.CancelledError:
            job.cancelled = True
            raise

    def close(self) -> None:
        """Refuse what waits, end after the current batch, and let the weights go."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.cancelled = True
                job.resolve(ModelUnavailable(f"The model local/{self._name} has been closed."))
            self._waiting = []
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._loaded = None

    def _serve(self) -> None:
        while batch := self._next_batch():
            live = [job for job in batch if not job.cancelled]
            try:
                if live:
                    self._answer(live)
            except SandboxError as error:
                _fail(live, error)
            except Exception as error:  # noqa: BLE001 - whatever the libraries raise must reach those who wait
                _fail(live, ModelUnavailable(f"local/{self._name} failed: {type(error).__name__}: {error}"))

    def _next_batch(self) -> list[_Job]:
        """Wait for requests, then for quiet, and take those that fit together; empty when closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            while not self._closed:
                count = len(self._waiting)
                self._changed.wait(QUIET_S)
                if len(self._waiting) == count:
                    break
            if self._closed:
                return []
            kind = self._waiting[0].is_judgement
            alike = [job for job in self._waiting if job.is_judgement == kind]
            batch = alike[: self._max_batch]
            taken = set(map(id, batch))
            self._waiting = [job for job in self._waiting if id(job) not in taken]
            return batch

    def _answer(self, jobs: Sequence[_Job]) -> None:
        self._load()
        from sandbox.models.generation import generate

        able = []
        for job in jobs:
            try:
                self._attach(job.adapter)
                able.append(job)
            except ModelError as error:
                job.resolve(error)
        self._load()  # anew, if an adapter that did not fit has spoilt it
        rows = []
        for job in able:
            try:
                self._attach(job.adapter)
                rows.append(self._row(job))
            except ModelError as error:
                job.resolve(error)
        if rows:
            generate(self._loaded.model, self._loaded.tokenizer, rows)

    def _load(self) -> None:
        if self._loaded is None:
            from sandbox.models import weights

            self._on_load(self._name)
            self._loaded = weights.load(self._name, self._cache, device=self._device, dtype=self._dtype)

    def _attach(self, adapter: str) -> None:
        if not adapter or adapter in self._attached:
            return
        if adapter in self._refused:
            raise self._refused[adapter]
        from sandbox.models import weights

        self._load()
        known = f"adapter_{len(self._attached)}"
        try:
            self._loaded = weights.attach(self._loaded, known, self._adapters / adapter)
            self._attached[adapter] = known
        except ModelError as error:
            self._refused[adapter] = error
            self._loaded = None  # a first attachment that fails leaves the model half changed
            self._attached = {}
            raise

    def _row(self, job: _Job) -> Any:
        from sandbox.models.generation import Row

        request = job.request
        tokenizer = self._loaded.tokenizer
        judged = self._scale_tokens(request)
        prefix, tokens = judged if judged else ([], None)
        limit = self._loaded.window - request.sampling.max_tokens - len(prefix) - 16
        messages, trimmed = request.messages, 0
        prompt = encode_chat(tokenizer, messages)
        if len(prompt) > limit:
            messages, trimmed = trim(messages, limit, lambda m: len(encode_chat(tokenizer, m)))
            prompt = encode_chat(tokenizer, messages)
        reason = request.form[1] if judged else ""
        forced = tokenizer.encode(f"\n{reason}:", add_special_tokens=False) if reason else []
        row = Row(
            prompt=prompt + prefix,
            max_tokens=request.sampling.max_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=request.seed,
            stops=(*request.sampling.stop, "\n") if reason else request.sampling.stop,
            scale_tokens=tokens,
            forced=forced,
            adapter=self._attached.get(job.adapter, ""),
            is_cancelled=lambda: job.cancelled,
            on_text=_streaming(job),
        )
        row.on_done = lambda: self._done(job, row, trimmed)
        return row

    def _scale_tokens(self, request: Request) -> Any:
        """How the scale is read by likelihood; None where it can't be, or isn't wanted."""
        from sandbox.models.generation import scale_tokens

        if request.scale is None or request.method != "best":
            return None
        key = (request.form[0], request.scale.values)
        if key not in self._scales:
            self._scales[key] = scale_tokens(self._loaded.tokenizer, *key)
        return self._scales[key]

    def _done(self, job: _Job, row: Any, trimmed: int) -> None:
        request = job.request
        usage = Usage(
            model=f"local/{self._name}" + (f"#{job.adapter}" if job.adapter else ""),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.tokens),
            latency_ms=round((time.perf_counter() - job.submitted) * 1000, 1),
            trimmed=trimmed,
            finish=row.finish,
        )
        try:
            if row.probabilities is None or request.scale is None:
                job.resolve(Reply(spoken(row.said, request.purpose), None, usage))
                return
            words = storable(row.said).strip()
            value = max(row.probabilities, key=row.probabilities.__getitem__)
            text = f"{request.form[0]}: {value}" + (
                f"\n{request.form[1]}: {words}" if request.form[1] else ""
            )
            job.resolve(Reply(text, from_distribution(row.probabilities, request.scale, words), usage))
        except ModelError as error:
            job.resolve(error)


class LocalModel:
    """One base model, or one of its adapters, as a model like any other."""

    def __init__(self, worker: LocalWorker, adapter: str = "") -> None:
        self._worker = worker
        self._adapter = adapter

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply to one request, made in a batch with others. Raises ``ModelError``."""
        return await self._worker.run(request, self._adapter, on_delta)


def encode_chat(tokenizer: Any, messages: Sequence[ChatMessage]) -> list[int]:
    """The prompt's tokens by the model's chat template, up to where its reply begins.

    A template that takes no system role gets it as the head of the first user message; a tokenizer
    without a template gets plain "role: text" lines.
    """
    messages = [message._replace(content=_disarmed(tokenizer, message.content)) for message in messages]
    if not tokenizer.chat_template:
        text = "\n\n".join(f"{message.role.title()}: {message.content}" for message in messages)
        return list(tokenizer.encode(f"{text}\n\nAssistant:"))
    from jinja2 import TemplateError

    plain = [{"role": message.role, "content": message.content} for message in messages]

    try:
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        text = tokenizer.apply_chat_template(
            _without_system(messages), tokenize=False, add_generation_prompt=True
        )
    return list(tokenizer.encode(text, add_special_tokens=False))


def _disarmed(tokenizer: Any, content: str) -> str:
    """``content`` in which no text reads as one of the model's own control tokens."""
    for token in tokenizer.all_special_tokens:
        if token in content:
            content = content.replace(token, f"{token[0]} {token[1:]}")
    return content


def _without_system(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    system = "\n".join(message.content for message in messages if message.role == "system")
    rest = [{"role": m.role, "content": m.content} for m in messages if m.role != "system"]
    if rest and system:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest


def _streaming(job: _Job) -> Callable[[str], None] | None:
    if job.on_delta is None:
        return None
    on_delta = job.on_delta

    def forward(piece: str) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            job.loop.call_soon_threadsafe(on_delta, storable(piece))

    return forward


def _fail(jobs: Sequence[_Job], error: SandboxError) -> None:
    for job in jobs:
        job.resolve(error)

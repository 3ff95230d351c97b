"""Local transformers models: one worker thread owns the weights and serves all seats in mixed batches.

Requests of many seats and adapters that wait at the same time become one batch. The event loop never
waits for a forward pass. torch is imported with the first request. Besides requests it continues and scores
plain text, without a chat template.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.errors import ContextOverflow, ModelError, ModelUnavailable, SandboxError, UserError
from sandbox.exchange import Reply, Request, Sampling, Usage
from sandbox.models.base import OnDelta, spoken
from sandbox.models.context import trim
from sandbox.models.jobs import Continued, Continuing, Job, Prompt, Scoring, fail, streaming
from sandbox.models.scales import ScaleTokens, scale_tokens
from sandbox.models.templates import encode_chat
from sandbox.ratings import from_distribution
from sandbox.text import storable

if TYPE_CHECKING:
    from sandbox.models.generation import Scored
    from sandbox.models.guides import Guide, Guides

QUIET_S = 0.004
"""A batch is closed when no request has come for this long."""


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
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loaded: Any = None
        # PEFT takes few names for adapters, so it is told our own. A refusal is remembered.
        self._attached: dict[str, str] = {}
        self._refused: dict[str, ModelError] = {}
        self._guides: Guides | None = None
        self._scales: dict[tuple[str, tuple[int, ...]], ScaleTokens | None] = {}

    async def run(self, request: Request, adapter: str, on_delta: OnDelta | None) -> Reply:
        """Queue one request and wait for its reply; cancelling frees its place in the batch."""
        reply: Reply = await self._queue(request, adapter, on_delta)
        return reply

    async def complete(
        self, prompt: Prompt, adapter: str, sampling: Sampling, seed: int, on_delta: OnDelta | None = None
    ) -> Continued:
        """What follows a plain prompt, without a chat template.

        Raises ``ContextOverflow`` where prompt and reply don't fit into the window: nothing is cut.
        """
        continued: Continued = await self._queue(Continuing(prompt, sampling, seed), adapter, on_delta)
        return continued

    async def score(self, prompt: Prompt, adapter: str, top: int = 0, *, extend: bool = False) -> Scored:
        """How likely each token of a plain prompt is after those before it, in one forward pass.

        ``top`` are the most likely tokens told at each place; with ``extend`` the likeliest next token is
        added. Raises ``ContextOverflow``.
        """
        scored: Scored = await self._queue(Scoring(prompt, top, extend), adapter, None)
        return scored

    async def _queue(
        self, work: Request | Continuing | Scoring, adapter: str, on_delta: OnDelta | None
    ) -> Any:
        loop = asyncio.get_running_loop()
        job = Job(work, adapter, loop.create_future(), loop, on_delta)
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
                fail(live, error)
            except Exception as error:  # noqa: BLE001 - whatever the libraries raise must reach those who wait
                fail(live, ModelUnavailable(f"local/{self._name} failed: {type(error).__name__}: {error}"))

    def _next_batch(self) -> list[Job]:
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
            kind = self._waiting[0].kind
            alike = [job for job in self._waiting if job.kind == kind]
            batch = alike[: self._max_batch]
            taken = set(map(id, batch))
            self._waiting = [job for job in self._waiting if id(job) not in taken]
            return batch

    def _answer(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if self._has_adapter(job)]
        if not jobs:
            return
        self._load()
        from sandbox.models.generation import generate, score

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
            run = score if jobs[0].kind == "score" else generate
            run(self._loaded.model, self._loaded.tokenizer, rows)

    def _has_adapter(self, job: Job) -> bool:
        """Whether the job's adapter has files; to find out otherwise would take loading the model first."""
        if not job.adapter:
            return True
        from sandbox.models import weights

        try:
            weights.require_adapter(self._adapters / job.adapter)
        except ModelError as error:
            job.resolve(error)
            return False
        return True

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

    def _row(self, job: Job) -> Any:
        match job.work:
            case Scoring():
                return self._scoring(job, job.work)
            case Continuing():
                return self._continuing(job, job.work)
        return self._requested(job, job.work)

    def _scoring(self, job: Job, work: Scoring) -> Any:
        from sandbox.models.generation import ScoreRow

        lead, prompt = self._plain(work.prompt, 0)
        adapter = self._attached.get(job.adapter, "")
        row = ScoreRow(prompt, lead, work.top, work.extend, adapter, is_cancelled=lambda: job.cancelled)
        row.on_done = job.resolve
        return row

    def _continuing(self, job: Job, work: Continuing) -> Any:
        from sandbox.models.generation import Row

        lead, prompt = self._plain(work.prompt, work.sampling.max_tokens)
        if not prompt and not lead:
            lead = [self._loaded.tokenizer.eos_token_id]
        prompt = lead + prompt
        row = Row(
            prompt=prompt,
            max_tokens=work.sampling.max_tokens,
            temperature=work.sampling.temperature,
            top_p=work.sampling.top_p,
            seed=work.seed,
            stops=work.sampling.stop,
            adapter=self._attached.get(job.adapter, ""),
            is_cancelled=lambda: job.cancelled,
            on_text=streaming(job),
        )
        row.on_done = lambda: job.resolve(
            Continued(
                storable(row.said), len(lead), tuple(prompt), tuple(row.tokens), self._usage(job, row, 0)
            )
        )
        return row

    def _plain(self, prompt: Prompt, more: int) -> tuple[list[int], list[int]]:
        """The tokens that every text begins with, and those of a plain prompt, with room for ``more``."""
        tokenizer = self._loaded.tokenizer
        if isinstance(prompt, str):
            ids = tokenizer.encode(prompt, add_special_tokens=False)
            whole = tokenizer.encode("x")
            lead = whole[: len(whole) - len(tokenizer.encode("x", add_special_tokens=False))]
            lead = lead if tokenizer.bos_token_id in lead else []
        else:
            ids, lead = list(prompt), []
            if ids and not 0 <= min(ids) <= max(ids) < len(tokenizer):
                raise UserError(f"Token ids of local/{self._name} go from 0 to {len(tokenizer) - 1}.")
        if len(lead) + len(ids) + more > self._loaded.window:
            raise ContextOverflow(
                f"The prompt takes {len(lead) + len(ids)} tokens"
                + (f" and its continuation {more}" if more else "")
                + f"; the window of local/{self._name} is {self._loaded.window}. Shorten it."
            )
        return lead, ids

    def _requested(self, job: Job, request: Request) -> Any:
        from sandbox.models.generation import Row

        tokenizer = self._loaded.tokenizer
        judged = self._scale_tokens(request)
        prefix = judged.prefix if judged else []
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
            guide=self._guide(request),
            max_tokens=request.sampling.max_tokens,
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            seed=request.seed,
            stops=(*request.sampling.stop, "\n") if reason else request.sampling.stop,
            scale_tokens=judged.values if judged else None,
            longer=judged.longer if judged else None,
            forced=forced,
            adapter=self._attached.get(job.adapter, ""),
            is_cancelled=lambda: job.cancelled,
            on_text=streaming(job),
        )
        row.on_done = lambda: self._done(job, request, row, trimmed)
        return row

    def _guide(self, request: Request) -> Guide | None:
        """What leads the reply, if it has to have a form."""
        if request.format is None:
            return None
        from sandbox.models.generation import end_tokens
        from sandbox.models.guides import Guides

        loaded = self._loaded
        if self._guides is None:
            width = loaded.model.get_output_embeddings().weight.shape[0]
            self._guides = Guides(loaded.tokenizer, width, end_tokens(loaded.model, loaded.tokenizer))
        return self._guides.guide(request.format)

    def _scale_tokens(self, request: Request) -> ScaleTokens | None:
        """How the scale is read by likelihood; None where it can't be, or isn't wanted.

        A value of two tokens is read only where no reason is to follow: both can't be forced.
        """
        if request.scale is None or request.method != "best":
            return None
        key = (request.form[0], request.scale.values)
        if key not in self._scales:
            self._scales[key] = scale_tokens(self._loaded.tokenizer, *key)
        found = self._scales[key]
        return None if found and found.longer and request.form[1] else found

    def _usage(self, job: Job, row: Any, trimmed: int) -> Usage:
        return Usage(
            model=f"local/{self._name}" + (f"#{job.adapter}" if job.adapter else ""),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.tokens),
            latency_ms=round((time.perf_counter() - job.submitted) * 1000, 1),
            trimmed=trimmed,
            finish=row.finish,
        )

    def _done(self, job: Job, request: Request, row: Any, trimmed: int) -> None:
        usage = self._usage(job, row, trimmed)
        try:
            if row.guide is not None:
                row.guide.check()
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

"""The packaged model: tokens a second in batches and one at a time, beside transformers' own ``generate``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import median, peak_memory_mb, size, spread
from sandbox.blueprint import read_society
from sandbox.exchange import ChatMessage, Request, Sampling
from sandbox.models import weights
from sandbox.models.local import LocalModel, LocalWorker
from sandbox.models.templates import encode_chat
from sandbox.settings import load_settings

SEATS = size(32, 2)
TOKENS = size(48, 4)
REPEATS = size(3, 1)
SINGLES = size(2, 1)


def requests(count: int) -> list[Request]:
    """Draft requests of the bundled questions that go on for exactly ``TOKENS`` tokens, mostly."""
    questions = read_society("scripted").questions
    return [
        Request(
            step="draft",
            seat=f"S{n}",
            purpose="draft",
            messages=(
                ChatMessage("system", "You answer at length and never stop early."),
                ChatMessage("user", f"Write a long essay: {questions[n % len(questions)].text}"),
            ),
            sampling=Sampling(TOKENS, 0.0, 1.0),
            seed=n,
        )
        for n in range(count)
    ]


async def ours(worker: LocalWorker, asked: list[Request], *, together: bool) -> tuple[int, float]:
    """Tokens and seconds of our path."""
    model = LocalModel(worker)
    started = time.perf_counter()
    if together:
        replies = await asyncio.gather(*(model.generate(request) for request in asked))
    else:
        replies = [await model.generate(request) for request in asked]
    return sum(reply.usage.completion_tokens for reply in replies), time.perf_counter() - started


def bare(loaded: Any, asked: list[Request]) -> tuple[int, float]:
    """Tokens and seconds of ``generate`` on the same batch."""
    import torch

    model, tokenizer = loaded.model, loaded.tokenizer
    started = time.perf_counter()
    prompts = [encode_chat(tokenizer, request.messages) for request in asked]
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**batch, do_sample=False, max_new_tokens=TOKENS)
    seconds = time.perf_counter() - started
    new = out[:, batch["input_ids"].shape[1] :]
    ends = model.generation_config.eos_token_id
    made = sum(int((row != ends).sum()) for row in new)
    tokenizer.batch_decode(new, skip_special_tokens=True)
    return made, seconds


def cold_and_warm(cache: Path) -> tuple[float, float]:
    """Seconds to load the packaged model in a new process, the first time and later."""
    program = (
        "import sys, time; from pathlib import Path; began = time.perf_counter()\n"
        "from sandbox.models import weights; weights.load('smollm2', Path(sys.argv[1]))\n"
        "print(time.perf_counter() - began)"
    )
    with TemporaryDirectory() as empty:
        first = _timed(program, empty)
    return first, median([_timed(program, str(cache)) for _ in range(REPEATS)])


def _timed(program: str, argument: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program, argument], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    settings = load_settings()
    weights.locate(weights.PACKAGED, settings.cache_dir)
    first, later = cold_and_warm(settings.cache_dir)
    print(f"loading: {first:.1f} s the first time, {later:.1f} s later, with imports (reach: below 5 later)")
    worker = LocalWorker(weights.PACKAGED, settings.cache_dir, settings.adapters_dir, max_batch=SEATS)
    loaded = weights.load(weights.PACKAGED, settings.cache_dir)
    batch = requests(SEATS)
    batched, single, plain = [], [], []
    asyncio.run(ours(worker, batch[:2], together=True))
    for _ in range(REPEATS):
        tokens, seconds = asyncio.run(ours(worker, batch, together=True))
        batched.append(tokens / seconds)
        tokens, seconds = bare(loaded, batch)
        plain.append(tokens / seconds)
        tokens, seconds = asyncio.run(ours(worker, batch[:SINGLES], together=False))
        single.append(tokens / seconds)
    print(f"tokens a second, median of {REPEATS} (lowest–highest), {TOKENS} tokens a reply")
    print(f"  {SEATS} seats in a batch: {spread(batched)}")
    print(f"  one at a time:      {spread(single)}; ratio {median(batched) / median(single):.1f} (reach: 9)")
    print(f"  bare generate:      {spread(plain)}; ratio {median(batched) / median(plain):.2f} (reach: 0.9)")
    print(f"peak memory: {peak_memory_mb():.0f} MB (two copies of the weights)")
    worker.close()


if __name__ == "__main__":
    main()

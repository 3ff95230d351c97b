"""Likelihoods of an evaluation's items, a second: ours beside lm-eval's Hugging Face backend, in one process.

The packaged model, float32. lm-eval's batch size is whichever of three is fastest; ours finds its own, and
its search for a way counts. Both get the same contexts and continuations; the largest difference between
their log-likelihoods is printed too. Give the folder of benchmark files as an argument or in
SANDBOX_BENCHMARK_DATA; without it, the bundled memories are scored.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from benchmarks.measure import median, size, spread
from finetune.evaluate import suites
from finetune.evaluate.items import Call, Likelihood, chosen
from finetune.evaluate.likelihood import Scorer
from sandbox.models import weights
from sandbox.running import Store
from sandbox.settings import load_settings
from sandbox.sources import BUNDLED, read_memories

T = TypeVar("T")
NAMES = ("truthfulqa", "ethics-deontology", "ethics-justice", "ethics-justice-hi", "hh-pref")
ITEMS = {"truthfulqa": size(8, 2), "hh-pref": size(12, 2), "bundled memories": size(48, 2)}
OTHERS = size(40, 2)
BATCHES = (1, 8, 32)[: size(3, 1)]
REPEATS = size(3, 1)


def bundled() -> list[list[Call]]:
    """Questions with good and bad answers that ship with us."""
    by_question: dict[str, list[Call]] = {}
    for memory in read_memories(BUNDLED):
        asked = f"Q: {memory.question}\nA:"
        by_question.setdefault(asked, []).append(Call(asked, f" {memory.response}"))
    return list(by_question.values())


def sets(folder: str) -> dict[str, list[list[Call]]]:
    """What is scored, by name: for every item its calls."""
    found = {"bundled memories": bundled()[: ITEMS["bundled memories"]]}
    if not folder:
        return found
    settings = load_settings()
    store = Store.open("sqlite://")
    for name in NAMES:
        suite: Any = suites.load(name, {"": folder}, settings, store)
        some = chosen(suite.items, ITEMS.get(name, OTHERS), 0, name)
        found[name] = [[as_text(call) for call in suite.calls(item)] for item in some]
    return found


def as_text(call: Call) -> Call:
    """A call as lm-eval can take it: a chat as plain text."""
    if isinstance(call.context, str):
        return call
    told = "".join(f"{turn.role.capitalize()}: {turn.content}\n\n" for turn in call.context)
    return Call(f"{told}Assistant:", f" {call.continuation}")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def ours(loaded: Any, asked: Sequence[Sequence[Call]]) -> list[Likelihood]:
    found: dict[int, list[Likelihood]] = {}
    Scorer(loaded.model, loaded.tokenizer, loaded.window).score(asked, found.__setitem__)
    return [one for place in range(len(asked)) for one in found[place]]


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SANDBOX_BENCHMARK_DATA", "")
    loaded = weights.load("smollm2", load_settings().cache_dir, device="cpu", dtype="float32")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    for name, asked in sets(folder).items():
        print(f"{name}: {beside(loaded, asked)}", flush=True)


def theirs(loaded: Any, asked: Sequence[Sequence[Call]], batch: int) -> list[tuple[float, bool]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    loaded.model.config._attn_implementation = "sdpa"
    backend = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch)
    flat = [
        Instance("loglikelihood", {}, (call.context, call.continuation), 0, ("", 0, 1))
        for calls in asked
        for call in calls
    ]
    found: list[tuple[float, bool]] = backend.loglikelihood(flat, disable_tqdm=True)
    return found


def beside(loaded: Any, asked: Sequence[Sequence[Call]]) -> str:
    best = min(BATCHES, key=lambda batch: timed(lambda: theirs(loaded, asked[:8], batch))[0])
    own, other, ratios = [], [], []
    apart = 0.0
    for _ in range(REPEATS):
        mine, found = timed(lambda: ours(loaded, asked))
        his, reference = timed(lambda: theirs(loaded, asked, best))
        own.append(len(asked) / mine)
        other.append(len(asked) / his)
        ratios.append(his / mine)
        apart = max(apart, *(abs(a.logprob - b[0]) for a, b in zip(found, reference, strict=True)))
    return (
        f"{len(asked)} items, {sum(map(len, asked))} calls; ours {spread(own)} items a second, lm-eval "
        f"{spread(other)} (batches of {best}); {median(ratios):.2f} times as fast; "
        f"largest difference {apart:.1e}"
    )


if __name__ == "__main__":
    main()

"""A training step with LoRA on the packaged model: shared queries, one by one, as published, and TRL's DPO.

Each way runs in a process of its own, on the same tokens: a query of 90 and replies of 80, 3 or 8 of them.
``published`` does what the paper's script does in a step: a row a candidate, labels given to the model (whose
own loss nobody reads), logits of all places copied without the last, one loss a row, anomalies looked for.
``blocks`` is how we train; ``frugal`` the same with ``--checkpointing``.
What is printed is seconds a group (a query with all its candidates): forward, backward and update.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.measure import apart, median, peak_memory_mb, size, spread

QUERY, REPLY, STEPS = size(90, 9), size(80, 8), size(6, 2)
WAYS = ("published", "apart", "blocks", "frugal", "dpo")
PEERS = ("published", "apart")


def main() -> int:
    """Print the table."""
    from sandbox.models.weights import best_dtype

    best = str(best_dtype("cpu")).removeprefix("torch.")
    kinds = dict.fromkeys(("float32", best)[: size(2, 1)])
    best = [*kinds][-1]
    for candidates in (3, 8)[: size(2, 1)]:
        print(f"{candidates} candidates, a query of {QUERY} tokens, replies of {REPLY}")
        known: dict[tuple[str, str], dict[str, Any]] = {}
        for kind in kinds:
            for way in WAYS:
                known[way, kind] = apart("benchmarks.finetune", way, kind, candidates)
                print(_line(way, kind, known), flush=True)
        best_way = known["blocks", best]
        if best != "float32":
            dpo = median(known["dpo", "float32"]["seconds"]) / median(best_way["seconds"])
            memory = best_way["memory"] / known["dpo", "float32"]["memory"]
            print(f"  shared in {best} beside DPO in float32: {dpo:.1f} times, {memory:.2f} of its memory")
    return 0


def _line(way: str, kind: str, known: dict[tuple[str, str], dict[str, Any]]) -> str:
    found = known[way, kind]
    told = f"  {way:<7} {kind:<9} {spread(found['seconds'])} s a group, {found['memory']:,.0f} MB"
    if way in ("blocks", "frugal"):
        ratios = {peer: median(known[peer, kind]["seconds"]) / median(found["seconds"]) for peer in PEERS}
        told += f"; {ratios['apart']:.2f} times as fast as one by one, {ratios['published']:.2f} as published"
    if way == "dpo":
        ratio = median(found["seconds"]) / median(known["blocks", kind]["seconds"])
        memory, least = (known[way, kind]["memory"] / found["memory"] for way in ("blocks", "frugal"))
        told += f"; shared is {ratio:.2f} times as fast, at {memory:.2f} of its memory ({least:.2f} frugally)"
    return told


def measure(way: str, kind: str, candidates: int) -> None:
    """One way, in this process."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    from peft import LoraConfig, get_peft_model

    from finetune.encode import Encoded, Reply
    from sandbox.models import weights
    from sandbox.settings import load_settings

    loaded = weights.load(weights.PACKAGED, load_settings().cache_dir, device="cpu", dtype=kind)
    model: Any = get_peft_model(loaded.model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM"))
    model.train()
    chance = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in torch.randint(100, 40_000, (count,), generator=chance)]

    row = Encoded(
        tokens(QUERY),
        [Reply(tokens(REPLY), [True] * REPLY) for _ in range(candidates)],
        [float(7 - number % 7) for number in range(candidates)],
        7,
        0,
    )
    if way == "dpo":
        seconds = _dpo(model, loaded, row)
    elif way == "published":
        seconds = _published(model, row)
    else:
        if way == "frugal":
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        seconds = _ours(model, row, "apart" if way == "apart" else "blocks")
    print(json.dumps({"seconds": seconds[1:], "memory": peak_memory_mb()}))


def _ours(model: Any, row: Any, way: Any) -> list[float]:
    import torch

    from finetune.collate import rated
    from finetune.loss import stable_alignment
    from finetune.scoring import score

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ratings = rated([row])
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        mean = score(model, [row], way, 0).mean
        stable_alignment(mean, ratings.ratings, ratings.points).loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds


def _published(model: Any, row: Any) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    from finetune.loss import stable_alignment

    torch.autograd.set_detect_anomaly(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokens = torch.tensor([[*row.query, *reply.tokens] for reply in row.replies])
    labels = tokens.clone()
    labels[:, : len(row.query)] = -100
    ratings, points = torch.tensor([row.ratings]), torch.tensor([float(row.points)])
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        told = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels)
        shifted, targets = told.logits[:, :-1].contiguous(), labels[:, 1:].contiguous()
        each = [cross_entropy(line, target) for line, target in zip(shifted, targets, strict=True)]
        stable_alignment(torch.stack(each).unsqueeze(0).float(), ratings, points).loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds


def _dpo(model: Any, loaded: Any, row: Any) -> list[float]:
    """TRL's own loss on its own batch, of the best candidate with each of the others."""
    import tempfile

    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from finetune.dpo import pairs_of

    lesser = [7.0, *[1.0] * (len(row.ratings) - 1)]
    pairs = pairs_of(type(row)(row.query, row.replies, lesser, row.points, row.place))

    class Tokenized(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    with tempfile.TemporaryDirectory() as folder:
        options = DPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False
        )
        trainer = Tokenized(
            model=model,
            args=options,
            train_dataset=Dataset.from_list(pairs),
            processing_class=loaded.tokenizer,
        )
        batch = trainer.data_collator([dict(pair) for pair in pairs])
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            trainer.compute_loss(trainer.model, dict(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())

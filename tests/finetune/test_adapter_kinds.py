"""Adapters of other kinds than plain LoRA, in one society with others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from sandbox.exchange import Sampling
from sandbox.models.local import LocalWorker

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def lora(**more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **more)


def ia3() -> Any:
    from peft import IA3Config

    return IA3Config(
        target_modules=["k_proj", "v_proj"],
        feedforward_modules=[],
        init_ia3_weights=False,
        task_type="CAUSAL_LM",
    )


@pytest.fixture
def seats(base: Path, tmp_path: Path) -> Iterator[Callable[..., LocalWorker]]:
    """Makes a worker with the adapters that are named."""
    import torch
    from peft import get_peft_model

    workers = []

    def make(**configs: Any) -> LocalWorker:
        for seed, (name, config) in enumerate(configs.items()):
            torch.manual_seed(seed)
            adapted = get_peft_model(tiny.model(), config)
            for key, parameter in adapted.named_parameters():
                if "ia3" in key or "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.5)
            adapted.save_pretrained(str(tmp_path / "adapters" / name))
        workers.append(LocalWorker(str(base), tmp_path, tmp_path / "adapters", device="cpu", dtype="float32"))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def said(worker: LocalWorker, *adapters: str) -> list[tuple[int, ...]]:
    """The tokens that each adapter says, all asked at once."""

    async def all_of_them() -> list[tuple[int, ...]]:
        asked = (worker.complete("be kind and", name, Sampling(6, 0.0, 1.0), 1) for name in adapters)
        return [continued.tokens for continued in await asyncio.gather(*asked)]

    return asyncio.run(all_of_them())


def test_a_dora_adapter_speaks_beside_others_and_the_base(seats: Callable[..., LocalWorker]) -> None:
    worker = seats(plain=lora(), other=lora(), dora=lora(use_dora=True))
    names = ("plain", "dora", "", "other", "dora")
    alone = [said(worker, name)[0] for name in names]
    assert said(worker, *names) == alone
    assert len(set(alone[:3])) == 3


def test_an_adapter_that_is_no_lora_speaks_beside_the_base(seats: Callable[..., LocalWorker]) -> None:
    worker = seats(scaled=ia3())
    alone = [said(worker, name)[0] for name in ("scaled", "")]
    assert said(worker, "scaled", "", "scaled") == [alone[0], alone[1], alone[0]]
    assert alone[0] != alone[1]


def test_scores_go_through_the_same_adapters(seats: Callable[..., LocalWorker]) -> None:
    worker = seats(plain=lora(), dora=lora(use_dora=True))

    async def scored(*adapters: str) -> list[tuple[float | None, ...]]:
        found = await asyncio.gather(*(worker.score("be kind and ask", name) for name in adapters))
        return [one.logprobs for one in found]

    names = ("plain", "dora", "")
    alone = [asyncio.run(scored(name))[0] for name in names]
    for together, by_itself in zip(asyncio.run(scored(*names)), alone, strict=True):
        assert together[1:] == pytest.approx(by_itself[1:], abs=1e-4)
    assert len({round(values[-1] or 0, 2) for values in alone}) == 3

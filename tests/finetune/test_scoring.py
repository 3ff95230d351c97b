"""Candidates' losses: queries shared or not, against what one forward pass a candidate gives."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import tiny
import torch

from finetune.encode import Encoded, Reply
from finetune.scoring import WAYS, Way, find_way, score


def frozen_head(kind: str = "llama", **changes: Any) -> Any:
    """A model whose output head is not trained, as beside adapters."""
    model = tiny.model(kind, **changes)
    model.get_output_embeddings().requires_grad_(False)
    return model


def rows(sizes: list[tuple[int, list[int]]], seed: int = 0) -> list[Encoded]:
    chance = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [chance.randrange(3, 300) for _ in range(count)]

    return [
        Encoded(
            tokens(asked),
            [Reply(tokens(said), [True] * said) for said in replies],
            [float(1 + place % 7) for place in range(len(replies))],
            7,
            number,
        )
        for number, (asked, replies) in enumerate(sizes)
    ]


def alone(model: Any, row: Encoded, reply: Reply) -> float:
    """A candidate's mean loss, by the plainest means: one row, one pass, one sum."""
    ids = torch.tensor([row.query + reply.tokens])
    with torch.no_grad():
        shares = model(input_ids=ids).logits[0].log_softmax(dim=-1)
    losses = [
        -shares[len(row.query) + place - 1, token].item()
        for place, (token, counts) in enumerate(zip(reply.tokens, reply.counts, strict=True))
        if counts
    ]
    return sum(losses) / len(losses)


SIZES = [(9, [5, 12, 1]), (3, [2, 30]), (17, [8])]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_each_candidates_own_loss(way: Way) -> None:
    model, batch = frozen_head(), rows(SIZES)
    found = score(model, batch, way, pad=0).mean
    for number, row in enumerate(batch):
        for place, reply in enumerate(row.replies):
            assert found[number, place].item() == pytest.approx(alone(model, row, reply), abs=1e-4)


@pytest.mark.parametrize("way", ["blocks", "fused", "shared"])
def test_every_way_gives_the_same_gradients(way: Way) -> None:
    slopes = {}
    for each in ("apart", way):
        model = frozen_head()
        weights = torch.tensor([[1.0, -0.2, 0.5], [1.0, -0.2, 0.0], [0.7, 0.0, 0.0]])
        (score(model, rows(SIZES), each, pad=0).mean * weights).sum().backward()  # type: ignore[arg-type]
        slopes[each] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert slopes["apart"].keys() == slopes[way].keys()
    for name, slope in slopes["apart"].items():
        torch.testing.assert_close(slopes[way][name], slope, rtol=1e-3, atol=1e-5)


def test_what_does_not_count_is_left_out() -> None:
    model = frozen_head()
    [row] = rows([(6, [8, 5])])
    masked = Reply(row.replies[0].tokens, [False] * 3 + [True] * 5)
    nothing = Reply(row.replies[1].tokens, [False] * 5)
    batch = [Encoded(row.query, [masked, nothing], [6.0, 2.0], 7, 0)]
    for way in WAYS:
        found = score(model, batch, way, pad=0)
        assert found.mean[0, 0].item() == pytest.approx(alone(model, row, masked), abs=1e-4)
        assert found.mean[0, 1].item() == 0
        assert found.counted.tolist() == [[5, 0]]


def test_padding_is_no_token_even_if_it_is_the_end() -> None:
    """A model whose padding is its end token: the end still counts, the padding never does."""
    model = frozen_head()
    long, short = rows([(8, [20]), (4, [3])])
    ended = Encoded(short.query, [Reply([*short.replies[0].tokens[:-1], 2], [True] * 3)], [5.0], 7, 1)
    for way in WAYS:
        found = score(model, [long, ended], way, pad=2)
        assert found.counted[1, 0] == 3
        assert found.mean[1, 0].item() == pytest.approx(alone(model, ended, ended.replies[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "way", "why"),
    [
        ("llama", "blocks", ""),
        ("mistral", "blocks", ""),
        ("gpt2", "blocks", ""),
        ("gemma2", "apart", "eager"),
        ("mamba", "apart", "position_ids"),
    ],
)
def test_a_model_is_used_in_the_fastest_way_that_it_can(kind: str, way: Way, why: str) -> None:
    model, batch = tiny.model(kind), rows(SIZES)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = find_way(model, batch, pad=0)
    if kind == "gemma2":  # its logits are capped behind the head, so that the head can't be left out
        assert found.way in ("shared", "apart")
        assert found.why
    else:
        assert found.way == way
        assert why in found.why
    values = score(model, batch, found.way, pad=0).mean
    for number, row in enumerate(batch):
        for place, reply in enumerate(row.replies):
            assert values[number, place].item() == pytest.approx(alone(model, row, reply), abs=1e-4)


def test_a_window_that_slides_is_not_overstepped() -> None:
    model = frozen_head("mistral", sliding_window=16)
    assert find_way(model, rows([(4, [5, 5])]), pad=0).way != "apart"
    found = find_way(model, rows([(14, [9, 9])]), pad=0)
    assert found.way == "apart"
    assert "16" in found.why


def test_a_sharded_head_is_left_alone() -> None:
    assert find_way(frozen_head(), rows(SIZES), pad=0, whole_head=False).way == "shared"


def test_half_precision_is_near_enough() -> None:
    model, batch = tiny.model().bfloat16(), rows(SIZES)
    model.requires_grad_(False)
    found = find_way(model, batch, pad=0)
    assert found.way == "blocks"
    one = score(model, batch, "blocks", pad=0).mean
    other = score(model, batch, "apart", pad=0).mean
    assert torch.allclose(one, other, atol=0.08)
    assert math.isfinite(float(one.sum()))

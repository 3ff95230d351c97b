"""How likely a model finds each candidate: with the query computed once for all of them, or one by one.

It knows models, no ratings and no training. Sharing takes a model that lets the caller say which token sees
which, at which position, and which positions reach the output head; ``find_way`` tries it on the model itself
and compares, rather than trusting names.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from finetune import collate
from finetune.attention import NAME, additive, layout
from finetune.collate import IGNORED
from finetune.encode import Encoded

Way = Literal["blocks", "fused", "shared", "apart"]
"""From the fastest on: ``shared`` queries; ``fused``: with a loss that keeps no logits; ``blocks``: besides,
with attention only between what sees each other. ``apart``: one by one."""
WAYS: tuple[Way, ...] = get_args(Way)
_CHUNK = 256
"""Predictions whose logits are held at a time (``fused``)."""


class Scores(NamedTuple):
    """By group and candidate: summed negative log-likelihood in nats, and how many tokens count.

    ``likeliest``, where it was asked for: whether each token that counts was the likeliest at its place.
    """

    total: Tensor
    counted: Tensor
    likeliest: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Nats a token; 0 where nothing counts."""
        return self.total / self.counted.clamp(min=1)


class Prefix(NamedTuple):
    """What all queries begin with, computed once: keys and values by layer, (1, heads, length, width)."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int


class Found(NamedTuple):
    """How a model is to be used, and why not better."""

    way: Way
    why: str = ""


def score(
    model: Any,
    rows: Sequence[Encoded],
    way: Way,
    pad: int,
    *,
    prefix: Prefix | None = None,
    likeliest: bool = False,
) -> Scores:
    """The candidates' losses, shape (groups, candidates), with gradients.

    Without gradients, queries may go on from a ``prefix`` (not one by one), and what was ``likeliest`` told.
    """
    device = next(model.parameters()).device
    if way == "apart":
        assert prefix is None
        return _score_apart(model, collate.apart(rows, pad), len(rows), device, likeliest=likeliest)
    batch = collate.shared(rows, pad)
    return _score_shared(model, rows, batch, device, way, prefix=prefix, likeliest=likeliest)


def read_prefix(model: Any, tokens: Sequence[int]) -> Prefix:
    """What a model keeps of the tokens that all queries begin with."""
    from transformers import DynamicCache

    device = next(model.parameters()).device
    cache = DynamicCache()
    ids = torch.tensor([list(tokens)], dtype=torch.long, device=device)
    model(input_ids=ids, use_cache=True, logits_to_keep=1, **{_cache_name(model): cache})
    return Prefix(tuple((layer.keys, layer.values) for layer in cache.layers), len(tokens))


def _cache_name(model: Any) -> str:
    """What a model calls what it remembers: transformers is about to change the name."""
    return "cache" if "cache" in inspect.signature(base_of(model).forward).parameters else "past_key_values"


def _cache_of(prefix: Prefix, rows: int) -> Any:
    """The prefix for so many rows; what they add is theirs alone."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for place, (keys, values) in enumerate(prefix.layers):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), place)
    return cache


def find_way(model: Any, rows: Sequence[Encoded], pad: int, *, whole_head: bool = True) -> Found:
    """The fastest way whose losses are those of candidates one by one, tried on a few rows.

    ``whole_head`` is whether this process holds all of the output head (not so when it is sharded).
    """
    why = _why_not(model, rows)
    if why:
        return Found("apart", why)
    few = sorted((row for row in rows), key=lambda row: row.length)
    few = [few[0], few[len(few) // 2]] if len(few) > 1 else few
    was_training = model.training
    own = base_of(model).config._attn_implementation
    model.eval()
    try:
        with torch.no_grad():
            wanted = score(model, few, "apart", pad).mean
            for way in _ways(base_of(model), whole_head=whole_head):
                base_of(model).config._attn_implementation = own
                try:
                    found = score(model, few, way, pad).mean
                except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
                    why = f"it does not take what that needs ({type(error).__name__})"
                    continue
                if found.shape == wanted.shape and torch.allclose(
                    found, wanted, rtol=0, atol=_tolerance(model)
                ):
                    return Found(way, why)
                why = f"its losses differ by {float((found - wanted).abs().max()):.2g}"
    finally:
        model.train(was_training)
    base_of(model).config._attn_implementation = own
    return Found("apart", why)


def _ways(base: Any, *, whole_head: bool) -> tuple[Way, ...]:
    if not whole_head:
        return ("shared",)
    # Other attention than the plain one may do more than we know of, such as capping scores.
    return WAYS[:-1] if base.config._attn_implementation in ("sdpa", NAME) else WAYS[1:-1]


def _tolerance(model: Any) -> float:
    kind = next(model.parameters()).dtype
    return 1e-4 if kind == torch.float32 else 0.08


def _why_not(model: Any, rows: Sequence[Encoded]) -> str:
    base = base_of(model)
    taken = inspect.signature(base.forward).parameters
    for name in ("position_ids", "logits_to_keep"):
        if name not in taken:
            return f"it takes no {name}"
    if getattr(base.config, "_attn_implementation", "") not in ("sdpa", "eager", NAME):
        return "its attention takes no mask of one's own"
    slides = getattr(base.config, "sliding_window", None)
    longest = max(len(row.query) + max(len(reply.tokens) for reply in row.replies) for row in rows)
    if slides and getattr(base.config, "use_sliding_window", True) and longest > slides:
        return f"it sees {slides} tokens back at most"
    return ""


def base_of(model: Any) -> Any:
    """The causal language model inside whatever wraps it."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def _score_apart(
    model: Any, batch: collate.Apart, groups: int, device: torch.device, *, likeliest: bool
) -> Scores:
    logits = model(
        input_ids=batch.tokens.to(device), attention_mask=batch.mask.to(device), use_cache=False
    ).logits
    targets = batch.targets.to(device)
    losses = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    counted = targets != IGNORED
    size = (groups, int(batch.owner.max()) + 1)
    at = (batch.row.to(device), batch.owner.to(device))
    total = losses.new_zeros(size).index_put(at, losses.sum(dim=1))
    count = losses.new_zeros(size).index_put(at, counted.sum(dim=1).to(losses.dtype))
    if not likeliest:
        return Scores(total, count)
    missed = (counted & (logits.argmax(dim=2) != targets)).sum(dim=1).to(losses.dtype)
    return Scores(total, count, losses.new_zeros(size).index_put(at, missed) == 0)


def _score_shared(
    model: Any,
    rows: Sequence[Encoded],
    batch: collate.Shared,
    device: torch.device,
    way: Way,
    *,
    prefix: Prefix | None,
    likeliest: bool,
) -> Scores:
    base = base_of(model)
    before = prefix.length if prefix else 0
    asked = {
        "input_ids": batch.tokens.to(device),
        "position_ids": batch.positions.to(device) + before,
        "logits_to_keep": torch.arange(batch.first, batch.tokens.shape[1], device=device),
        "use_cache": prefix is not None,
    }
    if prefix:
        asked[_cache_name(model)] = _cache_of(prefix, len(rows))
    if way == "blocks":
        base.config._attn_implementation = NAME  # also while it is computed again, for checkpointing
        asked["sandbox_layout"] = layout(batch, base.dtype, device, before)
        asked["attention_mask"] = torch.zeros((1, 1, 1, 1), dtype=base.dtype, device=device)  # not looked at
    else:
        asked["attention_mask"] = additive(
            F.pad(collate.sees(batch), (before, 0), value=1), base.dtype, device
        )
    where, targets = batch.where.to(device), batch.targets.to(device)
    counted = targets != IGNORED
    wanted = targets.clamp(min=0)
    right = None
    if way != "shared":
        with _Headless(base) as head:
            hidden = model(**asked).logits.to(head.weight.dtype)  # mixed precision gives outputs in float32
        picked = hidden.gather(1, where.unsqueeze(2).expand(-1, -1, hidden.shape[2]))[counted]
        losses = hidden.new_zeros(targets.shape, dtype=torch.float32)
        if likeliest:
            told, _, right = _read(picked, head.weight, wanted[counted], slopes=False)
            right = counted.masked_scatter(counted, right)
        else:
            told = _Likelihood.apply(picked, head.weight, wanted[counted])  # type: ignore[no-untyped-call]
        losses = losses.masked_scatter(counted, told)
    else:
        logits = model(**asked).logits.float()
        norm = logits.logsumexp(dim=2).gather(1, where)
        said = logits[torch.arange(len(rows), device=device).unsqueeze(1), where, wanted]
        losses = torch.where(counted, norm - said, logits.new_zeros(()))
        right = logits.argmax(dim=2).gather(1, where) == wanted if likeliest else None
    most = max(len(row.replies) for row in rows)
    owner = batch.owner.to(device)
    size = (len(rows), most)
    total = losses.new_zeros(size).scatter_add(1, owner, losses)
    count = losses.new_zeros(size).scatter_add(1, owner, counted.to(losses.dtype))
    if right is None:
        return Scores(total, count)
    missed = (counted & ~right).to(losses.dtype)
    return Scores(total, count, losses.new_zeros(size).scatter_add(1, owner, missed) == 0)


class _Headless:
    """A model without its output head for a while: its "logits" are then what the head would have read."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._head = base.get_output_embeddings()

    def __enter__(self) -> Any:
        head = self._head
        if type(head) is not nn.Linear or head.bias is not None or head.weight.requires_grad:
            raise TypeError("the output head is not a frozen, plain matrix")
        self._base.set_output_embeddings(nn.Identity())
        return head

    def __exit__(self, *_: object) -> None:
        self._base.set_output_embeddings(self._head)


class _Likelihood(torch.autograd.Function):
    """Negative log-likelihoods (predictions,) in nats from ``hidden`` (predictions, width) and a frozen head.

    The head being frozen, the gradient by ``hidden`` is (softmax − target) · head for each prediction, up to
    its own factor: it is computed along with the loss, in chunks, so that logits are never kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        losses, slopes, _ = _read(hidden, head, targets, slopes=ctx.needs_input_grad[0])
        ctx.save_for_backward(slopes)
        return losses

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, None, None]:
        (slopes,) = ctx.saved_tensors
        return None if slopes is None else slopes * slope.unsqueeze(1).to(slopes.dtype), None, None


def _read(
    hidden: Tensor, head: Tensor, targets: Tensor, *, slopes: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Losses, their slopes by ``hidden`` if wanted, and whether each target is the likeliest token."""
    losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    right = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
    found = torch.empty_like(hidden) if slopes else None
    for start in range(0, len(hidden), _CHUNK):
        part = slice(start, start + _CHUNK)
        logits = (hidden[part] @ head.T).float()
        norm = logits.logsumexp(dim=1, keepdim=True)
        wanted = targets[part].unsqueeze(1)
        losses[part] = (norm - logits.gather(1, wanted)).squeeze(1)
        if found is None:
            right[part] = logits.argmax(dim=1) == targets[part]
        else:
            shares = logits.sub_(norm).exp_()
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
            found[part] = shares.to(head.dtype) @ head
    return losses, found, right

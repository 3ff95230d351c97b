"""Attention of candidates that share their query: each reply sees the query and itself, and nothing else is
computed.

With one large mask, the work grows with the square of all candidates together; here, with their number. It
is registered with transformers as ``NAME``, and is plain scaled dot product attention without a layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finetune.collate import Shared

NAME = "sandbox_shared_query"


@dataclass(slots=True)
class Layout:
    """Where things are in a row: queries in the first ``asked`` columns, then the replies.

    ``pick`` (groups, candidates · width) are the columns after the queries that hold each reply, ``back``
    (groups, columns after the queries) the way back. The masks are added to attention scores: (groups, 1,
    asked, before + asked) and (groups · candidates, 1, width, before + asked + width), ``before`` being how
    many tokens all rows go on from.
    """

    before: int
    asked: int
    candidates: int
    pick: Tensor
    back: Tensor
    of_queries: Tensor
    of_replies: Tensor


def layout(batch: Shared, kind: torch.dtype, device: torch.device, before: int = 0) -> Layout:
    """The layout of a batch that goes on from so many tokens, for a model of that dtype."""
    asked = batch.first + 1
    part = batch.part[:, asked:]
    groups, rest = part.shape
    candidates = max(int(part.max()), 1) if rest else 1
    lengths = torch.stack([(part == number).sum(dim=1) for number in range(1, candidates + 1)], dim=1)
    width = int(lengths.max()) if rest else 0
    starts = lengths.cumsum(dim=1) - lengths
    column = torch.arange(width)
    is_there = column < lengths.unsqueeze(2)
    pick = torch.where(is_there, starts.unsqueeze(2) + column, 0)
    back = torch.zeros((groups, rest), dtype=torch.long)
    place = torch.arange(candidates).view(1, -1, 1) * width + column
    for number in range(groups):
        back[number, pick[number][is_there[number]]] = place.expand_as(is_there[:1])[0][is_there[number]]
    valid = batch.part[:, :asked] == 0
    earlier = torch.ones((asked, asked), dtype=torch.bool).tril()
    of_queries = (earlier & valid.unsqueeze(1)) | torch.eye(asked, dtype=torch.bool)
    own = torch.ones((width, width), dtype=torch.bool).tril()
    sees_query = valid.view(groups, 1, 1, asked).expand(groups, candidates, width, asked)
    sees_own = own.expand(groups, candidates, width, width)
    of_replies = torch.cat([sees_query, sees_own], dim=3).flatten(0, 1)
    return Layout(
        before,
        asked,
        candidates,
        pick.flatten(1).to(device),
        back.to(device),
        additive(pad(of_queries.unsqueeze(1), (before, 0), value=1), kind, device),
        additive(pad(of_replies.unsqueeze(1), (before, 0), value=1), kind, device),
    )


def additive(sees: Tensor, kind: torch.dtype, device: torch.device) -> Tensor:
    """A mask of what is seen, as what is added to attention scores."""
    mask = torch.zeros(sees.shape, dtype=kind, device=device)
    return mask.masked_fill_(~sees.to(device), torch.finfo(kind).min)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sandbox_layout: Layout | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """As transformers asks for it: (groups, heads, length, width) in, (groups, length, heads, width) out."""
    if sandbox_layout is None:
        whole: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return whole
    plan, asked = sandbox_layout, sandbox_layout.asked
    known = plan.before + asked  # keys and values that every reply of a row sees
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    attend = partial(scaled_dot_product_attention, dropout_p=dropout, scale=scaling)
    of_query = attend(query[:, :, :asked], key[:, :, :known], value[:, :, :known], attn_mask=plan.of_queries)
    if query.shape[2] == asked:
        return of_query.transpose(1, 2), None
    groups, heads, _, size = query.shape

    def own(part: Tensor, start: int) -> Tensor:
        """The replies' part, each reply for itself: (groups · candidates, heads, width, size)."""
        at = plan.pick.view(groups, 1, -1, 1).expand(-1, heads, -1, size)
        each = part[:, :, start:].gather(2, at).view(groups, heads, plan.candidates, -1, size)
        return each.transpose(1, 2).flatten(0, 1)

    def seen(part: Tensor) -> Tensor:
        asks = part[:, None, :, :known].expand(-1, plan.candidates, -1, -1, -1).flatten(0, 1)
        return torch.cat([asks, own(part, known)], dim=2)

    of_replies = attend(own(query, asked), seen(key), seen(value), attn_mask=plan.of_replies)
    each = of_replies.view(groups, plan.candidates, heads, -1, size).transpose(1, 2).flatten(2, 3)
    at = plan.back.view(groups, 1, -1, 1).expand(-1, heads, -1, size)
    return torch.cat([of_query, each.gather(2, at)], dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)

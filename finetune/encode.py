"""From groups to token ids: the query once, each candidate's reply with its end, and what can't be used.

It knows tokenizers, no model and no tensors. The prompt is encoded exactly as local models are asked, and the
end of the reply is the token by which they stop; otherwise an adapter would learn what is never said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from finetune.groups import Candidate, Group
from sandbox.errors import UserError
from sandbox.models.templates import disarmed, encode_chat

WORSE, BETTER = "A worse answer:", "A better answer:"
"""What stands before the answers that chain of hindsight learns from (Liu et al., 2023, 'hindsight')."""
LEAST_ROOM = 8
"""A query that leaves less room than so many tokens for the reply can't be trained on."""


ALIKE = "replies that are alike once cut"
T = TypeVar("T")


class Reply(NamedTuple):
    """A candidate's tokens, its end included, and which of them count in its loss."""

    tokens: list[int]
    counts: list[bool]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A group as tokens. ``ratings`` are NaN where there is none; ``points`` is the R of the loss.

    ``place`` is the group's place among those given.
    """

    query: list[int]
    replies: list[Reply]
    ratings: list[float]
    points: float
    place: int

    @property
    def length(self) -> int:
        """How many tokens go through the model when the query is shared."""
        return len(self.query) + sum(len(reply.tokens) - 1 for reply in self.replies)


class Encoding(NamedTuple):
    """What can be trained on; how many candidates were cut short; and what was dropped, by reason."""

    rows: list[Encoded]
    cut: int
    dropped: Counter[str]


def encode(
    groups: Sequence[Group],
    tokenizer: Any,
    window: int,
    *,
    candidates: int = 3,
    chain: bool = False,
    every: bool = False,
    cue: str = "",
) -> Encoding:
    """Encode groups for a window of so many tokens; of each, at most so many rated candidates.

    Of more, the best is kept, the worst, and those spread evenly between by rating. A reply that does not fit
    is cut, and then has no end token; replies that are alike once cut are one, rated as the best of them.
    ``chain`` is the form of chain of hindsight; ``every`` keeps all rated candidates, for measuring; ``cue``
    is what the reply begins with, as part of the query.
    """
    end = end_of_turn(tokenizer)
    rows: list[Encoded] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for place, group in enumerate(groups):
        rated = list(group.rated)
        if not rated:
            dropped["no candidate is rated"] += 1
            continue
        query = encode_chat(tokenizer, group.chat()) + tokenizer.encode(cue, add_special_tokens=False)
        room = window - len(query)
        if room < LEAST_ROOM:
            dropped["the query fills the window"] += 1
            continue
        if chain:
            chosen = [_Fitted(_chain(tokenizer, spread(rated, candidates), end, room), _rating(rated[0]))]
        else:
            told = [_Fitted(encode_reply(tokenizer, c.text, end, after=cue), _rating(c)) for c in rated]
            different = _different(told, room)
            dropped[ALIKE] += len(told) - len(different)
            chosen = different if every else spread(different, candidates)
        cut += sum(len(one.reply.tokens) > room for one in chosen)
        replies = [_cut(one.reply, room) for one in chosen]
        if not any(any(reply.counts) for reply in replies):
            dropped["nothing of the reply counts"] += 1
            continue
        rows.append(Encoded(query, replies, [one.rating for one in chosen], group.points, place))
    return Encoding(rows, cut, +dropped)


class _Fitted(NamedTuple):
    """A whole reply, before it is cut, and its rating."""

    reply: Reply
    rating: float


def _rating(candidate: Candidate) -> float:
    return math.nan if candidate.rating is None else candidate.rating


def _different(replies: Sequence[_Fitted], room: int) -> list[_Fitted]:
    """The replies that differ once they are cut, best first: of those that don't, no pair can be learnt."""
    seen: dict[tuple[int, ...], _Fitted] = {}
    for one in replies:
        seen.setdefault(tuple(one.reply.tokens[:room]), one)
    return list(seen.values())


def _cut(reply: Reply, room: int) -> Reply:
    return Reply(reply.tokens[:room], reply.counts[:room])


def spread(rated: Sequence[T], most: int) -> list[T]:
    """The best, the worst, and those between them at even distances in rank."""
    if most < 1:
        raise UserError("At least one candidate a group is needed.")
    if len(rated) <= most:
        return list(rated)
    if most == 1:
        return [rated[0]]
    step = (len(rated) - 1) / (most - 1)
    return [rated[round(step * number)] for number in range(most)]


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends a reply: the first special one after it in the chat template, else the model's own.

    Raises ``UserError`` if the tokenizer has neither.
    """
    if tokenizer.chat_template:
        mark = "§reply§"
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": mark}], tokenize=False
        )
        special = set(tokenizer.all_special_ids)
        for token in tokenizer.encode(text.rpartition(mark)[2], add_special_tokens=False):
            if token in special:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise UserError(
            "The base model's tokenizer has no token that ends a reply (eos_token), so what is trained would "
            "never stop. Use another base model."
        )
    return int(tokenizer.eos_token_id)


def encode_reply(tokenizer: Any, text: str, end: int, after: str = "") -> Reply:
    # A template ends where the reply begins; without one, or after a cue, the prompt ends in a colon.
    lead = "" if tokenizer.chat_template and not after else " "
    tokens = tokenizer.encode(lead + disarmed(tokenizer, text), add_special_tokens=False)
    tokens = [*tokens, end]
    return Reply(tokens, [True] * len(tokens))


def _chain(tokenizer: Any, chosen: Sequence[Candidate], end: int, room: int) -> Reply:
    """The worst and the best behind their cues; where both don't fit, the best alone."""
    told = [(WORSE, chosen[-1])] if chosen[-1].rating != chosen[0].rating else []
    both = _behind_cues(tokenizer, [*told, (BETTER, chosen[0])], end)
    return both if len(both.tokens) <= room else _behind_cues(tokenizer, [(BETTER, chosen[0])], end)


def _behind_cues(tokenizer: Any, told: Sequence[tuple[str, Candidate]], end: int) -> Reply:
    tokens: list[int] = []
    counts: list[bool] = []
    for place, (cue, candidate) in enumerate(told):
        last = place == len(told) - 1
        head = tokenizer.encode(cue if place == 0 else f"\n\n{cue}", add_special_tokens=False)
        said = tokenizer.encode(f" {disarmed(tokenizer, candidate.text)}", add_special_tokens=False)
        tokens += head + said + ([end] if last else [])
        counts += [False] * len(head) + [True] * (len(said) + last)
    return Reply(tokens, counts)

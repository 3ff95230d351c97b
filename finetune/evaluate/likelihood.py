"""How likely a local model finds continuations: batched by length, with what they share computed once.

Continuations of one context share it; contexts that all begin alike share their beginning, such as the
examples in front of every question. Texts are cut into tokens as lm-eval does, chats as models are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch

from finetune.encode import Encoded, Reply, encode_reply, end_of_turn
from finetune.evaluate.items import Call, Likelihood
from finetune.scoring import Prefix, Way, find_way, read_prefix, score
from sandbox.models.templates import encode_chat

TOKENS_AT_ONCE = 1024
"""Tokens in one forward pass, padding included, unless a single row is longer."""
LEAST_PREFIX = 8
"""A beginning that is shorter is not worth keeping."""
_TRIED = 8
_TOLERANCE = {torch.float32: 1e-3}


class _Place(NamedTuple):
    """Where a likelihood belongs: an item's calls, all those that are the same."""

    item: int
    calls: tuple[int, ...]


class _Row(NamedTuple):
    row: Encoded
    places: tuple[_Place, ...]


class Scorer:
    """One model on one device, which is not to be trained any more. How it can be used is found by trial."""

    def __init__(self, model: Any, tokenizer: Any, window: int) -> None:
        self._model = model.requires_grad_(False).eval()
        self._tokenizer = tokenizer
        self._window = window
        self._way: Way | None = None
        self._why = ""
        self._prefixes: dict[tuple[int, ...], Prefix | None] = {}
        self._end: int | None = None

    @property
    def how(self) -> str:
        """How likelihoods are computed, and why not faster."""
        return (self._way or "") + (f": {self._why}" if self._why else "")

    def score(
        self, asked: Sequence[Sequence[Call]], on_scored: Callable[[int, list[Likelihood]], None]
    ) -> None:
        """Tell of every item its calls' likelihoods, as soon as they are there; in any order."""
        rows = [row for item, calls in enumerate(asked) for row in self._rows(item, calls)]
        if not rows:
            return
        if self._way is None:
            self._way, self._why = find_way(self._model, [row.row for row in rows[:_TRIED]], self._pad)
        found: list[list[Likelihood | None]] = [[None] * len(calls) for calls in asked]
        missing = [len(calls) for calls in asked]
        prefix, rows = self._shared(rows)
        for batch in _batches(rows):
            for (_, places), told in zip(batch, self._scored([r.row for r in batch], prefix), strict=True):
                for place, likelihood in zip(places, told, strict=True):
                    for call in place.calls:
                        found[place.item][call] = likelihood
                    missing[place.item] -= len(place.calls)
                    if not missing[place.item]:
                        on_scored(place.item, [one for one in found[place.item] if one])

    @property
    def _pad(self) -> int:
        return int(self._tokenizer.pad_token_id)

    @torch.inference_mode()
    def _scored(self, rows: Sequence[Encoded], prefix: Prefix | None) -> list[list[Likelihood]]:
        assert self._way is not None
        scores = score(self._model, rows, self._way, self._pad, prefix=prefix, likeliest=True)
        assert scores.likeliest is not None
        told = zip(rows, scores.total.tolist(), scores.likeliest.tolist(), strict=True)
        return [
            [
                Likelihood(-total[place], len(reply.tokens), likeliest[place])
                for place, reply in enumerate(row.replies)
            ]
            for row, total, likeliest in told
        ]

    def _rows(self, item: int, calls: Sequence[Call]) -> Iterator[_Row]:
        """The item's calls, those of one context together, each different continuation once."""
        by_context: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
        for number, call in enumerate(calls):
            context, continuation = self._encoded(call)
            by_context.setdefault(tuple(context), {}).setdefault(tuple(continuation), []).append(number)
        for asked, replies in by_context.items():
            fits = {
                reply: numbers
                for reply, numbers in replies.items()
                if len(asked) + len(reply) <= self._window + 1
            }
            if fits:
                yield self._row(item, asked, fits)
            for reply, numbers in replies.items():
                if reply not in fits:  # its beginning is cut, as lm-eval does
                    room = max(self._window + 1 - len(reply), 1)
                    yield self._row(item, asked[-room:], {reply[-self._window :]: numbers})

    def _row(self, item: int, context: tuple[int, ...], replies: dict[tuple[int, ...], list[int]]) -> _Row:
        told = [Reply(list(reply), [True] * len(reply)) for reply in replies]
        places = tuple(_Place(item, tuple(numbers)) for numbers in replies.values())
        return _Row(Encoded(list(context), told, [0.0] * len(told), 1.0, item), places)

    def _encoded(self, call: Call) -> tuple[list[int], list[int]]:
        if not isinstance(call.context, str):
            query = encode_chat(self._tokenizer, call.context)
            return query, encode_reply(
                self._tokenizer, call.continuation, end_of_turn(self._tokenizer)
            ).tokens
        context, continuation = call.context, call.continuation
        if not context:
            tokens = self._tokenizer.encode(continuation, add_special_tokens=False)
            start = self._start
            return ([start], tokens) if tokens[0] != start else (tokens[:1], tokens[1:])
        bare = context.rstrip()
        continuation, context = context[len(bare) :] + continuation, bare
        tokens = self._plain(context)
        return tokens, self._plain(context + continuation)[len(tokens) :]

    def _plain(self, text: str) -> list[int]:
        # What begins with the first token already gets no other.
        begun = text.startswith(self._tokenizer.decode([self._start]))
        tokens: list[int] = self._tokenizer.encode(text, **({"add_special_tokens": False} if begun else {}))
        return tokens

    @property
    def _start(self) -> int:
        tokenizer = self._tokenizer
        return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)

    def _shared(self, rows: list[_Row]) -> tuple[Prefix | None, list[_Row]]:
        """What all contexts begin with, computed once, and the rows without it; if the model can do so."""
        queries = [row.row.query for row in rows]
        tokens = _common(queries)
        trial = 2 * rows[0].row.length
        if self._way == "apart" or len(tokens) < LEAST_PREFIX or len(tokens) * len(rows) < 2 * trial:
            return None, rows
        bare = [row._replace(row=_without(row.row, len(tokens))) for row in rows]
        if tokens not in self._prefixes:
            self._prefixes = {tokens: self._tried(tokens, rows[0].row, bare[0].row)}
        prefix = self._prefixes[tokens]
        return (prefix, bare) if prefix else (None, rows)

    @torch.inference_mode()
    def _tried(self, tokens: tuple[int, ...], whole: Encoded, rest: Encoded) -> Prefix | None:
        wanted = self._scored([whole], None)[0]
        try:
            prefix = read_prefix(self._model, tokens)
            found = self._scored([rest], prefix)[0]
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            return None
        most = _TOLERANCE.get(next(self._model.parameters()).dtype, 0.5)
        apart = max(abs(a.logprob - b.logprob) for a, b in zip(wanted, found, strict=True))
        return prefix if apart <= most else None


def _common(queries: Sequence[list[int]]) -> tuple[int, ...]:
    """What all queries begin with; at least one token of each is left."""
    first, last = min(queries), max(queries)
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))))
    return tuple(first[: min(same, min(map(len, queries)) - 1)])


def _without(row: Encoded, count: int) -> Encoded:
    return Encoded(row.query[count:], row.replies, row.ratings, row.points, row.place)


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Rows of like length together; the longest first, so that what does not fit fails at once."""
    ordered = sorted(rows, key=lambda row: (row.row.length, len(row.row.query)), reverse=True)
    batch: list[_Row] = []
    left = right = 0
    for row in ordered:
        asked = len(row.row.query)
        left, right = max(left, asked), max(right, row.row.length - asked)
        if batch and (len(batch) + 1) * (left + right) > TOKENS_AT_ONCE:
            yield batch
            batch, left, right = [], asked, row.row.length - asked
        batch.append(row)
    if batch:
        yield batch

"""Rows of tokens → tensors: the query shared by its candidates, or each candidate with a query of its own.

It knows no model. Shared: one row a group, queries padded at the left so that all replies begin in the same
column::

    · · q q q | a a a | b b | c c c c     a, b, c see q and themselves; their positions go on from q's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune.encode import Encoded

IGNORED = -100


@dataclass(slots=True)
class Shared:
    """Groups that share their queries: ``tokens`` and ``positions`` (groups, length).

    ``part`` (groups, length) says whose a token is: -1 padding, 0 the query's, then the candidates'. Logits
    are needed from column ``first`` on; of those, column ``where`` predicts ``targets``, which belong to
    candidate ``owner`` (all three (groups, predictions)); targets are IGNORED where there is none.
    """

    tokens: Tensor
    positions: Tensor
    part: Tensor
    first: int
    where: Tensor
    targets: Tensor
    owner: Tensor


@dataclass(slots=True)
class Apart:
    """Candidates one by one: ``tokens``, ``mask``, ``targets`` (rows, length), ``row``, ``owner`` (rows,).

    ``row`` is the group and ``owner`` the candidate; ``targets[:, t]`` is predicted at column t.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    row: Tensor
    owner: Tensor


@dataclass(slots=True)
class Rated:
    """What losses take: ``ratings`` (groups, candidates), NaN where there is none; ``points`` (groups,)."""

    ratings: Tensor
    points: Tensor


def rated(rows: Sequence[Encoded]) -> Rated:
    """The ratings of rows."""
    most = max(len(row.replies) for row in rows)
    ratings = torch.full((len(rows), most), torch.nan)
    for number, row in enumerate(rows):
        ratings[number, : len(row.ratings)] = torch.tensor(row.ratings)
    return Rated(ratings, torch.tensor([row.points for row in rows], dtype=torch.float32))


def shared(rows: Sequence[Encoded], pad: int) -> Shared:
    """Rows with their queries shared. The last token of a reply is predicted, never read."""
    left = max(len(row.query) for row in rows)
    right = max(row.length - len(row.query) for row in rows)
    most = max(sum(len(reply.tokens) for reply in row.replies) for row in rows)
    size = left + right
    tokens = torch.full((len(rows), size), pad, dtype=torch.long)
    positions = torch.zeros((len(rows), size), dtype=torch.long)
    part = torch.full((len(rows), size), -1, dtype=torch.long)
    where = torch.zeros((len(rows), most), dtype=torch.long)
    targets = torch.full((len(rows), most), IGNORED, dtype=torch.long)
    owner = torch.zeros((len(rows), most), dtype=torch.long)
    for number, row in enumerate(rows):
        asked = len(row.query)
        start = left - asked
        tokens[number, start:left] = torch.tensor(row.query, dtype=torch.long)
        positions[number, start:left] = torch.arange(asked)
        part[number, start:left] = 0
        column, told = left, 0
        for candidate, reply in enumerate(row.replies):
            read = len(reply.tokens) - 1
            said = torch.tensor(reply.tokens, dtype=torch.long)
            tokens[number, column : column + read] = said[:-1]
            positions[number, column : column + read] = torch.arange(asked, asked + read)
            part[number, column : column + read] = candidate + 1
            counts = torch.tensor(reply.counts)
            end = told + read + 1
            targets[number, told:end] = torch.where(counts, said, IGNORED)
            owner[number, told:end] = candidate
            # The first is predicted by the query's last token, which is column 0 of those that are kept.
            where[number, told + 1 : end] = torch.arange(column - left + 1, column - left + 1 + read)
            column, told = column + read, end
    return Shared(tokens, positions, part, left - 1, where, targets, owner)


def sees(batch: Shared) -> Tensor:
    """Which token sees which, (groups, 1, length, length)."""
    size = batch.tokens.shape[1]
    before = torch.ones((size, size), dtype=torch.bool).tril()
    same = batch.part.unsqueeze(2) == batch.part.unsqueeze(1)
    of_query = (batch.part == 0).unsqueeze(1)
    return (before & (same | of_query)).unsqueeze(1)


def apart(rows: Sequence[Encoded], pad: int) -> Apart:
    """Rows with a query for every candidate, padded at the right."""
    told = [
        (number, candidate, row.query, reply)
        for number, row in enumerate(rows)
        for candidate, reply in enumerate(row.replies)
    ]
    size = max(len(query) + len(reply.tokens) for _, _, query, reply in told) - 1
    tokens = torch.full((len(told), size), pad, dtype=torch.long)
    mask = torch.zeros((len(told), size), dtype=torch.long)
    targets = torch.full((len(told), size), IGNORED, dtype=torch.long)
    for place, (_, _, query, reply) in enumerate(told):
        whole = torch.tensor(query + reply.tokens, dtype=torch.long)
        read = len(whole) - 1
        tokens[place, :read] = whole[:-1]
        mask[place, :read] = 1
        targets[place, len(query) - 1 : read] = torch.where(
            torch.tensor(reply.counts), whole[len(query) :], IGNORED
        )
    return Apart(
        tokens, mask, targets, torch.tensor([t[0] for t in told]), torch.tensor([t[1] for t in told])
    )

"""What is evaluated: items, what is asked of a model about each, and the scores that come out.

Pure. An item is what intervals resample: a question, a pair, or a group of questions that count together.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from sandbox.exchange import ChatMessage
from sandbox.seeds import draw

Scores = Mapping[str, float | None]
"""By metric; None where there is nothing to count, such as a rating that could not be read."""
Direction = Literal["higher", "lower", ""]


ALPHA = "alpha"
"""A metric that is no mean over items, but Krippendorff's alpha between the scores "judge" and "people"."""


UNSEEN = "society-unseen"
"""A suite: a society's interactions on those questions alone that an adapter was not trained on."""


class Metric(NamedTuple):
    """A figure: the mean of a score over items. ``better`` is "" where neither way is."""

    name: str
    help: str
    better: Direction = "higher"
    low: float | None = 0.0
    high: float | None = 1.0


class Call(NamedTuple):
    """A continuation whose likelihood is wanted, after plain text or after a chat as models are asked it."""

    context: str | tuple[ChatMessage, ...]
    continuation: str


class Likelihood(NamedTuple):
    """Natural log-likelihood of a continuation, over so many tokens; whether each was the likeliest."""

    logprob: float
    tokens: int
    is_greedy: bool


class Item(NamedTuple):
    """``id`` follows from the content; ``asked`` are the questions by which a training row is recognised."""

    id: str
    asked: tuple[str, ...]
    content: Any


@dataclass(slots=True)
class Source:
    """Where items come from: the file or hub name, a digest of what was read, what was left out and why."""

    name: str
    digest: str
    dropped: Counter[str] = field(default_factory=Counter)


class Suite(Protocol):
    """A benchmark with its data."""

    name: str
    metrics: tuple[Metric, ...]
    source: Source
    items: Sequence[Item]


class ChoiceSuite(Suite, Protocol):
    """A suite that is scored by how likely a model finds given texts."""

    def calls(self, item: Item) -> Sequence[Call]:
        """The continuations whose likelihoods ``scores`` takes, in order."""
        ...

    def scores(self, item: Item, found: Sequence[Likelihood]) -> Scores:
        """The item's scores."""
        ...


def identify(*parts: str) -> str:
    """An item's id: 12 hexadecimal digits."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]


def digest(items: Sequence[Item]) -> str:
    """A digest of items, whatever their order."""
    return hashlib.sha256("\n".join(sorted(item.id for item in items)).encode()).hexdigest()


def unique(items: Sequence[Item], dropped: Counter[str]) -> list[Item]:
    """The first item of each id, in order; the repetitions are counted."""
    kept: dict[str, Item] = {}
    for item in items:
        kept.setdefault(item.id, item)
    if len(kept) < len(items):
        dropped["repeated"] += len(items) - len(kept)
    return list(kept.values())


def chosen(items: Sequence[Item], limit: int | None, seed: int, suite: str) -> list[Item]:
    """``limit`` of the items, by chance that follows the seed; the same whatever their order."""
    if limit is None or limit >= len(items):
        return list(items)
    return list(draw(sorted(items, key=lambda item: item.id), limit, seed, suite, "limit"))


def normal(text: str) -> str:
    """A question as it is compared with others: without case, and with single spaces."""
    return " ".join(text.lower().split())

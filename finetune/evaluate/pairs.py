"""hh-pref: which of two replies a model finds likelier, on preference pairs or any rated candidates.

It asks exactly as training does: the prompt through the chat template, the reply with its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from finetune.evaluate.items import Call, Item, Likelihood, Metric, Scores, Source, digest, unique
from finetune.groups import Group
from finetune.pairwise import compared


class PairSuite:
    """Rated candidates: the share of pairs whose better reply is the likelier one."""

    metrics: tuple[Metric, ...] = (
        Metric("preference", "share of pairs whose better reply is the likelier, by mean log-likelihood"),
        Metric("preference_sum", "the same by summed log-likelihood"),
        Metric("margin", "how much likelier it is, in nats a token", low=None, high=None),
    )

    def __init__(self, name: str, source: str, groups: Iterable[Group]) -> None:
        self.name = name
        dropped: Counter[str] = Counter()
        items = []
        for group in groups:
            if len({candidate.rating for candidate in group.rated}) < 2:
                dropped["no two ratings differ"] += 1
                continue
            items.append(Item(group.id, (group.question or group.prompt[-1].content,), group))
        self.items: Sequence[Item] = unique(items, dropped)
        self.source = Source(source, digest(self.items), dropped)

    def calls(self, item: Item) -> list[Call]:
        """Every rated candidate, best first."""
        return [Call(item.content.chat(), candidate.text) for candidate in item.content.rated]

    def scores(self, item: Item, found: Sequence[Likelihood]) -> Scores:
        """Over the item's pairs of different rating."""
        ratings = [candidate.rating for candidate in item.content.rated]
        mean = [one.logprob / max(one.tokens, 1) for one in found]
        sums = compared(ratings, mean, [one.logprob for one in found])
        return {
            "preference": sums.right / sums.pairs,
            "preference_sum": sums.by_sum / sums.pairs,
            "margin": sums.margin / sums.pairs,
        }

"""What the forms of other programs share: how a prompt and its replies are read and written. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from finetune.fields import ROLES
from finetune.groups import Candidate, Group, Turn

Row = dict[str, Any]


class Pairing(NamedTuple):
    """How pairs come from ratings, and ratings from pairs.

    A pair's ratings lie at least ``margin`` apart; equal ones never make a pair. Imported without scores,
    what was chosen is rated ``chosen`` and the other ``rejected``, on the scale from ``low`` to ``high``.
    """

    margin: float = 0.0
    chosen: float = 6.0
    rejected: float = 2.0
    low: float = 1.0
    high: float = 7.0


class Told(NamedTuple):
    """One row as a group; ``joins`` tells whether it is one group with other rows of the same prompt."""

    group: Group
    joins: bool = False


def pairs(group: Group, pairing: Pairing) -> Iterator[tuple[Candidate, Candidate]]:
    """Each better candidate with each worse one, best first. Ties make none."""
    rated = group.rated
    for place, better in enumerate(rated):
        for worse in rated[place + 1 :]:
            apart = (better.rating or 0) - (worse.rating or 0)
            if apart > 0 and apart >= pairing.margin:
                yield better, worse


def plain(prompt: Sequence[Turn]) -> str:
    """A prompt as one text: its messages one after another."""
    return "\n\n".join(turn.content for turn in prompt)


def grouped(prompt: Sequence[Turn], candidates: Sequence[Candidate], pairing: Pairing) -> Group:
    """A group of what was read; its question is what the user said last."""
    asked = next((turn.content for turn in reversed(prompt) if turn.role == "user"), prompt[-1].content)
    return Group(
        prompt=tuple(prompt),
        candidates=tuple(candidates),
        question=asked,
        low=pairing.low,
        high=pairing.high,
    )


def joined(prompt: Sequence[Turn], candidates: Iterable[Candidate], pairing: Pairing) -> Told:
    """A row that is one group with others of its prompt; what says the same, rated alike, is one reply."""
    different: list[Candidate] = []
    for candidate in candidates:
        if candidate not in different:
            different.append(candidate)
    return Told(grouped(prompt, different, pairing), joins=True)


def merged(groups: Iterable[Group]) -> list[Group]:
    """Groups of one prompt as one, in which what says the same is one candidate.

    A group that rates a text otherwise than those before it begins another, so that nothing is lost.
    """
    told: list[tuple[Group, dict[str, Candidate]]] = []
    for group in groups:
        known = next((texts for _, texts in told if _agree(texts, group.candidates)), None)
        if known is None:
            told.append((group, known := {}))
        for candidate in group.candidates:
            known.setdefault(candidate.text, candidate)
    return [first.model_copy(update={"candidates": tuple(texts.values())}) for first, texts in told]


def _agree(known: Mapping[str, Candidate], candidates: Iterable[Candidate]) -> bool:
    return all(known.get(one.text, one).rating == one.rating for one in candidates)


def asked(row: Row, name: str) -> tuple[Turn, ...]:
    """The prompt in a column: a text, or messages."""
    value = row[name]
    if isinstance(value, str):
        return (Turn(role="user", content=value),)
    return tuple(Turn(role=ROLES[turn["role"]], content=turn["content"]) for turn in value)


def said(value: Any) -> str:
    """A reply: a text, or one message."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError(f"a reply must be a text or one message, not {value!r:.60}")
    return str(value[0]["content"])

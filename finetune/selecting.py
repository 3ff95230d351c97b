"""Which groups make a dataset: the mix of kinds, a cap for every source, what is held out; and the report.

Pure. What is left out is counted by reason, never in silence.
"""

from __future__ import annotations

import hashlib
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from finetune.groups import KINDS, Group, Kind
from sandbox.agreement import agreement
from sandbox.errors import UserError


class Selectable(Protocol):
    """What selection looks at: a group, or what is kept in mind of one. ``asked`` stands for its question."""

    @property
    def kind(self) -> Kind: ...
    @property
    def source(self) -> str: ...
    @property
    def asked(self) -> bytes: ...


T = TypeVar("T")
S = TypeVar("S", bound=Selectable)


class Parts(NamedTuple, Generic[T]):
    """The groups to train on, and those held out. No question is in both."""

    train: list[T]
    heldout: list[T]


class Spread(BaseModel):
    """The ratings of a kind's candidates: how many, mean, standard deviation, counts by value."""

    model_config = ConfigDict(frozen=True)
    n: int
    mean: float | None
    deviation: float | None
    counts: dict[str, int]


class Agreed(BaseModel):
    """Krippendorff's ordinal alpha among some raters, with its interval, units and ratings."""

    model_config = ConfigDict(frozen=True)
    alpha: float | None
    low: float | None
    high: float | None
    units: int
    ratings: int


class Report(BaseModel):
    """What a dataset holds and what was dropped on the way."""

    model_config = ConfigDict(frozen=True)
    train: int
    heldout: int
    rows: dict[str, int]
    candidates: dict[str, int]
    spread: dict[str, Spread]
    agreement: dict[str, Agreed]
    dropped: dict[str, int]


def mixed(groups: Sequence[S], mix: Sequence[float], seed: int, dropped: Counter[str]) -> list[S]:
    """As many groups of each kind as ``mix`` (imitation, self-critic, realignment) says, chosen by seed.

    The kind that is scarcest for its share decides how many there are in all. Raises ``UserError`` if a
    kind that has a share has no group at all.
    """
    shares = {kind: share for kind, share in zip(KINDS, mix, strict=True) if share > 0}
    by_kind: dict[Kind, list[int]] = {kind: [] for kind in shares}
    for place, group in enumerate(groups):
        if group.kind in by_kind:
            by_kind[group.kind].append(place)
    if empty := [kind for kind, places in by_kind.items() if not places]:
        raise UserError(
            f"There is no group of kind {', '.join(empty)}, so the mix can't be kept. Give it the share 0, "
            "or build without --mix (or --least: a realignment has one candidate)."
        )
    unit = min(len(places) / shares[kind] for kind, places in by_kind.items())
    chance = random.Random(seed)
    kept: set[int] = set()
    for kind, places in by_kind.items():
        kept.update(chance.sample(places, max(1, int(unit * shares[kind] + 1e-9))))
    dropped["left out for the mix"] += len(groups) - len(kept)
    return [group for place, group in enumerate(groups) if place in kept]


def capped(groups: Sequence[S], most: int, seed: int, dropped: Counter[str]) -> list[S]:
    """At most so many groups of one source (who said the best of it), chosen by seed."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        by_source[group.source].append(place)
    chance = random.Random(seed)
    kept = {place for places in by_source.values() for place in chance.sample(places, min(most, len(places)))}
    dropped["over the cap of their source"] += len(groups) - len(kept)
    return [group for place, group in enumerate(groups) if place in kept]


def parted(groups: Iterable[S], share: float, seed: int) -> Parts[S]:
    """``share`` of the groups held out, by count: at least one, and whole questions.

    Questions have an order that follows from the seed alone, and the first are held out; so of two datasets
    that grow from each other, most questions fall on the same side. One question alone is trained on.
    """
    every = list(groups)
    counts = Counter(group.asked for group in every)
    order = sorted(counts, key=lambda asked: hashlib.sha256(b"%d\0%b" % (seed, asked)).digest()[:8])
    held: set[bytes] = set()
    wanted, count = share * len(every), 0
    for asked in order if share > 0 else ():
        is_nearer = abs(count + counts[asked] - wanted) <= abs(count - wanted)
        if len(held) < len(order) - 1 and (is_nearer or not held):
            held.add(asked)
            count += counts[asked]
    return Parts(
        [group for group in every if group.asked not in held],
        [group for group in every if group.asked in held],
    )


class Reporter:
    """Makes the report while groups go by, one after another."""

    def __init__(self) -> None:
        self._parts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._ratings: dict[Kind, Counter[float]] = defaultdict(Counter)
        self._units: dict[str, dict[str, float]] = defaultdict(dict)
        self._people: set[str] = set()
        self._asked: dict[str, bytes] = {}

    def watch(self, part: str, groups: Iterable[Group]) -> Iterator[Group]:
        """The groups of a part, each counted."""
        for group in groups:
            self._parts[part] += 1
            self._kinds[group.kind] += 1
            self._sizes[len(group.candidates)] += 1
            for candidate in group.candidates:
                if candidate.rating is not None:
                    self._ratings[group.kind][candidate.rating] += 1
                for judgement in candidate.judgements:
                    rater = judgement.person or judgement.rater
                    self._units[judgement.target][rater] = judgement.value
                    self._asked[judgement.target] = group.asked
                    if judgement.person:
                        self._people.add(rater)
            yield group

    def report(self, dropped: Counter[str]) -> Report:
        """What went by."""
        return Report(
            train=self._parts["train"],
            heldout=self._parts["heldout"],
            rows=dict(self._kinds),
            candidates={str(n): count for n, count in sorted(self._sizes.items())},
            spread={kind: _spread(self._ratings[kind]) for kind in KINDS if kind in self._ratings},
            agreement=_agreements(self._units, self._asked, self._people),
            dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        )


def _spread(ratings: Counter[float]) -> Spread:
    n = ratings.total()
    mean = sum(value * count for value, count in ratings.items()) / n
    squares = sum(count * (value - mean) ** 2 for value, count in ratings.items())
    counts: Counter[int] = Counter()
    for value, count in ratings.items():
        counts[round(value)] += count
    return Spread(
        n=n,
        mean=mean,
        deviation=(squares / (n - 1)) ** 0.5 if n > 1 else None,
        counts={str(value): count for value, count in sorted(counts.items())},
    )


def _agreements(
    units: Mapping[str, dict[str, float]], asked: Mapping[str, bytes], people: set[str]
) -> dict[str, Agreed]:
    """Agreement among all raters, among people, among models, and of people with models."""
    every, questions = list(units.values()), [asked[target] for target in units]
    told: dict[str, Agreed] = {}
    for name, these in (
        ("all", every),
        ("people", [{r: v for r, v in unit.items() if r in people} for unit in every]),
        ("models", [{r: v for r, v in unit.items() if r not in people} for unit in every]),
        ("people and models", [_means(unit, people) for unit in every]),
    ):
        found = agreement(these, questions)
        if found.units:
            told[name] = Agreed(
                alpha=found.alpha, low=found.low, high=found.high, units=found.units, ratings=found.pairable
            )
    return told


def _means(unit: dict[str, float], people: set[str]) -> dict[str, float]:
    """The people's mean and the models' mean of a unit, as two raters."""
    sides = {
        "people": [value for rater, value in unit.items() if rater in people],
        "models": [value for rater, value in unit.items() if rater not in people],
    }
    return {name: round(statistics.fmean(values)) for name, values in sides.items() if values}

"""How people's ratings and models' ratings of the same messages agree, by dimension. Pure.

What could not be read is counted as such, and enters no figure. A message that only one side rated says
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Agreement:
    """One dimension: ``n`` pairs of a person's rating of a message and the models' mean of it.

    ``bias`` is the mean of person minus models, ``distance`` the mean of its size, both in points of the
    scale; ``close`` the share of pairs at most one point apart; None without pairs. ``unread`` counts models'
    ratings in this dimension that could not be read, ``hidden`` those of others that we may not see yet.
    """

    dimension: str
    n: int = 0
    people: int = 0
    models: int = 0
    bias: float | None = None
    distance: float | None = None
    close: float | None = None
    unread: int = 0
    hidden: int = 0


def agreement(ratings: Iterable[Mapping[str, Any]]) -> list[Agreement]:
    """The agreement by dimension, of ratings as the server lists those that count."""
    given: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    unread: dict[str, int] = {}
    hidden: dict[str, int] = {}
    raters: dict[str, tuple[set[str], set[str]]] = {}
    for rating in ratings:
        dimension, value = rating["dimension"], rating["value"]
        is_person = rating["method"] == "human"
        targets = given.setdefault(dimension, {})
        if rating.get("masked"):
            hidden[dimension] = hidden.get(dimension, 0) + 1
        elif value is None:
            unread[dimension] = unread.get(dimension, 0) + (not is_person)
        else:
            people, models = targets.setdefault(rating["target"], ([], []))
            (people if is_person else models).append(float(value))
            who = raters.setdefault(dimension, (set(), set()))
            who[not is_person].add(rating.get("person") or rating["rater"])
    return [
        _agreement(dimension, targets, raters.get(dimension, (set(), set())), unread, hidden)
        for dimension, targets in sorted(given.items())
    ]


def _agreement(
    dimension: str,
    targets: Mapping[str, tuple[list[float], list[float]]],
    raters: tuple[set[str], set[str]],
    unread: Mapping[str, int],
    hidden: Mapping[str, int],
) -> Agreement:
    apart = [
        person - sum(models) / len(models)
        for people, models in targets.values()
        if models
        for person in people
    ]
    n = len(apart)
    return Agreement(
        dimension=dimension,
        n=n,
        people=len(raters[0]),
        models=len(raters[1]),
        bias=sum(apart) / n if n else None,
        distance=sum(map(abs, apart)) / n if n else None,
        close=sum(abs(difference) <= 1 for difference in apart) / n if n else None,
        unread=unread.get(dimension, 0),
        hidden=hidden.get(dimension, 0),
    )

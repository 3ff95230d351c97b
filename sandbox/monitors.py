"""What goes wrong in a society while it runs: ratings that inflate, answers that grow alike, judges that
prefer themselves, raters who are severe, disagree or can't be read.

Pure: events in, figures out, the same for the same seed. An interval says what chance in the choice of
questions can do; not why rounds differ (their questions may, or the norms), nor what a better answer is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import get_args

from sandbox import bootstrap
from sandbox import events as ev
from sandbox.agreement import Agreement, agreement
from sandbox.alarms import alarms
from sandbox.homogeneity import homogeneity
from sandbox.monitored import (
    CriterionAgreement,
    Inflation,
    Monitors,
    RaterKind,
    RoundMean,
    SelfPreference,
    Severity,
    Unread,
    Who,
)
from sandbox.seeds import derive
from sandbox.votes import Seen, Vote, gather

_DIGITS = 6
Rated = dict[tuple[str, str], list[Vote]]
"""The votes that could be read, by message and dimension."""


def monitor(events: Iterable[ev.Event], *, seed: int = 0) -> Monitors:
    """All monitors of a session, or of the part of it that ``events`` tell of."""
    seen = gather(events)
    rated: Rated = {
        key: list(votes)
        for key, votes in groupby(
            (vote for vote in seen.votes if vote.value is not None),
            lambda vote: (vote.target, vote.dimension),
        )
    }
    found = Monitors(
        inflation=_inflation(seen, seed),
        homogeneity=homogeneity(seen.answers, derive(seed, "homogeneity"), seen.same),
        self_preference=_self_preference(rated, seen, seed),
        severity=_severity(rated, seen, seed),
        agreement=_agreement(rated, seen, seed),
        unparsed=_unparsed(seen.votes),
        other_scale=seen.other_scale,
    )
    return found.model_copy(update={"warnings": alarms(found)})


def _inflation(seen: Seen, seed: int) -> tuple[Inflation, ...]:
    kinds: dict[tuple[RaterKind, str], list[Vote]] = defaultdict(list)
    for vote in seen.votes:
        if vote.value is None or vote.interaction not in seen.rounds:
            continue
        if vote.asked == "peer" and vote.target.endswith(".draft"):
            kinds["peers", "peers"].append(vote)
        elif vote.asked == "observer" and vote.target.endswith(".revision"):
            kinds["observers", vote.dimension].append(vote)
    order = sorted(kinds, key=lambda kind: (kind[0] != "peers", kind[1]))
    return tuple(_one_inflation(*kind, kinds[kind], seen, seed) for kind in order)


def _one_inflation(raters: RaterKind, name: str, votes: Sequence[Vote], seen: Seen, seed: int) -> Inflation:
    rounds = seen.rounds
    by_round: dict[int, list[float]] = defaultdict(list)
    for vote in votes:
        by_round[rounds[vote.interaction]].append(_value(vote))
    slope = bootstrap.slope(
        [rounds[vote.interaction] for vote in votes],
        [_value(vote) for vote in votes],
        [seen.question(vote.interaction) for vote in votes],
        derive(seed, "inflation", raters, name),
        [vote.rater for vote in votes],
    )
    return Inflation(
        name=name,
        raters=raters,
        series=tuple(
            RoundMean(round=number, n=len(values), mean=round(_mean(values), _DIGITS))
            for number, values in sorted(by_round.items())
        ),
        slope=slope,
        inflated=slope is not None and slope.is_above_zero,
    )


def _self_preference(rated: Rated, seen: Seen, seed: int) -> tuple[SelfPreference, ...]:
    """A model's rating of a message is the mean of its seats'; others are other models, and people."""
    authors = seen.authors
    apart: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    questions: dict[str, int] = {}
    for (target, _), votes in rated.items():
        if target not in authors:
            continue
        questions[target] = seen.question(votes[0].interaction)
        for model, as_peer in sorted({(vote.model, vote.as_peer) for vote in votes if vote.model}):
            own = [vote for vote in votes if vote.model == model and vote.as_peer == as_peer]
            others = [_value(vote) for vote in votes if vote.model != model and _comparable(vote, own[0])]
            if others:
                apart[model][target].append(_mean([_value(vote) for vote in own]) - _mean(others))
    found = []
    for model, messages in sorted(apart.items()):
        is_own = [authors[target] == model for target in messages]
        preference = bootstrap.difference(
            [_mean(values) for values in messages.values()],
            is_own,
            [questions[target] for target in messages],
            derive(seed, "self-preference", model),
        )
        if preference is not None:
            found.append(
                SelfPreference(
                    model=model,
                    preference=preference,
                    own=sum(is_own),
                    others=len(is_own) - sum(is_own),
                    preferred=preference.is_above_zero,
                )
            )
    return tuple(found)


def _comparable(one: Vote, other: Vote) -> bool:
    """Whether the difference of two ratings of a message says something of the raters.

    A model is asked as a peer with another prompt than as an observer or a judge, and rates the same message
    differently as the one and as the other: between the two, a difference says something of the prompts.
    People are asked the same in every role.
    """
    return one.is_person or other.is_person or one.as_peer == other.as_peer


def _severity(rated: Rated, seen: Seen, seed: int) -> tuple[Severity, ...]:
    apart: dict[tuple[str, bool], list[tuple[float, int]]] = defaultdict(list)
    for votes in rated.values():
        for vote in votes:
            others = [_value(one) for one in votes if one is not vote and _comparable(one, vote)]
            if others:
                difference = _value(vote) - _mean(others)
                apart[vote.rater, vote.is_person].append((difference, seen.question(vote.interaction)))
    found = []
    for (rater, is_person), differences in sorted(apart.items()):
        values = [value for value, _ in differences]
        severity = bootstrap.mean(values, [n for _, n in differences], derive(seed, "severity", rater))
        if severity is not None:
            found.append(Severity(rater=rater, is_person=is_person, n=len(values), severity=severity))
    return tuple(found)


def _agreement(rated: Rated, seen: Seen, seed: int) -> tuple[CriterionAgreement, ...]:
    units: dict[str, dict[Who, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    questions: dict[str, dict[Who, list[int]]] = defaultdict(lambda: defaultdict(list))
    for (_, dimension), votes in rated.items():
        asked = seen.question(votes[0].interaction)
        people = {vote.rater: _value(vote) for vote in votes if vote.is_person}
        models = {vote.rater: _value(vote) for vote in votes if not vote.is_person}
        sides = {"people": people, "models": models}
        known = units[dimension]
        known["people"].append(people)
        for as_peer in (True, False):
            alike = [vote for vote in votes if not vote.is_person and vote.as_peer == as_peer]
            known["models"].append({vote.rater: _value(vote) for vote in alike})
        known["people and models"].append(
            {name: float(round(_mean(list(given.values())))) for name, given in sides.items() if given}
        )
        counted: tuple[tuple[Who, int], ...] = (("people", 1), ("models", 2), ("people and models", 1))
        for who, times in counted:
            questions[dimension][who] += [asked] * times
    found = []
    for dimension, by_who in sorted(units.items()):
        for who in get_args(Who):
            one = agreement(
                by_who[who], questions[dimension][who], seed=derive(seed, "agreement", dimension, who)
            )
            if one.units:
                found.append(_agreeing(dimension, who, one))
    return tuple(found)


def _agreeing(dimension: str, who: Who, found: Agreement) -> CriterionAgreement:
    alpha, low, high = (None if value is None else round(value, _DIGITS) for value in found[:3])
    return CriterionAgreement(
        dimension=dimension,
        who=who,
        alpha=alpha,
        low=low,
        high=high,
        units=found.units,
        pairable=found.pairable,
    )


def _unparsed(votes: Iterable[Vote]) -> tuple[Unread, ...]:
    counts: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for vote in votes:
        counts[vote.rater, vote.is_person].append(vote.value is None)
    return tuple(
        Unread(rater=rater, is_person=is_person, unparsed=sum(unread), ratings=len(unread))
        for (rater, is_person), unread in sorted(counts.items())
    )


def _value(vote: Vote) -> float:
    assert vote.value is not None
    return vote.value


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

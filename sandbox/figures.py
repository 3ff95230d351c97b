"""What monitors found, as tables of text: for the command line and the terminal app alike. Pure.

Names of models, raters and criteria are as they are stored; who shows them makes them safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sandbox.agreement import LEAST
from sandbox.monitored import CriterionAgreement, Inflation, Measured, Monitors, RoundAnswers, Severity

NONE = "–"
MOST = 10
"""Raters that are shown of a table: half from either end, or the first."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDE = 12


class Figures(NamedTuple):
    """One table: ``rows`` have as many texts as there are ``columns``; the first column is a name.

    ``explained`` says what the figures mean, and what is left out.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    explained: str


def tables(found: Monitors) -> tuple[Figures, ...]:
    """All tables, always the same ones in the same order; those without rows have nothing to show yet."""
    return (
        _by_round(found),
        _wording(found),
        _self_preference(found),
        _severity(found),
        _agreement(found),
        _unparsed(found),
    )


def verdict(found: Monitors) -> str:
    """What it means that there is no warning."""
    slopes = [one.slope for one in found.inflation] + [found.homogeneity.slope]
    is_telling = any(one and one.low is not None for one in slopes) or any(
        one.low is not None for one in found.agreement
    )
    if is_telling:
        return "Nothing stands out: no interval shows a fault."
    return (
        f"Too little to tell: no interval is given for fewer than {LEAST} questions; trends take several "
        f"rounds, too, and agreement {LEAST} messages that several rated."
    )


def interval(measured: Measured | None, digits: int = 2) -> str:
    """The bounds of an interval; why there is none; or a dash."""
    if measured is None:
        return NONE
    if measured.low is None and measured.groups is not None and measured.groups < LEAST:
        return f"too few ({measured.groups})"
    return _bounds(measured.low, measured.high, digits)


def trend(values: Sequence[float | None]) -> str:
    """The newest of some values, one by round, as blocks from their least to their greatest."""
    newest = list(values)[-_WIDE:]
    known = [value for value in newest if value is not None]
    if len(known) < 2:
        return ""
    low, spread = min(known), max(known) - min(known)
    if spread == 0:
        return _BLOCKS[3] * len(newest)
    return "".join(
        " " if value is None else _BLOCKS[round((value - low) / spread * (len(_BLOCKS) - 1))]
        for value in newest
    )


def _by_round(found: Monitors) -> Figures:
    left = f" {found.other_scale:,} on another scale are left out." if found.other_scale else ""
    return Figures(
        "Ratings by round",
        ("ratings", "first", "last", "a round", "95 %", "", "trend"),
        tuple(_round_row(one) for one in found.inflation),
        "The mean of the first and the last round, and the slope between, in points: "
        f"above 0 as a whole, ratings inflate, or answers get better.{left}",
    )


def _round_row(one: Inflation) -> tuple[str, ...]:
    name = "peers, of drafts" if one.raters == "peers" else f"{one.name}, of revisions"
    means = [point.mean for point in one.series]
    slope = one.slope
    return (
        name,
        _number(means[0]),
        _number(means[-1]),
        _signed(slope.value if slope else None),
        interval(slope),
        "rising" if one.inflated else "",
        trend(means),
    )


def _wording(found: Monitors) -> Figures:
    homogeneity = found.homogeneity
    slope = homogeneity.slope
    rows = []
    for name, values in _series(homogeneity.series):
        known = [value for value in values if value is not None]
        if known:
            is_it = name == "similarity"
            rows.append(
                (
                    name,
                    _number(known[0]),
                    _number(known[-1]),
                    _signed(slope.value if slope and is_it else None, 3),
                    interval(slope if is_it else None, 3),
                    "rising" if homogeneity.rising and is_it else "",
                    trend(values),
                )
            )
    return Figures(
        "Wording by round",
        ("final answers", "first", "last", "a round", "95 %", "", "trend"),
        tuple(rows),
        "How alike two seats' answers are, from 0 to 1; different words and word pairs, as a share of all.",
    )


def _series(series: Sequence[RoundAnswers]) -> tuple[tuple[str, list[float | None]], ...]:
    return (
        ("similarity", [one.similarity for one in series]),
        ("distinct words", [one.distinct_1 for one in series]),
        ("distinct pairs", [one.distinct_2 for one in series]),
    )


def _self_preference(found: Monitors) -> Figures:
    return Figures(
        "Preference for itself",
        ("model", "own", "others", "points", "95 %", ""),
        tuple(
            (
                one.model,
                f"{one.own:,}",
                f"{one.others:,}",
                _signed(one.preference.value),
                interval(one.preference),
                "prefers itself" if one.preferred else "",
            )
            for one in found.self_preference
        ),
        "What a model gives its own messages beyond what others give, less the same for others' messages.",
    )


def _severity(found: Monitors) -> Figures:
    order = sorted(found.severity, key=lambda one: (one.severity.value, one.rater))
    half = MOST // 2
    shown = order if len(order) <= MOST else [*order[:half], *order[-half:]]
    more = f" {len(order) - len(shown):,} raters between these are left out." if len(order) > MOST else ""
    return Figures(
        "Severity",
        ("rater", "", "ratings", "points", "95 %"),
        tuple(_severity_row(one) for one in shown),
        f"How far a rater lies from the others who rated the same: below 0 is severe.{more}",
    )


def _severity_row(one: Severity) -> tuple[str, ...]:
    who = "person" if one.is_person else "model"
    return (one.rater, who, f"{one.n:,}", _signed(one.severity.value), interval(one.severity))


def _agreement(found: Monitors) -> Figures:
    return Figures(
        "Agreement",
        ("criterion", "among", "messages", "alpha", "95 %"),
        tuple(
            (one.dimension, one.who, f"{one.units:,}", _number(one.alpha), _agreed(one))
            for one in found.agreement
        ),
        "Krippendorff's ordinal alpha: 1 is perfect, 0 what chance gives. Too few: messages of fewer than "
        f"{LEAST} questions.",
    )


def _agreed(one: CriterionAgreement) -> str:
    bounds = _bounds(one.low, one.high)
    return "too few" if bounds == NONE and one.alpha is not None else bounds


def _unparsed(found: Monitors) -> Figures:
    order = sorted(
        (one for one in found.unparsed if one.unparsed),
        key=lambda one: (-one.unparsed / one.ratings, one.rater),
    )
    more = f" {len(order) - MOST:,} raters with fewer are left out." if len(order) > MOST else ""
    return Figures(
        "Unparsed",
        ("rater", "", "unparsed", "of", "share"),
        tuple(
            (
                one.rater,
                "person" if one.is_person else "model",
                f"{one.unparsed:,}",
                f"{one.ratings:,}",
                f"{one.unparsed / one.ratings:.0%}",
            )
            for one in order[:MOST]
        ),
        f"Ratings that could not be read; they are in no figure.{more}",
    )


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _signed(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:+.{digits}f}"


def _bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    return NONE if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"

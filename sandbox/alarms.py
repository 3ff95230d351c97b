"""What monitors' figures are worth saying aloud, as sentences: the fact, then what to look at or do. Pure.

Only what an interval carries is said; a figure without one says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.agreement import LEAST
from sandbox.monitored import CriterionAgreement, Inflation, Measured, Monitors, SelfPreference, Unread

POOR_ALPHA = 0.2
LEAST_RATINGS = LEAST
MOST_UNPARSED = 1 / 3


def alarms(found: Monitors) -> tuple[str, ...]:
    """The sentences, in the order of the monitors."""
    return tuple(_told(found))


def _told(found: Monitors) -> Iterator[str]:
    yield from (_inflated(one) for one in found.inflation if one.inflated)
    slope = found.homogeneity.slope
    if found.homogeneity.rising and slope is not None:
        yield (
            f"The seats' answers grow alike: their similarity rises by {_figure(slope, 3)} a round. "
            "Read the last round's answers beside the first's, and see whether the questions grew alike; "
            "other models, personas or a higher temperature bring differences back."
        )
    yield from (_preferring(one) for one in found.self_preference if one.preferred)
    yield from (_disagreeing(one) for one in found.agreement if _is_poor(one))
    yield from (_unread(one) for one in found.unparsed if _is_unread(one))


def _inflated(one: Inflation) -> str:
    slope = one.slope
    assert slope is not None
    is_peers = one.raters == "peers"
    what = "The peers' ratings of drafts" if is_peers else f"The observers' ratings of {one.name}"
    return (
        f"{what} rise by {_figure(slope, 2)} points a round. Read messages of the first and the last round "
        "side by side: if they are no better, the ratings inflate."
    )


def _preferring(one: SelfPreference) -> str:
    return (
        f"{one.model} favours its own messages by {_figure(one.preference, 2)} points, measured against "
        "others' ratings of the same. Have another model judge them, or leave its ratings of its own out."
    )


def _is_poor(one: CriterionAgreement) -> bool:
    """Whether they hardly agree, or may agree by chance alone."""
    if one.low is None or one.high is None or one.units < LEAST:
        return False
    return one.high < POOR_ALPHA or one.low <= 0 <= one.high


def _disagreeing(one: CriterionAgreement) -> str:
    whom = "people and models" if one.who == "people and models" else f"the {one.who}"
    interval = Measured(value=one.alpha or 0.0, low=one.low, high=one.high)
    figure = f"alpha is {_figure(interval, 2)} over {one.units:,} messages"
    if one.high is not None and one.high < POOR_ALPHA:
        return (
            f"{whom.capitalize()} hardly agree on {one.dimension}: {figure}. Say in the rubric more exactly "
            "what the ends of its scale mean; don't build on its means."
        )
    return (
        f"It can't be told whether {whom} agree on {one.dimension} more than by chance: {figure}. Gather "
        "more ratings before you build on its means."
    )


def _is_unread(one: Unread) -> bool:
    return one.ratings >= LEAST_RATINGS and one.unparsed > MOST_UNPARSED * one.ratings


def _unread(one: Unread) -> str:
    return (
        f"{one.unparsed:,} of {one.ratings:,} ratings by {one.rater} could not be read. "
        "Look at its words as they came; give it longer replies, or another model to rate with."
    )


def _figure(measured: Measured, digits: int) -> str:
    """A figure with its interval."""
    low, high = measured.low or 0.0, measured.high or 0.0
    return f"{measured.value:.{digits}f} (95 %: {low:.{digits}f} to {high:.{digits}f})"

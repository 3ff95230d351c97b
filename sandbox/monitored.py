"""What monitors found in a session: figures by round, by rater and by model, each with its interval. Pure.

It does not know how they are computed; ``sandbox.monitors`` does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Who = Literal["people", "models", "people and models"]
RaterKind = Literal["peers", "observers"]


class _Found(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Measured(_Found):
    """A figure, its bootstrap interval (95 %); without one where too few questions carry it (``groups``)."""

    value: float
    low: float | None = None
    high: float | None = None
    groups: int | None = None

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low is not None and self.low > 0


class RoundMean(_Found):
    """The mean of ``n`` ratings in one round, in points of the scale."""

    round: int
    n: int
    mean: float


class Inflation(_Found):
    """Ratings of one kind by round: the peers' of drafts, or the observers' of revisions by one criterion.

    ``name`` is "peers", or the criterion; ``slope`` is in points a round, None with fewer than two rounds.
    ``inflated`` is whether its interval lies above 0.
    """

    name: str
    raters: RaterKind
    series: tuple[RoundMean, ...]
    slope: Measured | None
    inflated: bool


class RoundAnswers(_Found):
    """The wording of the ``n`` final answers of one round; None where there is nothing to count or compare.

    ``distinct_1`` and ``distinct_2`` are different words, and pairs of words, as a share of all. Both fall
    as there is more text: compare rounds of like size. ``similarity`` is the mean cosine of the word counts
    of two answers by different seats, from 0 to 1.
    """

    round: int
    n: int
    distinct_1: float | None
    distinct_2: float | None
    similarity: float | None


class Homogeneity(_Found):
    """How alike a round's final answers are; ``slope`` is that of the similarity, a round."""

    series: tuple[RoundAnswers, ...] = ()
    slope: Measured | None = None
    rising: bool = False


class SelfPreference(_Found):
    """What a model gives its own messages beyond what others give them, less the same for others' messages.

    In points of the scale. ``own`` and ``others`` are how many messages of either were compared. An adapter
    (``local/x#y``) counts as another model than its base (``local/x``), though they share nearly all of their
    weights: a preference between those two may be one for oneself.
    """

    model: str
    preference: Measured
    own: int
    others: int
    preferred: bool


class Severity(_Found):
    """How far a rater's ``n`` ratings lie from the mean of the others' of the same: negative is severe."""

    rater: str
    is_person: bool
    n: int
    severity: Measured


class CriterionAgreement(_Found):
    """Krippendorff's ordinal alpha in one dimension (see ``sandbox.agreement``), among people, among models,
    or of the people's mean with the models' mean of each message, both to the nearest whole."""

    dimension: str
    who: Who
    alpha: float | None
    low: float | None
    high: float | None
    units: int
    pairable: int


class Unread(_Found):
    """How many of a rater's ratings could not be read (``unparsed``)."""

    rater: str
    is_person: bool
    unparsed: int
    ratings: int


class Monitors(_Found):
    """All of it. ``other_scale`` ratings were given on another scale than today's, and enter no figure.

    ``warnings`` are sentences on what the intervals carry: the fact, then what to look at or to do.
    """

    inflation: tuple[Inflation, ...] = ()
    homogeneity: Homogeneity = Homogeneity()
    self_preference: tuple[SelfPreference, ...] = ()
    severity: tuple[Severity, ...] = ()
    agreement: tuple[CriterionAgreement, ...] = ()
    unparsed: tuple[Unread, ...] = ()
    other_scale: int = 0
    warnings: tuple[str, ...] = ()

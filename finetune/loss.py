"""Losses over the candidates of groups: Stable Alignment, RRHF, plain fine-tuning. Tensor functions only.

``losses`` are the candidates' mean token negative log-likelihoods in nats, shape (groups, candidates);
``ratings`` have the same shape, NaN where there is none; a candidate that is not there, or is not rated, does
not take part. Every function returns one loss a group, shape (groups,); a group in which nobody is rated
gives 0 and no gradient.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Flow = Literal["mean", "max", "each"]


class Weighed(NamedTuple):
    """The loss by group, and its parts: the best candidate's own loss, and what is added for the others."""

    loss: Tensor
    best: Tensor
    penalty: Tensor


def stable_alignment(
    losses: Tensor,
    ratings: Tensor,
    points: Tensor,
    *,
    ratio: float = 0.2,
    margin: float = 1.0,
    flow: Flow = "mean",
) -> Weighed:
    """``L_b + ratio · max(0, mean over i≠b of [L_b − L_i + margin · (r_b − r_i) / points])``.

    b is the best rated candidate (of equals the first), ``points`` the number of values on the scale, shape
    (groups,); ``flow="max"`` takes the largest term instead of the mean; ``flow="each"`` takes
    ``Σ over i≠b of max(0, term)``. With one rated candidate it is L_b. After Liu et al., 2023, equation 2,
    where λ is the ratio and M the margin. As far as we can tell, the paper has ``each``; its published
    code is ``mean`` or ``max``, and clamps once, after the mean or the largest. There M is 1 and λ 0.5 by
    default, and the command in its README takes 10 and 0.2. It reads r_i of the sorted ratings by the place
    of the unsorted, so that lesser candidates change margins; ours does not.
    """
    takes_part = ~torch.isnan(ratings)
    known = takes_part.any(dim=1)
    best = best_of(ratings)
    zero = losses.new_zeros(())
    own = torch.where(known, losses.gather(1, best).squeeze(1), zero)
    rating = torch.where(takes_part, ratings, zero)
    gap = margin * (rating.gather(1, best) - rating) / points.unsqueeze(1)
    term = losses.gather(1, best) - losses + gap
    others = takes_part.scatter(1, best, value=False)
    has_others = others.any(dim=1)
    if flow == "max":
        worst = torch.where(others, term, torch.full_like(term, -torch.inf)).amax(dim=1)
        flowing = torch.where(has_others, worst, zero)
    elif flow == "each":
        flowing = torch.where(others, term.clamp(min=0), zero).sum(dim=1)
    else:
        flowing = torch.where(others, term, zero).sum(dim=1) / others.sum(dim=1).clamp(min=1)
    penalty = torch.where(has_others, flowing.clamp(min=0), zero)
    return Weighed(own + ratio * penalty, own, penalty)


def best_candidate(losses: Tensor, ratings: Tensor) -> Weighed:
    """Plain fine-tuning on the best rated candidate."""
    known = ~torch.isnan(ratings).all(dim=1)
    zero = losses.new_zeros(())
    own = torch.where(known, losses.gather(1, best_of(ratings)).squeeze(1), zero)
    return Weighed(own, own, torch.zeros_like(own))


def rrhf(losses: Tensor, ratings: Tensor, *, ratio: float = 1.0) -> Weighed:
    """``L_b + ratio · Σ over r_i < r_j of max(0, p_i − p_j)``, p being the mean token log-likelihood.

    After Yuan et al., 2023 (RRHF), equations 2 to 4; its ratio is 1. There L_b is a sum over tokens; here it
    is their mean, as p is, so that a long reply does not outweigh the ranking.
    """
    zero = losses.new_zeros(())
    own = best_candidate(losses, ratings).loss
    # NaN compares as false, so what is not rated takes no part.
    is_worse = ratings.unsqueeze(2) < ratings.unsqueeze(1)
    too_likely = (losses.unsqueeze(1) - losses.unsqueeze(2)).clamp(min=0)
    penalty = torch.where(is_worse, too_likely, zero).sum(dim=(1, 2))
    return Weighed(own + ratio * penalty, own, penalty)


def best_of(ratings: Tensor) -> Tensor:
    """The place of each group's best rated candidate (of equals the first), shape (groups, 1)."""
    return torch.nan_to_num(ratings, nan=-torch.inf).argmax(dim=1, keepdim=True)

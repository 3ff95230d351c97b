"""How often a model finds the better rated of two replies the likelier one, with a bootstrap interval."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from finetune.encode import Encoded
from finetune.pairwise import Compared, Preference, compared
from finetune.scoring import Way, score
from sandbox.agreement import LEAST


@torch.no_grad()
def preference(
    model: Any,
    rows: Sequence[Encoded],
    way: Way,
    pad: int,
    *,
    asked: Sequence[Hashable] = (),
    batch: int = 8,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Preference | None:
    """Measure on rows; None where no two candidates differ in rating.

    ``asked`` has what stands for the question of each group, by the rows' places; without it each is its own.
    """
    was_training = model.training
    model.eval()
    told: list[tuple[Compared, Hashable]] = []
    best: list[float] = []
    ordered = sorted(rows, key=lambda row: row.length)
    try:
        for start in range(0, len(ordered), batch):
            some = ordered[start : start + batch]
            scores = score(model, some, way, pad)
            for row, total, mean in zip(some, scores.total.tolist(), scores.mean.tolist(), strict=True):
                likely = ([-loss for loss in mean], [-loss for loss in total])
                told.append((compared(row.ratings, *likely), asked[row.place] if asked else row.place))
                best.append(mean[row.ratings.index(max(row.ratings))])
            on_progress(len(some))
    finally:
        model.train(was_training)
    counted = [group for group, _ in told if group.pairs]
    if not counted:
        return None
    questions: dict[Hashable, list[Compared]] = defaultdict(list)
    for group, question in told:
        if group.pairs:
            questions[question].append(group)
    low, high = interval(list(questions.values()), lambda these: _share(these, "right"), seed)
    return Preference(
        accuracy=_share(counted, "right"),
        low=low,
        high=high,
        by_sum=_share(counted, "by_sum"),
        margin=_share(counted, "margin"),
        pairs=sum(group.pairs for group in counted),
        groups=len(counted),
        best_loss=sum(best) / len(best),
    )


def interval(
    questions: Sequence[Sequence[Compared]],
    figure: Callable[[Sequence[Compared]], float],
    seed: int,
    resamples: int = 1000,
) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of a figure; all groups of a question are drawn together."""
    if len(questions) < LEAST:
        return None, None
    chance = random.Random(seed)
    found = sorted(
        figure([group for groups in chance.choices(questions, k=len(questions)) for group in groups])
        for _ in range(resamples)
    )
    return found[int(0.025 * resamples)], found[int(0.975 * resamples)]


def _share(groups: Sequence[Compared], name: str) -> float:
    total: float = sum(getattr(group, name) for group in groups)
    return total / max(sum(group.pairs for group in groups), 1)

"""What an evaluation may take before it is begun: answers, ratings, and their price."""

from __future__ import annotations

from typing import NamedTuple

from finetune.evaluate.answers import RATING_TOKENS, RUBRIC
from finetune.evaluate.running import Prepared, is_judged
from sandbox.estimate import price


class Estimate(NamedTuple):
    """What an evaluation may take: ``cost`` in US dollars, without the models in ``unpriced``."""

    scored: int
    answers: int
    ratings: int
    cost: float
    unpriced: tuple[str, ...]


def estimate(prepared: Prepared) -> Estimate:
    """An upper estimate before it is begun: every answer at its full length."""
    options = prepared.plan.options
    models = len(options.models)
    scored = sum(len(one.items) for name, one in prepared.suites.items() if not is_judged(prepared, name))
    asked = [one for name, one in prepared.suites.items() if is_judged(prepared, name)]
    count = sum(len(one.items) for one in asked)
    tokens = sum(
        sum(len(message.content) for message in item.content.chat) // 4 + 1
        for one in asked
        for item in one.items
    )
    ratings = count * len(RUBRIC.criteria)
    parts = dict.fromkeys(options.models, (tokens, count * options.max_tokens)) if count else {}
    if count:
        prompts = len(RUBRIC.criteria) * models * (tokens + count * (options.max_tokens + 200))
        known = parts.get(options.judge, (0, 0))
        parts[options.judge] = (known[0] + prompts, known[1] + models * ratings * RATING_TOKENS)
    cost, unpriced = 0.0, []
    for model, (prompt, completion) in parts.items():
        found = price(model, prompt, completion)
        if found is None:
            unpriced.append(model)
        else:
            cost += found
    return Estimate(scored * models, count * models, ratings * models, round(cost, 4), tuple(unpriced))

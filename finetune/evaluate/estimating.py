"""What an evaluation may take before it is begun: answers, ratings, and their price."""

from __future__ import annotations

from typing import NamedTuple

from finetune.evaluate import suites
from finetune.evaluate.answers import RATING_TOKENS, RUBRIC, AnswerSuite
from finetune.evaluate.people import PeopleSuite
from finetune.evaluate.running import Prepared
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
    scored = sum(len(one.items) for name, one in prepared.suites.items() if not suites.talks(name))
    asked = [one for one in prepared.suites.values() if isinstance(one.suite, AnswerSuite)]
    judges = [one for one in prepared.suites.values() if isinstance(one.suite, PeopleSuite)]
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
    rated = [item.content for one in judges for item in one.items]
    lengths = sum((len(one.question) + len(one.text)) // 4 + 200 for one in rated)
    for model in options.models if rated else ():
        known = parts.get(model, (0, 0))
        parts[model] = (known[0] + lengths, known[1] + len(rated) * RATING_TOKENS)
    ratings += len(rated)
    cost, unpriced = 0.0, []
    for model, (prompt, completion) in parts.items():
        found = price(model, prompt, completion)
        if found is None:
            unpriced.append(model)
        else:
            cost += found
    return Estimate(scored * models, count * models, ratings * models, round(cost, 4), tuple(unpriced))

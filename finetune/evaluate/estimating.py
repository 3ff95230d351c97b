"""What an evaluation may take before it is begun: answers, ratings, and their price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from finetune.evaluate.answers import RATING_TOKENS, RUBRIC, AnswerSuite
from finetune.evaluate.people import PeopleSuite
from finetune.evaluate.running import Prepared, missing
from sandbox.estimate import price

_CHARACTERS = 4
"""Characters a token has, about."""
_OVERHEAD = 200
"""Tokens that a judge's prompt has besides question and answer."""


class Estimate(NamedTuple):
    """What an evaluation may take: ``cost`` in US dollars, without the models in ``unpriced``."""

    scored: int
    answers: int
    ratings: int
    cost: float
    unpriced: tuple[str, ...]


def estimate(prepared: Prepared, done: Collection[tuple[str, str, str]] = ()) -> Estimate:
    """An upper estimate of what is missing: every answer at its full length.

    ``done`` are the models, suites and items that are measured already.
    """
    options = prepared.plan.options
    prompts: Counter[str] = Counter()
    completions: Counter[str] = Counter()
    scored = answers = ratings = 0
    for model, by_suite in missing(prepared, done).items():
        for name, items in by_suite.items():
            match prepared.suites[name].suite:
                case AnswerSuite():
                    asked = sum(_tokens(message.content) for item in items for message in item.content.chat)
                    answers += len(items)
                    ratings += len(items) * len(RUBRIC.criteria)
                    prompts[model] += asked
                    completions[model] += len(items) * options.max_tokens
                    read = asked + len(items) * (options.max_tokens + _OVERHEAD)
                    prompts[options.judge] += len(RUBRIC.criteria) * read
                    completions[options.judge] += len(RUBRIC.criteria) * len(items) * RATING_TOKENS
                case PeopleSuite():
                    rated = [item.content for item in items]
                    ratings += len(rated)
                    prompts[model] += sum(_tokens(one.question + one.text) + _OVERHEAD for one in rated)
                    completions[model] += len(rated) * RATING_TOKENS
                case _:
                    scored += len(items)
    cost, unpriced = 0.0, []
    for model in sorted(prompts):
        found = price(model, prompts[model], completions[model])
        if found is None:
            unpriced.append(model)
        else:
            cost += found
    return Estimate(scored, answers, ratings, round(cost, 4), tuple(unpriced))


def _tokens(text: str) -> int:
    return len(text) // _CHARACTERS + 1

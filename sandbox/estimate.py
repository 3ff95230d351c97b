"""What a run may take before it is begun: calls and tokens by the society's own numbers, and their price.

An upper estimate: every answer at its full length, questions at their mean. It calls no model; prices are
LiteLLM's, where it knows the model.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from sandbox.models.spec import parse
from sandbox.society import Society

_OVERHEAD = 120
"""Tokens that a prompt has besides what was asked and said: who one is, the criterion, the form."""
_CHARACTERS = 4
"""Characters a token has, about."""


class Estimate(NamedTuple):
    """Totals. ``cost`` is in US dollars, without the models in ``unpriced``."""

    interactions: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    unpriced: tuple[str, ...]


def estimate(society: Society, rounds: int | None = None) -> Estimate:
    """What ``rounds`` rounds (the society's own number, if None) may take. May import LiteLLM; blocks."""
    rounds = society.rounds if rounds is None else rounds
    agents = [agent for agent in society.agents if agent.active]
    each = society.rules.per_seat or len(society.questions)
    asked = sum(len(question.text) for question in society.questions) // max(len(society.questions), 1)
    question = asked // _CHARACTERS + 1
    answer, rating = society.lengths.answer_tokens, society.lengths.rating_tokens
    peers = min(society.rules.peers, max(len(agents) - 1, 0)) + society.rules.far_peers
    criteria = len(society.rubric.criteria)
    prompts: Counter[str] = Counter()
    completions: Counter[str] = Counter()
    calls = 0
    for agent in agents:
        turns = rounds * each
        rates_as = agent.rating_model or agent.model
        calls += turns * (2 + peers)
        prompts[agent.model] += turns * (2 * (_OVERHEAD + question) + answer + peers * rating)
        completions[agent.model] += turns * 2 * answer
        prompts[rates_as] += turns * peers * (_OVERHEAD + question + answer)
        completions[rates_as] += turns * peers * rating
        for observer in society.observers:
            calls += turns * 2 * criteria
            prompts[observer.model] += turns * 2 * criteria * (_OVERHEAD + question + answer)
            completions[observer.model] += turns * 2 * criteria * rating
    cost, unpriced = 0.0, []
    for model in sorted(set(prompts)):
        found = price(model, prompts[model], completions[model])
        if found is None:
            unpriced.append(model)
        else:
            cost += found
    return Estimate(
        rounds * each * len(agents),
        calls,
        prompts.total(),
        completions.total(),
        round(cost, 6),
        tuple(unpriced),
    )


def price(model: str, prompt: int, completion: int) -> float | None:
    """US dollars; what runs on this machine costs none. None if it is not known."""
    spec = parse(model)
    if spec.family in ("scripted", "local"):
        return 0.0
    if spec.family == "openai":
        return None
    from sandbox.models import remote

    return remote.price(spec.name, prompt, completion)

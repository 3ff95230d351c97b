"""What a seat is asked in a deliberation, as messages: to draft, to rate, to revise.

Pure. Deliberation asks so, and training shows a model the same words, lest it learn to answer something that
it will never be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sandbox.exchange import ChatMessage
from sandbox.memory import Recalled
from sandbox.prompts import form, introduction, render
from sandbox.rubric import Criterion, Rubric
from sandbox.society import Seat


class Opinion(NamedTuple):
    """One peer's judgement of the draft, as the centre is told of it. ``value`` is None if unparsed."""

    place: int
    value: float | None
    reason: str


class Revising(NamedTuple):
    """The messages that ask for a revision, with what they tell: the mean rating and the reasons."""

    messages: tuple[ChatMessage, ...]
    mean: float | None
    reasons: tuple[str, ...]


def mean_rating(opinions: Sequence[Opinion]) -> float | None:
    """The mean of the parsed ratings; None when there are none. Unparsed ones never count."""
    values = sorted(opinion.value for opinion in opinions if opinion.value is not None)
    return sum(values) / len(values) if values else None


def to_draft(
    language: str, centre: Seat, question: str, recalled: Recalled | None = None
) -> tuple[ChatMessage, ...]:
    """The messages that ask a seat to answer a question."""
    body = render(language, "draft", question=question, recalled=recalled)
    return (introduction(language, centre), ChatMessage("user", body))


def to_rate(rubric: Rubric, question: str, answer: str, recalled: Recalled | None = None) -> ChatMessage:
    """The message that asks a peer to rate an answer, and to say how it could be better."""
    return ChatMessage(
        "user",
        render(
            rubric.language,
            "rate",
            question=question,
            answer=answer,
            recalled=recalled,
            criterion=rubric.criterion(rubric.peer),
            scale=rubric.scale,
            form=form(rubric.language),
        ),
    )


def to_observe(rubric: Rubric, criterion: Criterion, question: str, answer: str) -> ChatMessage:
    """The message that asks an observer, or a judge, to rate an answer by one criterion."""
    return ChatMessage(
        "user",
        render(
            rubric.language,
            "observe",
            question=question,
            answer=answer,
            criterion=criterion,
            scale=rubric.scale,
            form=form(rubric.language),
        ),
    )


def to_revise(
    rubric: Rubric, centre: Seat, question: str, draft: str, opinions: Sequence[Opinion]
) -> Revising:
    """The messages that ask a seat to revise its draft."""
    # Worst last; an unparsed opinion still has words, and comes first. Places break ties, so that the
    # prompt does not depend on who answered first.
    ranked = sorted(opinions, key=lambda o: (o.value is not None, -(o.value or 0), o.place))
    mean = mean_rating(opinions)
    reasons = [opinion.reason for opinion in ranked if opinion.reason]
    body = render(
        rubric.language,
        "revise",
        question=question,
        draft=draft,
        mean=None if mean is None else f"{mean:.1f}",
        scale=rubric.scale,
        reasons=reasons,
    )
    messages = (introduction(rubric.language, centre), ChatMessage("user", body))
    return Revising(messages, mean, tuple(reasons))

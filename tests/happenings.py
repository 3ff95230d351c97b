"""Events of sessions that never were, for what looks at events."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox import events as ev
from sandbox.exchange import Usage


def usage(model: str) -> Usage:
    return Usage(model=f"scripted/{model}")


def deliberation(
    number: int,
    *,
    round: int | None = 1,
    seat: str = "A",
    model: str = "m",
    draft: str = "a draft",
    revision: str | None = "a revision",
    rated: Iterable[ev.RatingGiven] = (),
    question: str | None = None,
) -> list[ev.Event]:
    """One interaction, with the ratings given in it; about a question of its own, unless one is given."""
    asked = f"q{number}" if question is None else question
    told: list[ev.Event] = [ev.InteractionStarted(interaction=number, round=round, seat=seat, question=asked)]
    for role, text in (("draft", draft), ("revision", revision)):
        if text is not None:
            told.append(
                ev.MessagePosted(
                    interaction=number,
                    step=role,
                    seat=seat,
                    role=role,  # type: ignore[arg-type]
                    text=text,
                    usage=usage(model),
                )
            )
    outcome = "revised" if revision is not None else "unrevised"
    return [*told, *rated, ev.InteractionFinished(interaction=number, outcome=outcome)]  # type: ignore[arg-type]


def peer(number: int, rater: str, value: float | None, **more: object) -> ev.RatingGiven:
    """A peer's rating of a draft."""
    return _rating(number, f"rate.{rater}", rater, "draft", "alignment", value, **more)


def observer(
    number: int, rater: str, value: float | None, role: str = "revision", dimension: str = "alignment"
) -> ev.RatingGiven:
    """An observer's rating."""
    return _rating(number, f"observe.{rater}.{role}.{dimension}", rater, role, dimension, value)


def person(
    number: int, name: str, value: float, role: str = "draft", at: int | None = None
) -> ev.RatingGiven:
    """A person's rating of a message, given outside of its interaction."""
    step = f"judge.{name}.alignment"
    given = _rating(at or 1000 + number, step, name, role, "alignment", value, number=number, person=name)
    return given.model_copy(update={"method": "human", "usage": None})


def _rating(
    interaction: int,
    step: str,
    rater: str,
    role: str,
    dimension: str,
    value: float | None,
    *,
    number: int | None = None,
    model: str = "judge",
    **more: object,
) -> ev.RatingGiven:
    return ev.RatingGiven(
        interaction=interaction,
        step=step,
        rater=rater,
        target=f"{number or interaction}.{role}",
        dimension=dimension,
        value=value,
        unparsed="no_number" if value is None else None,
        usage=usage(model),
        **more,  # type: ignore[arg-type]
    )


def flat(interactions: Iterable[list[ev.Event]]) -> list[ev.Event]:
    return [event for events in interactions for event in events]

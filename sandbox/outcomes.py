"""Outcome → event, and back: how a reply or a failure is put on record, and read from it again. Pure."""

from __future__ import annotations

from sandbox import events as ev
from sandbox.exchange import Answered, Failure, Outcome, Reply, Usage
from sandbox.memory import Recalled
from sandbox.ratings import Rating, Unparsed, read_rating
from sandbox.rubric import Rubric
from sandbox.text import is_blank


def posted(
    interaction: int,
    answered: Answered,
    seat: str,
    role: ev.MessageRole,
    *,
    to: tuple[str, ...] = (),
    recalled: Recalled | None = None,
) -> ev.MessagePosted | ev.TurnFailed:
    """The event for an answer in words: posted, or failed (an empty text is a failure, not a message)."""
    outcome = answered.outcome
    if isinstance(outcome, Reply) and is_blank(outcome.text):
        outcome = Failure("empty", "The reply had no text.", outcome.usage, outcome.person)
    if isinstance(outcome, Failure):
        return failed(interaction, answered.step, seat, outcome)
    return ev.MessagePosted(
        interaction=interaction,
        step=answered.step,
        seat=seat,
        role=role,
        text=outcome.text,
        to=to,
        recalled=recalled.question if recalled else None,
        usage=None if outcome.person else outcome.usage,
        person=outcome.person,
    )


def rated(
    interaction: int,
    step: str,
    reply: Reply,
    *,
    rater: str,
    role: ev.RaterRole,
    target: str,
    dimension: str,
    rubric: Rubric,
    recalled: Recalled | None = None,
) -> ev.RatingGiven:
    """The event for a rating reply: a value where one was given or can be read, else why not."""
    read: Rating | Unparsed = reply.rating or read_rating(reply.text, rubric.scale)
    return ev.RatingGiven(
        interaction=interaction,
        step=step,
        rater=rater,
        role=role,
        target=target,
        dimension=dimension,
        value=read.value if isinstance(read, Rating) else None,
        unparsed=read.why if isinstance(read, Unparsed) else None,
        scale=rubric.scale,
        raw=reply.text,
        reason=read.reason,
        method=read.method,
        distribution=read.distribution if isinstance(read, Rating) else None,
        rubric=rubric.version,
        recalled=recalled.question if recalled else None,
        usage=None if reply.person else reply.usage,
        person=reply.person,
    )


def failed(interaction: int, step: str, seat: str, failure: Failure) -> ev.TurnFailed:
    """The event for a request that got no usable reply."""
    return ev.TurnFailed(
        interaction=interaction,
        step=step,
        seat=seat,
        error=failure.kind,
        detail=failure.detail,
        usage=None if failure.kind == "abstained" else failure.usage,
        person=failure.person,
    )


def recorded_outcome(event: ev.Step) -> Outcome:
    """The outcome that led to ``event``: what a resumed generator is sent in place of asking again."""
    usage = event.usage or Usage()
    if isinstance(event, ev.TurnFailed):
        return Failure(event.error, event.detail, usage, event.person)
    if isinstance(event, ev.MessagePosted):
        return Reply(event.text, None, usage, event.person)
    read: Rating | Unparsed
    if event.value is not None:
        read = Rating(event.value, event.reason, event.method, event.distribution)
    else:
        read = Unparsed(event.unparsed or "empty", event.reason, event.method)
    return Reply(event.raw, read, usage, event.person)

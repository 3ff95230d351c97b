"""Event → rows: how the tables follow from the log. Pure; used when appending and when forking alike."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sandbox import events as ev
from sandbox.exchange import Usage
from sandbox.rubric import Rubric
from sandbox.store.tables import (
    InteractionRow,
    MessageRow,
    ModelCallRow,
    RatingRow,
    RubricRow,
    SeatRow,
    Table,
)

Row = tuple[Any, ...]

COLUMNS: dict[type[Table], tuple[str, ...]] = {
    table: tuple(column.name for column in table.__table__.columns)  # type: ignore[union-attr]
    for table in (SeatRow, RubricRow, InteractionRow, MessageRow, RatingRow, ModelCallRow)
}


class Rows(NamedTuple):
    """New rows by table, in the order of its columns; ended interactions; the session's own changes."""

    inserted: dict[type[Table], list[Row]]
    outcomes: list[tuple[str, int, int]]  # outcome, session_id, number
    session: dict[str, Any]


def project(session_id: int, first_seq: int, events: Sequence[ev.Event]) -> Rows:  # noqa: C901 - one case an event
    """The rows that follow from ``events``, the first of which has seq ``first_seq``."""
    inserted: dict[type[Table], list[Row]] = defaultdict(list)
    outcomes: list[tuple[str, int, int]] = []
    session: dict[str, Any] = {}
    for seq, event in enumerate(events, first_seq):
        match event:
            case ev.RatingGiven():
                inserted[RatingRow].append(_rating(session_id, seq, event))
                _call(inserted, session_id, seq, event, event.rater)
            case ev.MessagePosted():
                inserted[MessageRow].append(_message(session_id, seq, event))
                _call(inserted, session_id, seq, event, event.seat)
            case ev.InteractionStarted():
                inserted[InteractionRow].append(
                    (session_id, event.interaction, event.kind, event.round, event.seat, event.question, None)
                )
            case ev.InteractionFinished():
                outcomes.append((event.outcome, session_id, event.interaction))
            case ev.TurnFailed():
                _call(inserted, session_id, seq, event, event.seat, event.error, event.detail)
            case ev.SessionCreated(society=society):
                inserted[SeatRow] += [
                    (session_id, a.name, a.kind, a.place, a.label, a.model, a.persona) for a in society.agents
                ]
                inserted[SeatRow] += [
                    (session_id, o.name, o.kind, None, None, o.model, "") for o in society.observers
                ]
                inserted[SeatRow] += [
                    (session_id, h.name, h.kind, None, None, h.model or "", "") for h in society.humans
                ]
                inserted[RubricRow].append(_rubric(session_id, seq, society.rubric))
            case ev.RubricChanged(rubric=rubric):
                inserted[RubricRow].append(_rubric(session_id, seq, rubric))
            case ev.SeatAdded(seat=human):
                inserted[SeatRow].append(
                    (session_id, human.name, human.kind, None, None, human.model or "", "")
                )
            case ev.SessionForked(seed=seed):
                session |= {"status": "paused"} | ({} if seed is None else {"seed": seed})
            case ev.RunPaused():
                session["status"] = "paused"
            case ev.RunResumed(rounds=rounds):
                session |= {"status": "running", "rounds": rounds}
            case ev.RunFinished():
                session["status"] = "finished"
            case ev.RoundStarted(round=number):
                session |= {"status": "running", "round": number}
            case _:
                pass
    return Rows(inserted, outcomes, session)


def _message(session_id: int, seq: int, event: ev.MessagePosted) -> Row:
    return (
        session_id,
        seq,
        event.interaction,
        event.step,
        event.seat,
        event.role,
        event.text,
        json.dumps(event.to) if event.to else None,
        event.recalled,
        event.person,
    )


def _rating(session_id: int, seq: int, event: ev.RatingGiven) -> Row:
    return (
        session_id,
        seq,
        event.interaction,
        event.step,
        event.rater,
        event.target,
        event.dimension,
        event.value,
        event.unparsed,
        event.scale.low,
        event.scale.high,
        event.raw,
        event.reason,
        event.method,
        json.dumps(event.distribution) if event.distribution else None,
        event.rubric,
        event.recalled,
        event.person,
        event.rated_as,
    )


def _rubric(session_id: int, seq: int, rubric: Rubric) -> Row:
    return (session_id, rubric.version, seq, rubric.model_dump_json())


def _call(
    inserted: dict[type[Table], list[Row]],
    session_id: int,
    seq: int,
    event: ev.Step,
    seat: str,
    error: str | None = None,
    detail: str | None = None,
) -> None:
    usage: Usage | None = event.usage
    if usage is None:  # a person's words cost no call
        return
    inserted[ModelCallRow].append(
        (
            session_id,
            seq,
            event.interaction,
            event.step,
            seat,
            usage.model,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cost,
            usage.latency_ms,
            usage.attempts,
            usage.trimmed,
            usage.finish,
            error,
            detail,
        )
    )

"""Every event as one line of text, for the feed, for ``--plain`` and for screen readers. Pure.

Lines hold what models and people wrote as it is; whoever shows them passes them through ``tui.safe``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sandbox import events as ev

Tone = Literal["said", "rated", "failed", "run", "people", "quiet"]


@dataclass(frozen=True, slots=True)
class Line:
    """Who, what, and of what kind it is; ``message`` is what can be rated and looked at, if there is one."""

    who: str
    what: str
    tone: Tone
    interaction: int | None = None
    message: str | None = None


_DONE = {
    "draft": "drafts",
    "revision": "revises",
    "answer": "answers",
    "message": "says",
}
_WANTS = {
    "draft": "a draft",
    "revise": "a revision",
    "chat": "a reply",
    "rate": "a rating",
    "observe": "a rating",
}


def number(value: float) -> str:
    """A rating as people read it: at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def line(event: ev.Event, *, masked: bool = False) -> Line:  # noqa: C901 - one case a kind of event
    """The line of an event. ``masked`` ratings are said to be hidden."""
    match event:
        case ev.InteractionStarted(kind="chat"):
            return Line(event.seat, "has something to say", "quiet", event.interaction)
        case ev.InteractionStarted():
            where = f"round {event.round}" if event.round is not None else event.kind
            return Line(event.seat, f"is asked ({where}): {event.question}", "quiet", event.interaction)
        case ev.MessagePosted():
            to = f" to {', '.join(event.to)}" if event.to else ""
            done = _DONE.get(event.role, f"posts a {event.role}")
            return Line(_who(event), f"{done}{to}: {event.text}", "said", event.interaction, event.message)
        case ev.RatingGiven():
            return _rating(event, masked)
        case ev.TurnFailed():
            detail = f": {event.detail}" if event.detail else ""
            return Line(_who(event), f"gave no answer ({event.error}){detail}", "failed", event.interaction)
        case ev.InteractionFinished():
            return Line(
                "", f"interaction {event.interaction} is over: {event.outcome}", "quiet", event.interaction
            )
        case ev.TurnAwaited():
            wants = _WANTS[event.purpose]
            return Line(event.person, f"is waited for in {event.seat}: {wants}", "people", event.interaction)
        case ev.ReactionGiven():
            did = "reacts to" if event.on else "takes back a reaction to"
            return Line(event.person, f"{did} {event.target}: {event.reaction}", "people", None, event.target)
        case ev.SeatTaken():
            return Line(event.person, f"takes the seat {event.seat} (when away: {event.absent})", "people")
        case ev.SeatReturned():
            return Line(event.person, f"leaves the seat {event.seat}", "people")
        case ev.SeatAdded():
            return Line("", f"there is a new seat for people: {event.seat.name}", "people")
        case ev.SeatChanged():
            back = " again" if event.rolled_back else ""
            return Line(event.seat, f"speaks{back} through {event.model} (before: {event.before})", "run")
        case ev.RoundStarted():
            return Line("", f"round {event.round} begins: {event.count} interactions", "run")
        case ev.RoundFinished():
            return Line("", f"round {event.round} is over", "run")
        case ev.RunPaused():
            detail = f": {event.detail}" if event.detail else ""
            return Line("", f"the run has stopped ({event.reason}){detail}", "run")
        case ev.RunResumed():
            return Line("", f"the run goes on, to round {event.rounds}", "run")
        case ev.RunFinished():
            return Line("", "all rounds are done", "run")
        case ev.RubricChanged():
            return Line("", f"new norms are in force: version {event.rubric.version}", "run")
        case ev.SessionCreated():
            return Line("", f"the society '{event.society.name}' is there", "run")
        case ev.SessionForked():
            return Line("", f"forked from {event.parent}", "run")


def _rating(event: ev.RatingGiven, masked: bool) -> Line:
    about = f"{event.target} for {event.dimension}"
    if masked:
        said = f"rates {about}: hidden until yours is in"
    elif event.value is None:
        said = f"rates {about}: unparsed ({event.unparsed})"
    else:
        said = f"rates {about}: {number(event.value)} of {event.scale.high}"
        said += f" – {event.reason}" if event.reason else ""
    return Line(event.person or event.rater, said, "rated", event.interaction, event.target)


def _who(event: ev.MessagePosted | ev.TurnFailed) -> str:
    return f"{event.person} as {event.seat}" if event.person and event.person != event.seat else event.seat

"""A society as a model: a draft, its ratings and the revision, told as they come and in one field at the end.

The text of the answer is the revision, or the draft if there is none. A stream holds both, with
``SEPARATOR`` between them, and says with every piece which of them it is.
"""

from __future__ import annotations

from typing import Any

from sandbox import events as ev
from sandbox.exchange import FailureKind
from sandbox.models.limits import paid_by
from server.openai.asking import Asking
from server.openai.errors import ApiError, failed_turn
from server.openai.speaking import Choice, Emit, Note, Piece, Spoken, finish_of, rest_of
from server.openai.wire import SEPARATOR, question_of


class Telling:
    """What has happened in one interaction, told in pieces while it happens."""

    def __init__(self, asked: Asking, emit: Emit, interaction: int | None = None) -> None:
        self._session = asked.target.session
        self._shows_draft = asked.shows_draft
        self._emit = emit
        self._interaction = interaction
        self._seat = ""
        self._said: dict[str, str] = {}
        self._posted: dict[str, ev.MessagePosted] = {}
        self._ratings: list[dict[str, Any]] = []
        self._peers: list[float] = []
        self._failures: list[dict[str, Any]] = []
        self._failed: tuple[FailureKind, str] | None = None
        self._prompts = self._completions = 0

    def piece(self, step: str, text: str) -> None:
        """New words of the draft or the revision."""
        if step == "draft" and not self._shows_draft:
            return
        if step == "revision" and step not in self._said and self._shows_draft:
            self._emit(Piece(0, SEPARATOR, {"stage": "separator"}))
        self._said[step] = self._said.get(step, "") + text
        self._emit(Piece(0, text, {"stage": step}))

    def take(self, event: ev.Event) -> None:
        """One more event of the interaction."""
        if isinstance(event, ev.InteractionStarted):
            self._seat = event.seat
        if not isinstance(event, ev.MessagePosted | ev.RatingGiven | ev.TurnFailed):
            return
        if event.usage is not None:
            self._prompts += event.usage.prompt_tokens
            self._completions += event.usage.completion_tokens
        match event:
            case ev.MessagePosted():
                self._posted[event.role] = event
                if rest := rest_of(self._said.get(event.role, ""), event.text):
                    self.piece(event.role, rest)
            case ev.RatingGiven():
                rating = _rating(event)
                self._ratings.append(rating)
                if event.rated_as == "peer" and event.value is not None:
                    self._peers.append(event.value)
                self._emit(Piece(0, "", {"stage": "rating", "rating": rating}))
            case ev.TurnFailed():
                failure = {"seat": event.seat, "step": event.step, "kind": event.error}
                self._failures.append(failure | {"detail": event.detail})
                if event.step in ("draft", "answer"):
                    self._failed = (event.error, event.detail)

    def spoken(self) -> Spoken:
        """The whole. Raises ``ApiError`` if there was no draft."""
        answer = self._posted.get("revision") or self._posted.get("draft") or self._posted.get("answer")
        if answer is None:
            raise failed_turn(*(self._failed or ("error", "The draft was never finished.")))
        if not self._shows_draft and answer.role == "draft":  # nothing has been shown yet
            self._emit(Piece(0, answer.text, {"stage": "draft"}))
        choice = Choice(answer.text, finish_of(answer.usage))
        return Spoken((choice,), self._prompts, self._completions, self._note())

    def _note(self) -> Note:
        about = {"session": self._session, "interaction": self._interaction, "seat": self._seat}
        if "answer" in self._posted:
            return about
        draft, revision = self._posted.get("draft"), self._posted.get("revision")
        return about | {
            "draft": draft.text if draft else None,
            "revision": revision.text if revision else None,
            "peers_mean": sum(self._peers) / len(self._peers) if self._peers else None,
            "ratings": self._ratings,
            "failures": self._failures,
        }


async def speak(asked: Asking, emit: Emit) -> Spoken:
    """A whole deliberation, off the record."""
    question = question_of(asked.messages)
    aside = await asked.aside()
    seats = [agent.name for agent in aside.agents]
    seat = asked.options.seat or (seats or [""])[0]
    if seat not in seats:
        raise ApiError(f"No such seat answers. Those are: {', '.join(seats[:30])}.", param="sandbox.seat")
    telling = Telling(asked, emit)
    async with asked.turn:
        with paid_by(asked.purse):
            await aside.deliberate(seat, question, telling.take, telling.piece)
    return telling.spoken()


def _rating(event: ev.RatingGiven) -> dict[str, Any]:
    return {
        "rater": event.rater,
        "role": event.rated_as,
        "target": event.target.partition(".")[2],
        "dimension": event.dimension,
        "value": event.value,
        "unparsed": event.unparsed,
        "reason": event.reason,
        "method": event.method,
    }

"""Changes to a society while it runs: which model a seat speaks through, and the norms.

What is under way ends as it began; the next request goes by what is new.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sandbox import events as ev
from sandbox.errors import ContextOverflow, EmptyReply, RateLimited, SessionError
from sandbox.exchange import ChatMessage, Request, Sampling
from sandbox.models.base import Model
from sandbox.people import Record
from sandbox.progress import Progress
from sandbox.prompts import require_prompts
from sandbox.rubric import Rubric
from sandbox.society import Human, Seat
from sandbox.store.inbox import Receipt, each

_TRIAL = Sampling(max_tokens=16)


class Amendments:
    """The changes to one session's society. ``record`` commits events before it returns."""

    def __init__(self, progress: Progress, models: Callable[[str], Model], record: Record) -> None:
        self._progress = progress
        self._models = models
        self._record = record

    async def change_model(self, seat: str, spec: str, receipt: Receipt | None = None) -> None:
        """Have a seat speak through another model from its next request on.

        The model is asked for a word first: one that can't work is refused, and the seat stays as it was.
        Raises ``SessionError``, ``SocietyError`` or the ``ModelError``.
        """
        self._speaking(seat)
        model = self._models(spec)
        if not spec.startswith("scripted/"):
            trial = Request("trial", seat, "chat", (ChatMessage("user", "Hello"),), _TRIAL)
            with suppress(ContextOverflow, EmptyReply, RateLimited):  # it is there, and lets us in
                await model.generate(trial)
        now = self._speaking(seat)  # the trial takes its time, and others may have changed it
        await self._record([ev.SeatChanged(seat=seat, model=spec, before=now.model or "")], each(receipt))

    async def roll_back_model(self, seat: str, receipt: Receipt | None = None) -> None:
        """Give a seat the model it had before its last change that was not rolled back.

        Raises ``SessionError`` if there is none. The model is not tried: it has been in the seat.
        """
        there = self._speaking(seat)
        before = self._progress.models_before.get(seat)
        if not before:
            raise SessionError(
                f"The seat '{seat}' has the model it began with. There is nothing to roll back."
            )
        changed = ev.SeatChanged(seat=seat, model=before[-1], before=there.model or "", rolled_back=True)
        await self._record([changed], each(receipt))

    async def change_rubric(self, rubric: Rubric, receipt: Receipt | None = None) -> None:
        """Put new norms into force, under the next version. What has begun ends under the old ones."""
        if any(criterion.is_blank for criterion in rubric.criteria):
            raise SessionError("A criterion needs a question, a worst and a best that can be seen.")
        renewed = rubric.model_copy(update={"version": self._progress.society.rubric.version + 1})
        require_prompts(renewed.language)
        await self._record([ev.RubricChanged(rubric=renewed)], each(receipt))

    def _speaking(self, seat: str) -> Seat:
        there = self._progress.society.seat(seat)
        if there is None or isinstance(there, Human):
            raise SessionError(f"There is no seat '{seat}' with a model.")
        return there

"""The one interface to a model, and the reading of its text. It knows no provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from sandbox.errors import BudgetExhausted, EmptyReply, ModelError
from sandbox.exchange import Failure, Outcome, Reply, Request, Usage
from sandbox.redaction import Redactor
from sandbox.text import is_blank, storable

OnDelta = Callable[[str], None]
"""Called with each piece of text as it is generated, in the event loop's thread."""

_THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.S | re.I)


class Model(Protocol):
    """Answers requests. Safe to call many times at once; cancelling the call stops the work."""

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply to one request. Raises ``ModelError``."""
        ...


async def outcome_of(
    models: Callable[[str], Model],
    spec: str,
    request: Request,
    redact: Redactor,
    on_delta: OnDelta | None = None,
) -> Outcome:
    """A model's reply, or its failure as it is put on record. Raises only ``BudgetExhausted``.

    An empty ``spec`` is a seat for a person, in which nobody sits.
    """
    if not spec:
        return Failure("abstained", "Nobody sits there.")
    try:
        return await models(spec).generate(request, on_delta)
    except BudgetExhausted:
        raise
    except ModelError as error:
        name = spec.partition("?")[0]
        usage = Usage(model=name, attempts=error.attempts, cost=error.cost, finish="error")
        return Failure(error.kind, redact(str(error)), usage)  # type: ignore[arg-type]


def spoken(text: str | None, purpose: str) -> str:
    """What a model said, without its thinking. Raises ``EmptyReply`` if that is nothing.

    A rater's raw text is kept whole: the reader of ratings drops the thinking itself.
    """
    whole = storable(text or "")
    said = whole if purpose in ("rate", "observe") else _THINKING.sub("", whole).strip()
    if not is_blank(said):
        return said
    what = "no text" if is_blank(whole) else "only thinking"
    raise EmptyReply(f"The model's reply had {what}.")

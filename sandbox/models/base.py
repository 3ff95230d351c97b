"""The one interface to a model, and the reading of its text. It knows no provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from sandbox.errors import EmptyReply
from sandbox.exchange import Reply, Request
from sandbox.text import storable

OnDelta = Callable[[str], None]
"""Called with each piece of text as it is generated, in the event loop's thread."""

_THINKING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.S | re.I)


class Model(Protocol):
    """Answers requests. Safe to call many times at once; cancelling the call stops the work."""

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """The reply to one request. Raises ``ModelError``."""
        ...


def spoken(text: str | None, purpose: str) -> str:
    """What a model said, without its thinking. Raises ``EmptyReply`` if that is nothing.

    A rater's raw text is kept whole: the reader of ratings drops the thinking itself.
    """
    whole = storable(text or "")
    said = whole if purpose in ("rate", "observe") else _THINKING.sub("", whole).strip()
    if said.strip():
        return said
    what = "only thinking" if whole.strip() else "no text"
    raise EmptyReply(f"The model's reply had {what}.")

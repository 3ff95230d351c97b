"""What of a feed is wanted, written on one line: ``A1 round:2 kind:rating_given honest``. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import get_args

from sandbox import events as ev

KINDS = tuple(str(kind.model_fields["type"].default) for kind in get_args(get_args(ev.Event)[0]))
_SHORT = {
    "said": "message_posted",
    "messages": "message_posted",
    "ratings": "rating_given",
    "rated": "rating_given",
    "failures": "turn_failed",
    "failed": "turn_failed",
    "asked": "interaction_started",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A seat, a round, a kind of event, and words that stand in the text; what is None is not asked for."""

    seat: str | None = None
    round: int | None = None
    kind: str | None = None
    words: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether everything is wanted."""
        return self == Filter()

    def __str__(self) -> str:
        parts = [
            f"seat:{self.seat}" if self.seat else "",
            f"round:{self.round}" if self.round is not None else "",
            f"kind:{self.kind}" if self.kind else "",
            self.words,
        ]
        return " ".join(part for part in parts if part)


def parse(text: str, seats: Collection[str] = ()) -> Filter:
    """The filter that a line asks for. Raises ``ValueError`` with the remedy."""
    seat, round, kind = None, None, None
    words = []
    for part in text.split():
        name, colon, value = part.partition(":")
        if colon and name == "seat":
            seat = value
        elif colon and name == "round":
            if not value.isdecimal():
                raise ValueError(f"'{part}' names no round: write round:2")
            round = int(value)
        elif colon and name == "kind":
            kind = _SHORT.get(value, value)
            if kind not in KINDS:
                raise ValueError(
                    f"there is no kind '{value}': use said, rated, failed, asked, or {', '.join(KINDS)}"
                )
        elif part in seats and seat is None:
            seat = part
        else:
            words.append(part)
    return Filter(seat, round, kind, " ".join(words))

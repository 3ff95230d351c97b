"""Making a prompt fit: deterministic, and the record says that it was done. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from sandbox.errors import ContextOverflow
from sandbox.exchange import ChatMessage

MARK = "\n[… shortened …]\n"
_LEAST = 64  # characters of a message that are never cut away


def trim(
    messages: Sequence[ChatMessage], limit: int, count: Callable[[Sequence[ChatMessage]], int]
) -> tuple[tuple[ChatMessage, ...], int]:
    """``messages`` cut to at most ``limit`` tokens by ``count``, and how many tokens went.

    Earlier exchanges go first, oldest first; then the longest message loses its middle (the beginning
    holds the question, the end what is asked). Raises ``ContextOverflow`` if that is not enough.
    """
    before = count(messages)
    exchanges = _exchanges(messages) if before > limit else []
    few = bisect_left(  # by halves: a talk of thousands is not counted thousands of times
        range(len(exchanges)), True, key=lambda few: count(_without(messages, exchanges[:few])) <= limit
    )
    kept = _without(messages, exchanges[:few])
    now = count(kept)
    while now > limit:
        longest = max(range(len(kept)), key=lambda i: len(kept[i].content))
        content = kept[longest].content
        target = int(len(content) * limit / now * 0.95) - len(MARK)
        if target < _LEAST:
            raise ContextOverflow(
                f"The prompt takes {before} tokens and can't be cut to the {limit} that the model takes. "
                "Shorten the question or the persona, or choose a model with a larger window."
            )
        head = target * 2 // 3
        kept[longest] = kept[longest]._replace(content=content[:head] + MARK + content[head - target :])
        now = count(kept)
    return tuple(kept), before - now


def _exchanges(messages: Sequence[ChatMessage]) -> list[list[int]]:
    """The places of each (user, assistant) pair before the last message, in the order in which they go.

    What stood around a pair that is gone may be the next. Calls of tools go with their results and what was
    said of them: half of that is refused by providers.
    """
    found: list[list[int]] = []
    before: list[int] = []
    place = 0
    while place < len(messages) - 1:
        end = place + 1
        if messages[place].role == "assistant" and before and messages[before[-1]].role == "user":
            while end < len(messages) and messages[end - 1].wire and messages[end].role != "system":
                end += 1
            if end == len(messages):
                break
            found.append([before.pop(), *range(place, end)])
        else:
            before.append(place)
        place = end
    return found


def _without(messages: Sequence[ChatMessage], exchanges: Sequence[Sequence[int]]) -> list[ChatMessage]:
    gone = {place for exchange in exchanges for place in exchange}
    return [message for place, message in enumerate(messages) if place not in gone]

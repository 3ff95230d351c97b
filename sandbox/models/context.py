"""Making a prompt fit: deterministic, and the record says that it was done. Pure."""

from __future__ import annotations

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
    kept = list(messages)
    before = now = count(kept)
    while now > limit and (old := _oldest_exchange(kept)) is not None:
        del kept[old[0] : old[1]]
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


def _oldest_exchange(messages: Sequence[ChatMessage]) -> tuple[int, int] | None:
    """Where the first (user, assistant) pair lies, if there is one before the last message.

    Calls of tools go with their results and what was said of them: half of that is refused by providers.
    """
    for index in range(len(messages) - 2):
        if messages[index].role == "user" and messages[index + 1].role == "assistant":
            end = index + 2
            while end < len(messages) and messages[end - 1].wire and messages[end].role != "system":
                end += 1
            return (index, end) if end < len(messages) else None
    return None

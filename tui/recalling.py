"""An interaction that is not kept here any more, put together again from the server's log."""

from __future__ import annotations

from sandbox import events as ev
from sandbox.records import InteractionRecord, assemble
from tui.api import Api

_PAGE = 1000


async def interaction_at(api: Api, session: str, number: int, seq: int) -> InteractionRecord | None:
    """The interaction that the event ``seq`` belongs to, whole; None if the log does not tell its beginning.

    Pages are read back from there to its beginning, then on to its end. Raises ``Refused``, ``Unreachable``.
    """
    known: dict[int, ev.Event] = {}

    async def read(after: int) -> int:
        """Read a page, and return the last seq of it."""
        page = await api.events(session, after, _PAGE)
        for recorded in page:
            if getattr(recorded.event, "interaction", None) == number:
                known[recorded.seq] = recorded.event
        return page[-1].seq if page else after

    def has(kind: type[ev.Event]) -> bool:
        return any(isinstance(event, kind) for event in known.values())

    after = max(seq - _PAGE, 0)
    end = await read(after)
    while after > 0 and not has(ev.InteractionStarted):
        after = max(after - _PAGE, 0)
        await read(after)
    if not has(ev.InteractionStarted):
        return None
    while not has(ev.InteractionFinished):
        last = await read(end)
        if last == end:
            break
        end = last
    return assemble(known[seq] for seq in sorted(known))[0]

"""Fan-out: every event is encoded once and sent to all who watch its session in this process.

A channel holds the newest frames of one session; a connection is a place in it, so that a thousand of them
cost no copies. Who falls behind the frames that are held reads the log. Who is far behind and takes nothing
for a while is closed, and resumes by seq. It knows no sockets: a connection is told when there is more, and
takes it at its own pace.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from sandbox.events import RatingGiven, Recorded, TurnAwaited
from server.wire.frames import encode_event

log = structlog.get_logger("sandbox.hub")
HELD = 4000
"""Frames that a channel holds at least."""
_SLICE = 100
"""Connections that are told in one turn of the event loop, so that others get theirs."""


class Entry(NamedTuple):
    """A frame to be sent; ``recorded`` is None for what is not in the log."""

    text: str
    recorded: Recorded | None


class Listener:
    """One connection's place in a channel. ``tell`` is called when there is more; ``ended`` ends it.

    ``took`` is when it last took something, on the monotonic clock.
    """

    __slots__ = ("closing", "ended", "key", "order", "person", "tell", "took")

    def __init__(
        self, order: int, person: str | None, key: tuple[int, float] | None, tell: Callable[[], None]
    ) -> None:
        self.tell = tell
        self.order = order
        self.person = person
        self.key = key
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.took = time.monotonic()
        self.closing: str | None = None

    def close(self, why: str) -> None:
        """Have the connection end."""
        if not self.closing:
            self.closing = why
            self.ended.set_result(None)


class Channel:
    """What is sent of one session in an epoch. ``head`` is the seq of its newest event."""

    def __init__(
        self, key: str, head: int, epoch: str, max_lag: int, slow_s: float, on_drop: Callable[[], None]
    ) -> None:
        self.key = key
        self.head = head
        self.epoch = epoch
        self.listeners: set[Listener] = set()
        self.announcing: asyncio.TimerHandle | None = None
        self._untold: list[Listener] = []
        self._told = 0
        self._telling = False
        self._entries: list[Entry] = []
        self._base = 0
        self._max_lag = max_lag
        self._slow_s = slow_s
        self._on_drop = on_drop

    @property
    def end(self) -> int:
        """The place after the newest frame."""
        return self._base + len(self._entries)

    def publish(self, recorded: Recorded) -> None:
        """One more event; those already sent are passed over.

        Where some are missing before it, connections see that by its seq, and read them from the log.
        """
        if recorded.seq <= self.head:
            return
        self.head = recorded.seq
        self._append(Entry(encode_event(recorded), recorded))

    def tell(self, text: str) -> None:
        """A frame that is not in the log."""
        self._append(Entry(text, None))

    def join(self, person: str | None, key: tuple[int, float] | None, tell: Callable[[], None]) -> Listener:
        """A new place, after all that was sent so far, for a person and a key (each may be None)."""
        listener = Listener(self.end, person, key, tell)
        self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Give up a place."""
        self.listeners.discard(listener)

    def take(self, listener: Listener, most: int = 64) -> list[Entry] | None:
        """The next frames of a listener, none if it has all.

        None if it has fallen behind what is held: it stands at the end now, and reads the rest from the log.
        """
        start = listener.order - self._base
        listener.took = time.monotonic()
        if start < 0:
            listener.order = self.end
            return None
        entries = self._entries[start : start + most]
        listener.order += len(entries)
        return entries

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) >= 2 * HELD:
            del self._entries[:HELD]
            self._base += HELD
        if not self._telling and self.listeners:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_some)

    def _tell_some(self) -> None:
        """Tell some of the listeners that there is more, and come back for the others."""
        if not self._untold:
            self._untold = list(self.listeners)
            self._told = self.end
        late = time.monotonic() - self._slow_s
        for listener in self._untold[-_SLICE:]:
            if listener.order < self._told - self._max_lag and listener.took < late and not listener.closing:
                listener.close("slow")
                self._on_drop()
            elif listener.order < self.end:
                try:
                    listener.tell()
                except Exception:  # one connection's fault must not hold up the others
                    log.exception("telling_failed", session=self.key)
                    listener.close("failed")
        del self._untold[-_SLICE:]
        self._telling = bool(self._untold) or self.end > self._told
        if self._telling:
            asyncio.get_running_loop().call_soon(self._tell_some)


class Hub:
    """The channels of this process, by session."""

    def __init__(self, max_lag: int, slow_s: float) -> None:
        self._max_lag = max_lag
        self._slow_s = slow_s
        self._channels: dict[str, Channel] = {}
        self.dropped: Counter[str] = Counter()

    def channels(self) -> Iterable[Channel]:
        """Those there are."""
        return tuple(self._channels.values())

    def channel(self, key: str) -> Channel | None:
        """The channel of a session, if it has one."""
        return self._channels.get(key)

    def open(self, key: str, head: int, epoch: str) -> Channel:
        """The channel of a session, made at ``head`` if there is none; one of another epoch is ended."""
        self.turn(key, epoch)
        if key not in self._channels:
            self._channels[key] = Channel(key, head, epoch, self._max_lag, self._slow_s, self._drop)
        return self._channels[key]

    def turn(self, key: str, epoch: str) -> None:
        """End the channel of a session that is in another epoch by now: who listens comes back for it."""
        if (channel := self._channels.get(key)) and channel.epoch != epoch:
            self.close(key, "changed")

    def close(self, key: str, why: str) -> None:
        """End a channel with all who listen."""
        if channel := self._channels.pop(key, None):
            for listener in channel.listeners:
                listener.close(why)

    def tidy(self, keep: Iterable[str]) -> None:
        """Give up the channels that nobody listens to, but for ``keep``."""
        kept = set(keep)
        for key, channel in list(self._channels.items()):
            if not channel.listeners and key not in kept:
                del self._channels[key]

    def _drop(self) -> None:
        self.dropped["slow"] += 1


def tells_ratings(entry: Entry) -> bool:
    """Whether an entry may have to be masked for a blind rater."""
    return entry.recorded is not None and isinstance(entry.recorded.event, RatingGiven | TurnAwaited)

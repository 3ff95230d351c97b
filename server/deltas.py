"""Text as it is generated, gathered for a moment: one frame for many tokens. Nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from sandbox.store.log import Handle
from server.wire.frames import Delta, DeltaFrame


class Deltas:
    """The pieces of one session; ``tell`` is given a frame every ``interval_s`` seconds at most."""

    def __init__(self, handle: Handle, interval_s: float, tell: Callable[[str], None]) -> None:
        self._handle = handle
        self._interval_s = interval_s
        self._tell = tell
        self._pieces: dict[tuple[int, str], list[str]] = {}
        self._flusher: asyncio.TimerHandle | None = None

    def add(self, interaction: int, step: str, piece: str) -> None:
        """One more piece of a message."""
        self._pieces.setdefault((interaction, step), []).append(piece)
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(self._interval_s, self._flush)

    def settle(self, interaction: int, step: str) -> None:
        """The message is there: what was gathered of it goes out before it, not after."""
        if texts := self._pieces.pop((interaction, step), None):
            self._send(interaction, step, texts)

    def _flush(self) -> None:
        self._flusher = None
        pieces, self._pieces = self._pieces, {}
        for (interaction, step), texts in pieces.items():
            self._send(interaction, step, texts)

    def _send(self, interaction: int, step: str, texts: list[str]) -> None:
        frame = DeltaFrame(
            epoch=self._handle.epoch,
            id=f"{self._handle.epoch}:{interaction}.{step}",
            ts=datetime.now(UTC),
            session=self._handle.key,
            data=Delta(interaction=interaction, step=step, text="".join(texts)),
        )
        self._tell(frame.model_dump_json())

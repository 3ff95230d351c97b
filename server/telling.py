"""Frames to one connection: what every one of them says of where it comes from, and how faults are told."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fastapi import WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from sandbox.redaction import Redactor
from sandbox.store.tables import SessionRow
from server.wire import frames as fr


class Teller:
    """Sends frames of one session to one socket."""

    def __init__(self, socket: WebSocket, row: SessionRow, redact: Redactor) -> None:
        self._socket = socket
        self._row = row
        self._redact = redact

    @property
    def key(self) -> str:
        """The session's."""
        return self._row.key

    async def send(self, frame: BaseModel) -> None:
        """Send a frame."""
        await self._socket.send_text(frame.model_dump_json())

    async def problem(self, ref: str | None, code: str, message: str) -> None:
        """Say what went wrong; to who has left, nothing."""
        with suppress(RuntimeError, WebSocketDisconnect):
            told = self._redact(message)[:2000]
            problem = fr.Problem(ref=ref, code=code, message=told)
            await self.send(fr.ErrorFrame(**self.head(), data=problem))

    def head(self, seq: int | None = None) -> dict[str, Any]:
        """What a frame begins with; ``seq`` if it is as of an event."""
        epoch = self._row.epoch
        return {
            "epoch": epoch,
            "seq": seq,
            "id": f"{epoch}:{seq}" if seq is not None else secrets.token_hex(8),
            "ts": datetime.now(UTC),
            "session": self._row.key,
        }

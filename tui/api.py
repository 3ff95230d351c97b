"""The server's REST calls that the terminal app makes. No Textual in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
from pydantic import BaseModel, TypeAdapter, ValidationError

from sandbox.errors import SandboxError, UserError
from sandbox.events import EVENT, Recorded
from sandbox.monitored import Monitors
from server.wire import commands as do
from server.wire.snapshot import Snapshot
from server.wire.views import CreateSession, Done, Estimate, Fork, Me, Page, SessionView

T = TypeVar("T")
_SESSIONS: TypeAdapter[list[SessionView]] = TypeAdapter(list[SessionView])
_PAGE: TypeAdapter[Page] = TypeAdapter(Page)
_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)
_MOST = 1000


class Unreachable(SandboxError):
    """The server can't be reached, or does not answer."""

    exit_code = 3


class Refused(UserError):
    """The server will not do what was asked; ``code`` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """One server, as one person or none. Raises ``Unreachable`` and ``Refused``."""

    def __init__(self, base: str, key: str | None = None, person: str | None = None) -> None:
        self.base = base.rstrip("/")
        self.headers: dict[str, str] = {}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        if person:
            self.headers["X-Sandbox-Person"] = person
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    async def me(self) -> Me:
        """Who we are to the server."""
        return await self._ask(TypeAdapter(Me), "GET", "me")

    async def sessions(self) -> list[SessionView]:
        """All sessions, the newest first."""
        return await self._ask(_SESSIONS, "GET", "sessions", params={"limit": _MOST})

    async def session(self, key: str) -> SessionView:
        """One session."""
        return await self._ask(TypeAdapter(SessionView), "GET", f"sessions/{key}")

    async def find(self, reference: str) -> str:
        """The key of the session meant: its key, a beginning of it, or ``last``. Raises ``Refused``."""
        keys = [row.session for row in await self.sessions()]
        if reference == "last" and keys:
            return keys[0]
        found = [key for key in keys if key == reference] or [
            key for key in keys if key.startswith(reference)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused("ambiguous", f"'{reference}' begins the names of several: {', '.join(found[:5])}.")
        known = f" There are: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}." if keys else ""
        raise Refused("not_found", f"The server has no session '{reference}'.{known}")

    async def snapshot(self, key: str) -> Snapshot:
        """A session at a glance."""
        return await self._ask(TypeAdapter(Snapshot), "GET", f"sessions/{key}/snapshot")

    async def examples(self) -> dict[str, str]:
        """The bundled societies by name, as the text of their files."""
        return await self._ask(TypeAdapter(dict[str, str]), "GET", "examples")

    async def create(self, wanted: CreateSession) -> SessionView:
        """A new session."""
        return await self._ask(TypeAdapter(SessionView), "POST", "sessions", wanted)

    async def estimate(self, wanted: CreateSession) -> Estimate:
        """What a new session's rounds may take."""
        return await self._ask(TypeAdapter(Estimate), "POST", "estimate", wanted)

    async def fork(self, key: str, at: int | None = None) -> SessionView:
        """A new session with the same past."""
        return await self._ask(TypeAdapter(SessionView), "POST", f"sessions/{key}/fork", Fork(at=at))

    async def delete(self, key: str) -> None:
        """Delete a session with all that hangs on it."""
        await self._call("DELETE", f"sessions/{key}")

    async def perform(self, key: str, command: do.Command, cid: str | None = None) -> Done:
        """Have a command carried out; under the same ``cid`` once, however often it is sent."""
        headers = {"Idempotency-Key": cid or uuid4().hex}
        path = f"sessions/{key}/commands"
        return await self._ask(TypeAdapter(Done), "POST", path, command, headers=headers)

    async def events(self, key: str, after: int = 0, limit: int = _MOST) -> list[Recorded]:
        """Events after one, in order; at most ``limit`` of them."""
        params = {"after": after, "limit": min(limit, _MOST)}
        page = await self._ask(_PAGE, "GET", f"sessions/{key}/events", params=params)
        return [known for row in page.items if (known := _recorded(row)) is not None]

    async def ratings(self, key: str) -> AsyncIterator[dict[str, Any]]:
        """The ratings that count."""
        after: int | None = 0
        while after is not None:
            params = {"after": after, "limit": _MOST, "current": "true"}
            page = await self._ask(_PAGE, "GET", f"sessions/{key}/ratings", params=params)
            for row in page.items:
                yield row
            after = page.next

    async def monitors(self, key: str) -> Monitors:
        """What goes wrong in a session, as far as we may see it."""
        return await self._ask(TypeAdapter(Monitors), "GET", f"sessions/{key}/monitors")

    async def _ask(
        self,
        kind: TypeAdapter[T],
        method: str,
        path: str,
        body: BaseModel | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        text = await self._call(method, path, body, params, headers)
        try:
            return kind.validate_json(text)
        except ValidationError as error:
            raise Unreachable(f"What answers at {self.base} is no social-sandbox server.") from error

    async def _call(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self.headers, timeout=_TIMEOUT)
        data = None if body is None else body.model_dump_json(exclude_none=True)
        given = {**(headers or {}), **({"Content-Type": "application/json"} if data else {})}
        try:
            async with self._session.request(
                method, f"{self.base}/api/v1/{path}", params=params, data=data, headers=given
            ) as response:
                text = await response.read()
                if response.status >= 400:
                    raise _refusal(response.status, text)
                return text
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(
                f"The server at {self.base} can't be reached: {str(error) or type(error).__name__}. "
                "Start one with: sandbox serve"
            ) from error


def _recorded(row: dict[str, Any]) -> Recorded | None:
    """An event as the log holds it; None for a kind that this version does not know."""
    time = datetime.fromisoformat(row["time"])
    try:
        event = EVENT.validate_python(row["event"], strict=False)
    except ValidationError:
        return None
    return Recorded(row["session"], row["epoch"], row["seq"], time, event)


def _refusal(status: int, text: bytes) -> Refused:
    if status == 401:
        return Refused(
            "unauthorized",
            "The server needs a key, or the one given is not good (any more). Put it into SANDBOX_KEY; who "
            "runs the server makes one with: sandbox keys create NAME --scope join --scope run",
        )
    try:
        error = json.loads(text)["error"]
        return Refused(str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return Refused("http", f"The server answered {status}. Is it a social-sandbox server?")
